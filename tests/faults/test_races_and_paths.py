"""Two runs for one output, many files, and names of every kind."""

from __future__ import annotations

import shutil
import time

import pytest

from medidistill.cli import main

from .workplace import RESULTS, note, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]


def test_two_runs_race_for_one_output(workplace, tmp_path):
    rounds = 8
    for number in range(rounds):
        out = tmp_path / f"out-{number}"
        first = workplace.start(out)
        time.sleep(0.01 * number)
        second = workplace.start(out)
        codes = sorted((wait(first), wait(second)))
        # the one that came late was refused, by the folder or by its lock, or it continued what was finished by then
        assert codes[0] == 0
        assert codes[1] in (0, 2, 5), codes
        workplace.check(out)
        shutil.rmtree(out)
    note("two runs race for one output", {"in all": rounds})


@pytest.mark.parametrize("name", ["Röntgen-Bilder", "胸部X線", "a b  c", "-dash", "semi;colon'quote\"", "e\u0301" * 20])
def test_names_of_every_kind(workplace, tmp_path, name):
    source, out = tmp_path / name / "in", tmp_path / name / "out"
    shutil.copytree(workplace.pictures, source)
    place = type(workplace)(workplace.root, workplace.config, source, workplace.expected)
    assert place.finish(out, None, None, "--until", "report") == 0
    assert (out / "report.html").is_file()
    place.check(out, RESULTS)
    note("unusual names of folders", {"in all": 1})


def test_a_very_long_path(workplace, tmp_path):
    out = tmp_path
    while len(str(out)) < 3500:
        out = out / ("x" * 200)
    assert workplace.finish(out) == 0
    workplace.check(out)
    log = tmp_path / "log"
    assert workplace.finish(tmp_path / ("y" * 300), log=log) == 5
    assert "too long" in log.read_text()
    note("very long paths", {"in all": 2})


def test_a_hundred_thousand_small_files(workplace, tmp_path):
    source, names = tmp_path / "many", sorted(path.name for path in workplace.pictures.glob("*.png"))
    shutil.copytree(workplace.pictures, source)
    for number in range(100_000):
        (source / f"note-{number:06d}.txt").write_bytes(b"x")
    assert len(names) == 32
    place = type(workplace)(workplace.root, workplace.config, source, workplace.expected)
    out, log = tmp_path / "out", tmp_path / "log"
    assert place.finish(out, log=log) == 0, log.read_text()
    place.check(out, RESULTS)
    assert main(["status", str(out)]) == 0
    note("100,000 small files", {"in all": 1})
