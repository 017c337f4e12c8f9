"""Many files: in parallel as in one process, through crashes, and without memory that grows."""

from __future__ import annotations

import gc
import os
import resource
import sys
import time

import numpy as np
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.ingest import ingest, loading
from medidistill.ingest.sources import Record


def pictures(folder, count):
    rng = np.random.default_rng(0)
    records = []
    for n in range(count):
        path = folder / f"{n:05d}.png"
        Image.fromarray(rng.integers(0, 255, (24, 24), dtype=np.uint8)).save(path)
        records.append(Record(path.name, path, "cat" if n % 2 else "dog", f"p-{n}"))
    return records


@pytest.mark.parametrize(("ahead", "few"), [(False, 1999), (True, 499)])
def test_small_sources_are_read_in_one_process(monkeypatch, ahead, few):
    monkeypatch.setattr(loading, "is_ahead", lambda: ahead)
    monkeypatch.setattr(loading, "available_cores", lambda: 2)
    assert loading.worker_count(0) == loading.worker_count(few) == 1
    assert loading.worker_count(few + 1) == 2
    monkeypatch.setattr(loading, "available_cores", lambda: 64)
    assert loading.worker_count(10**6) == 16


def test_an_unreadable_file_is_a_reason_in_its_place(tmp_path):
    records = pictures(tmp_path, 3)
    records[1].path.write_bytes(b"no picture")
    records[2].path.unlink()
    first, second, third = loading.load_images(records, 16, "memory", None, 1)
    assert isinstance(first, loading.LoadedImage)
    assert second == "neither DICOM nor PNG nor JPEG"
    assert third == "unreadable (No such file or directory)"


def test_a_file_that_changes_while_it_is_read_is_set_aside(tmp_path, monkeypatch):
    """Also where size and time of the last change are put back; the content is read twice only where it may differ."""
    (record,) = pictures(tmp_path, 1)
    reader = loading._Reader(16, "memory", None)
    load, digested = reader.loader, []
    digest = loading.sha256_file
    monkeypatch.setattr(loading, "sha256_file", lambda path: digested.append(path) or digest(path))
    assert isinstance(reader.read((str(record.path), None)), loading.LoadedImage)
    assert len(digested) == 2  # written a moment ago

    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 60 * 10**9)
    digested.clear()
    assert isinstance(reader.read((str(record.path), None)), loading.LoadedImage)
    assert len(digested) == 1

    def changed_meanwhile(*arguments):
        found, times = load(*arguments), record.path.stat()
        content = record.path.read_bytes()
        record.path.write_bytes(content[:-20] + bytes(20))
        os.utime(record.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return found

    reader.loader = changed_meanwhile
    assert reader.read((str(record.path), None)) == "changed while it was read"


_CRASHER = """
import os
from medidistill.ingest import loading

start = loading._start

def crashing(*settings):
    start(*settings)
    reader = loading._worker[0]
    read = reader.read
    reader.read = lambda task: os.abort() if "00020" in task[0] else read(task)
"""


@pytest.mark.slow
def test_a_crashing_decoder_costs_one_file_and_nothing_else_differs(tmp_path, monkeypatch):
    records = pictures(tmp_path, 40)
    serial = list(loading.load_images(records, 16, "memory", None, 1))
    (tmp_path / "medidistill_crasher.py").write_text(_CRASHER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import medidistill_crasher

    monkeypatch.setattr(loading, "_start", medidistill_crasher.crashing)
    parallel = list(loading.load_images(records, 16, "memory", None, 2))
    assert parallel[20] == "unreadable (the decoder crashed, or ran out of memory)"
    for n, (one, other) in enumerate(zip(serial, parallel, strict=True)):
        if n != 20:
            assert np.array_equal(one.image, other.image)
            assert (one.sha256, one.pixels, one.difference_hash) == (other.sha256, other.pixels, other.difference_hash)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read in kilobytes")
def test_ten_thousand_files_with_one_in_twenty_broken(tmp_path, save):
    """500 broken files are set aside, each with a reason, and 9,000 more files cost little more than their pictures."""
    rng = np.random.default_rng(0)

    def cohort(folder, count):
        for n in range(count):
            label = "cat" if n % 2 else "dog"
            path = save(folder / label / f"{n}", rng.integers(0, 4095, (128, 128)), number=n + 1)
            if n % 20 == 7:
                path.write_bytes(path.read_bytes()[: int(rng.integers(0, 20_000))])
        return folder

    small, large = cohort(tmp_path / "small", 1000), cohort(tmp_path / "large", 10_000)
    config = IngestConfig(image_size=16, max_quarantine=0.06)
    ingest(small, config)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = ingest(large, config)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"\npeak memory: {before} kB after 1,000 files, {grown} kB more after 10,000")  # shown by -s
    assert len(result.manifest) + len(result.quarantine) == 10_000
    assert len(result.quarantine) == 500
    assert all(entry.reason for entry in result.quarantine)
    # 10,000 pictures of 16 x 16 float32, twice, are 20 MB, their records as much; the files hold 330 MB
    assert grown < 120_000, f"{grown} kB more"
