"""A disk that is full, a folder that is read-only, memory that is not there, a file that changes."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from .workplace import RESULTS, START, note, stage_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
STAGES = ("ingest", "experts", "distill", "evaluate", "export", "report")
ROOM = 65536  # KiB


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", folder], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def used(disk):
    """KiB in use on a file system."""
    state = os.statvfs(disk)
    return (state.f_blocks - state.f_bfree) * state.f_frsize // 1024


def resize(disk, size):
    subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_full_disk_at_every_stage(workplace, tmp_path, stage, share):
    """Room for a share of what this stage writes, and for no more."""
    disk, out, log = tmp_path / "disk", tmp_path / "disk" / "out", tmp_path / "log"
    before = STAGES[: STAGES.index(stage)][-1:]
    with small_disk(disk, ROOM):
        if before:
            assert workplace.finish(out, None, log, "--until", before[0]) == 0, log.read_text()
        held = used(disk)
        shutil.copytree(disk, tmp_path / "copy", symlinks=True)
        assert workplace.finish(out, None, log, "--until", stage) == 0, log.read_text()
        need = used(disk) - held
    shutil.rmtree(disk)
    log.unlink()
    with small_disk(disk, ROOM):
        shutil.copytree(tmp_path / "copy", disk, symlinks=True, dirs_exist_ok=True)
        resize(disk, max(used(disk) + int(share * need), 4))
        assert workplace.finish(out, None, log, "--until", "report") == 5, log.read_text()
        assert "full" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert not list(out.rglob("*.part"))
        reached = stage_of(out)
        resize(disk, ROOM)
        assert workplace.finish(out, None, log, "--until", "report") == 0, log.read_text()
        workplace.check(out)
    reached = reached.partition("/")[0]
    assert reached in ((stage, START) if share == 0 else (stage,))
    note("disk full", {reached: 1, "in all": 1})


def test_files_that_may_not_grow(workplace, tmp_path):
    """RLIMIT_FSIZE: a quota on each file, with no file system of its own."""
    for limit in (2_000, 6_000, 20_000, 60_000):
        out, log = tmp_path / f"out-{limit}", tmp_path / f"log-{limit}"

        def quota(limit=limit):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        assert workplace.finish(out, quota, log) == 5, log.read_text()
        assert workplace.finish(out, log=log) == 0, log.read_text()
        workplace.check(out)
    note("file size quota", {"in all": 4})


@contextlib.contextmanager
def memory_group(limit):
    """Yield the file that a process writes its number into, to be killed by the kernel above `limit` bytes."""
    first, second = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, name = (first, "memory.limit_in_bytes") if first.is_dir() else (second, "memory.max")
    group = root / f"medidistill-{os.getpid()}-{limit}"
    try:
        group.mkdir()
        (group / name).write_text(str(limit))
    except OSError:
        pytest.skip("this machine does not let us limit the memory of a group of processes")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def test_killed_by_the_kernel_for_lack_of_memory(workplace, tmp_path):
    stages, codes = {}, {}
    for room in (1, 3, 5, 8, 12, 18, 26, 36):
        out, log = tmp_path / f"out-{room}", tmp_path / f"log-{room}"
        with memory_group(room * 2**20) as group:
            code = workplace.finish(out, lambda: group.write_text(str(os.getpid())), log)
        codes[code] = codes.get(code, 0) + 1
        assert code in (0, -9), log.read_text()
        if code:
            stages[stage_of(out)] = stages.get(stage_of(out), 0) + 1
            workplace.check_what_is_there(out)
        assert workplace.finish(out, log=log) == 0, log.read_text()
        workplace.check(out)
    assert codes.get(-9)
    note("killed for lack of memory", {**stages, "in all": codes[-9]})


def test_read_only_output(workplace, tmp_path):
    with small_disk(tmp_path / "disk", 4096):
        out, log = tmp_path / "disk" / "out", tmp_path / "log"
        out.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk"], check=True)
        assert workplace.finish(out, log=log) == 5
        assert "read-only" in log.read_text()
    note("read-only output", {"in all": 1})


def test_files_that_vanish_or_change_while_they_are_read(workplace, tmp_path):
    """What went into the images is what the manifest says, or the file is in quarantine."""
    source = tmp_path / "pictures"
    shutil.copytree(workplace.pictures, source)
    gone, changed, cut, swapped, after = (source / f"sick-{number}-0.png" for number in range(5))
    other = (source / "well-0-0.png").read_bytes()

    def meddle():
        from medidistill.ingest.loading import Loader

        read = Loader.__call__

        def between(self, place, digest):
            # after the checksum of the file was taken
            path = Path(place)
            if path == gone:
                gone.unlink()
            elif path == changed:
                changed.write_bytes(b"no picture any more")
            elif path == cut:
                cut.write_bytes(cut.read_bytes()[:50])
            elif path == swapped:
                swapped.write_bytes(other)
            item = read(self, place, digest)
            if path == after:
                after.write_bytes(other)
            return item

        Loader.__call__ = between

    out, log = tmp_path / "out", tmp_path / "log"
    place = type(workplace)(workplace.root, tmp_path / "tolerant.yaml", source)
    place.config.write_text(
        workplace.config.read_text().replace("image_size: 16", "image_size: 16, max_quarantine: 0.5")
    )
    assert place.finish(out, meddle, log) == 0, log.read_text()
    listed = (out / "ingest" / "quarantine.csv").read_text()
    for path in (gone, changed, cut, swapped, after):
        assert path.name in listed
    note("file vanished, changed, cut or swapped during ingest", {"in all": 5})


def test_clock_that_jumps(workplace, tmp_path):
    """Back and forth by years: no result and no order depends on the clock."""

    def jump():
        import datetime
        import time

        real, steps = time.time, [0]

        def jumping():
            steps[0] += 1
            return real() + (-1) ** steps[0] * 1e8

        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.fromtimestamp(jumping(), tz)

        time.time = jumping
        datetime.datetime = Clock

    out, log = tmp_path / "out", tmp_path / "log"
    assert workplace.finish(out, jump, log) == 0, log.read_text()
    workplace.check(out, RESULTS)
    note("jumping clock", {"in all": 1})
