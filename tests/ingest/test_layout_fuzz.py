"""Random folders, archives and tables end in records or in one sentence: no hang, no path outside, no traceback."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, MedidistillError, QuarantineError
from medidistill.ingest import ingest
from medidistill.ingest.contact_sheet import write_contact_sheet
from medidistill.ingest.manifest import write_quarantine
from medidistill.ingest.sources import find_records, workspace
from tests.ingest.layout_generator import PICTURES, Generator

_MINUTES = float(os.environ.get("MEDIDISTILL_FUZZ_MINUTES", "0"))
_SLOWEST = 20.0  # seconds for one source; a hang is ended by the time limit of the test
_opened: list[str] | None = None


def _hook(event, arguments):
    if (
        _opened is not None
        and event in ("open", "os.scandir", "os.listdir")
        and isinstance(arguments[0], str | os.PathLike)
    ):
        _opened.append(os.fspath(arguments[0]))


sys.addaudithook(_hook)


@contextmanager
def opened():
    """Collect what the interpreter opens and lists."""
    global _opened
    _opened = []
    try:
        yield _opened
    finally:
        _opened = None


@pytest.fixture
def radiographs(radiograph):
    found = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 4095, (12, 12))
        patient = ["12", "012", "", "ANONYMOUS", "12.0", "AB 1"][number]
        dataset = radiograph(pixels, number=number + 1, PatientID=patient, StudyInstanceUID=f"2.25.{number // 2 + 1}")
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        found.append(buffer.getvalue())
    return found


def one(seed, base, radiographs, counts):
    """Make the source of a seed, read it, and check what comes of it."""
    place = base / "case"
    shutil.rmtree(place, ignore_errors=True)
    (place / "outside").mkdir(parents=True)
    (place / "outside/secret.png").write_bytes(PICTURES[0])
    (place / "outside/labels.csv").write_text("path,label\nsecret.png,SECRET\n")
    (place / "work").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's on names that are there twice, while the archive is made
        source = Generator(seed, place / "outside", radiographs).source(place / "work")
    settings = {
        "similar_classes": ("refuse", "merge", "keep")[seed % 3],
        "frames": ("refuse", "split")[seed % 2],
        "demographics": ("table", "header")[seed // 2 % 2],
    }
    config = IngestConfig(image_size=16, max_quarantine=1.0, val_fraction=0.0, test_fraction=0.0, **settings)
    began = time.monotonic()
    with opened() as names:
        error = _read(source, config, place, counts, whole=seed >= 1000 and seed % 50 == 0)
    assert time.monotonic() - began < _SLOWEST, f"seed {seed}"
    if error is not None:
        assert isinstance(error, IngestError | QuarantineError), f"seed {seed}: {error}"  # a name is no full disk
        assert "\n" not in str(error), f"seed {seed}"
        assert str(error).encode()  # no half of a character
    touched = [name for name in names if _outside(name, place)]
    assert not touched, f"seed {seed}: opened {touched[:3]}"
    counts[type(error).__name__ if error else "read"] += 1


def _outside(name, place):
    real = os.path.realpath(name)
    return real.startswith(f"{place}/outside") or real in ("/etc/passwd", "/etc", "/", "/dev/zero")


def _read(source, config, place, counts, *, whole):
    try:
        with workspace(place / "private") as room:
            found = find_records(source, config, room)
            counts["records"] += len(found.records)
            counts["set aside"] += len(found.quarantine)
            for record in found.records:
                real = Path(os.path.realpath(record.path))
                assert real.is_relative_to(source) or real.is_relative_to(room)
                assert "SECRET" not in record.label
            write_quarantine(place / "quarantine.csv", [*found.quarantine, *found.warned])
            write_contact_sheet(place / "quarantine.html", found.quarantine, found.warned, {})
            (place / "notes.json").write_text(json.dumps([found.notes, [r.key for r in found.records]]), "utf-8")
        assert not (place / "private/unpacked").exists()
        if whole:
            ingest(source, config).write_tables(place / "tables")
    except MedidistillError as error:
        return error
    return None


def fuzz(tmp_path, radiographs, seeds, counts):
    for seed in seeds:
        one(seed, tmp_path, radiographs, counts)


def test_random_sources(tmp_path, radiographs):
    counts = Counter()
    fuzz(tmp_path, radiographs, range(1, 61), counts)
    assert counts["read"] > 10
    assert counts["IngestError"] > 10


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_random_sources_for_long(tmp_path, radiographs):
    """Two thousand sources; `MEDIDISTILL_FUZZ_MINUTES` goes on with others for so long."""
    counts, seed, end = Counter(), 1000, time.monotonic() + 60 * _MINUTES
    while seed < 3000 or time.monotonic() < end:
        fuzz(tmp_path, radiographs, range(seed, seed + 100), counts)
        seed += 100
    print(f"{seed - 1000} sources: {dict(counts)}")
