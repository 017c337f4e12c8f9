"""Runs that nobody watches: no room to stop in, a clock set back, a folder that takes no bundle, two at once.

Kills at every point of a night and of an intake: `tests/pipelines/test_nightly.py`, `test_intake_killed.py`.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import time

import pytest

from medidistill.chained_log import read_chain
from medidistill.cli import main
from medidistill.errors import ResourceError
from medidistill.export import verify
from medidistill.pipeline import read_status
from medidistill.pipeline.release.bundle_delivery import deliver_bundle

from ..export.bundle_example import make_set, write
from .test_disk_and_memory import ROOM, resize, small_disk, used
from .workplace import RESULTS, note, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
STAGES = ("ingest", "experts", "distill/mtt", "distill/iadd", "evaluate", "export", "report")


@pytest.mark.parametrize("stage", STAGES)
def test_told_to_stop_with_a_full_disk(workplace, tmp_path, stage):
    """It ends within ten seconds, leaves no half file, and goes on to the same bytes once there is room."""
    disk, out, log = tmp_path / "disk", tmp_path / "disk" / "out", tmp_path / "log"
    with small_disk(disk, ROOM):
        child = workplace.start(out, None, log, "--until", "report")
        assert workplace.reach(child, out, stage), log.read_text()
        os.kill(child, signal.SIGSTOP)
        resize(disk, max(used(disk), 4))
        began = time.monotonic()
        os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGCONT)
        code = wait(child)
        seconds = time.monotonic() - began
        assert code in (143, 5), log.read_text()
        assert seconds < 10
        assert "Traceback" not in log.read_text()
        assert not list(out.rglob("*.part"))
        assert read_status(out)["state"] in ("stopped", "failed")
        assert main(["status", str(out)]) == 0
        resize(disk, ROOM)
        assert workplace.finish(out, None, log, "--until", "report") == 0, log.read_text()
        workplace.check(out)
    note(
        "SIGTERM with a full disk",
        {stage: 1, "in all": 1, f"exit code {code}": 1, "slowest, ms": round(1000 * seconds)},
    )


def set_back(hours: float):
    """Return what shifts the clock of a child."""

    def prepare() -> None:
        real, shift = time.time, hours * 3600

        class Clock(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.datetime.fromtimestamp(real() + shift, tz)

        time.time = lambda: real() + shift
        datetime.datetime = Clock

    return prepare


@pytest.mark.parametrize("until", ["ingest", "experts", "evaluate"])
def test_a_clock_that_is_set_back_an_hour_between_two_processes(workplace, tmp_path, until):
    out, log = tmp_path / "out", tmp_path / "log"
    assert workplace.finish(out, None, log, "--until", until) == 0, log.read_text()
    assert workplace.finish(out, set_back(-1), log, "--until", "report") == 0, log.read_text()
    workplace.check(out, RESULTS)
    status = read_status(out)
    assert (status["state"], status["error"]) == ("completed", "")
    assert main(["status", str(out)]) == 0
    note("clock set back an hour", {until: 1, "in all": 1})


def read_only(folder, on=True):
    subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", folder], check=True)


def test_a_folder_that_takes_no_bundle(workplace, tmp_path):
    """The run's own folder is read-only when it is to be exported: one line, and what is there stays."""
    disk, out, log = tmp_path / "disk", tmp_path / "disk" / "runs" / "out", tmp_path / "log"
    with small_disk(disk, ROOM):
        assert workplace.finish(out, None, log) == 0
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        read_only(disk)
        assert workplace.finish(out, None, log, "--from", "export") == 5
        assert "read-only" in log.read_text()
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
        assert verify(out / "bundle") == []
        read_only(disk, on=False)
        assert workplace.finish(out, None, log, "--from", "export") == 0
        workplace.check(out)
    note("read-only bundle target", {"run": 1, "in all": 1})


def two_bundles(folder):
    first = write(folder / "north")
    return [first, write(folder / "south", make_set(images=make_set().images.flip(-1)))]


def test_a_read_only_target_of_a_merge(tmp_path, capsys):
    disk, parts = tmp_path / "disk", two_bundles(tmp_path)
    with small_disk(disk, ROOM):
        read_only(disk)
        assert main(["merge", *map(str, parts), "--output", str(disk / "both"), "--quiet"]) == 5
        assert "read-only" in capsys.readouterr().err
        read_only(disk, on=False)
        assert main(["merge", *map(str, parts), "--output", str(disk / "both"), "--quiet"]) == 0
        assert verify(disk / "both") == []
    note("read-only bundle target", {"merge": 1, "in all": 1})


def test_a_read_only_target_of_a_delivery(tmp_path):
    """Neither the copy nor a line of the log; and once the folder takes files, one copy and one delivery."""
    disk, bundle, log = tmp_path / "disk", write(tmp_path / "bundle"), tmp_path / "release-log.jsonl"
    with small_disk(disk, ROOM):
        read_only(disk)
        with pytest.raises(ResourceError, match="read-only"):
            deliver_bundle(bundle, disk / "north", tmp_path / "privacy-ledger.json", released=True)
        assert not log.exists()
        read_only(disk, on=False)
        for _ in range(2):
            deliver_bundle(bundle, disk / "north", tmp_path / "privacy-ledger.json", released=True)
        assert verify(disk / "north") == []
        assert [path.name for path in disk.iterdir()] == ["north"]
    assert [entry["event"] for entry in read_chain(log).entries] == ["delivering", "delivered"]
    note("read-only bundle target", {"delivery": 1, "in all": 1})


def both(commands):
    """Run commands at the same time, each in a child; return their exit codes."""
    children = []
    for command in commands:
        child = os.fork()
        if not child:
            os._exit(main(command))
        children.append(child)
    return [wait(child) for child in children]


def test_two_merges_at_once(tmp_path):
    """Into one folder: one wins, the other is refused. Into two: the same bytes."""
    parts, rounds = two_bundles(tmp_path), 10
    for number in range(rounds):
        out = tmp_path / f"out-{number}"
        out.mkdir()
        command = ["merge", *map(str, parts), "--quiet", "--output"]
        codes = sorted(both([[*command, str(out / "one")]] * 2))
        assert codes == [0, 2]
        assert verify(out / "one") == []
        assert [path.name for path in out.iterdir()] == ["one"]
        assert both([[*command, str(out / "two")], [*command, str(out / "three")]]) == [0, 0]
        names = [path.relative_to(out / "one") for path in sorted((out / "one").rglob("*")) if path.is_file()]
        for name in names:
            if name.name not in ("recipe.json", "SHA256SUMS", "README.md", "croissant.json") and name.suffix != ".dcm":
                assert (out / "two" / name).read_bytes() == (out / "three" / name).read_bytes(), name
        shutil.rmtree(out)
    note("two merges at once", {"one target": rounds, "two targets": rounds, "in all": 2 * rounds})
