"""The verdict of a whole run on the command line, and the delivery of another method's set."""

from __future__ import annotations

import json
import stat

import pytest

import medidistill
from medidistill.cli import main
from medidistill.results.verdict import Verdict


def read(path):
    return json.loads(path.read_text())


def test_status_and_the_file_of_a_run_hold_the_verdict(tiny, capsys):
    stored = read(tiny.finished / "verdict.json")
    verdict = Verdict.from_dict(stored)
    assert (verdict.method, verdict.test_patients, verdict.colour) == ("iadd", 6, "amber")
    assert verdict.chosen_by == "Delivered is the set of IADD: named in the configuration (deliver: iadd)."
    assert stat.S_IMODE((tiny.finished / "verdict.json").stat().st_mode) == 0o600
    capsys.readouterr()
    assert main(["status", str(tiny.finished)]) == 0
    shown = capsys.readouterr().out
    assert f"verdict    amber. {stored['sentence']}\n" in shown
    assert f"Missing for a yes: {'; '.join(stored['missing'])}." in shown
    assert main(["status", str(tiny.finished), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == stored


def test_a_run_ends_with_its_verdict_and_a_damaged_one_does_not_stop_a_status(finished, capsys):
    (finished / "verdict.json").write_text("{}")
    assert main(["status", str(finished)]) == 0
    assert "verdict" not in capsys.readouterr().out
    assert main(["run", "--output", str(finished), "--resume", "--quiet"]) == 0
    stored = read(finished / "verdict.json")
    assert f"verdict:\namber. {stored['sentence']}\n" in capsys.readouterr().out


def test_another_method_is_delivered_without_training_or_scoring_again(finished, capsys):
    before, page = read(finished / "record.json"), (finished / "report.html").read_text()
    cells = {path: path.stat().st_mtime_ns for path in (finished / "evaluate" / "cells").iterdir()}
    assert main(["run", "--output", str(finished), "--resume", "--set", "deliver=mtt", "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "evaluate" / "cells").iterdir()} == cells
    after, stored = read(finished / "record.json"), read(finished / "verdict.json")
    assert after["test_openings"] == before["test_openings"]
    assert medidistill.load(finished / "bundle").facts["method"] == stored["method"] == "mtt"
    assert medidistill.load(finished / "bundle").facts["verdict"] == stored
    assert "the method was named after the test patients had been scored" in stored["missing"]
    assert "after the test patients had been scored (deliver: mtt)" in stored["chosen_by"]
    assert stored["sentence"] in (finished / "bundle" / "README.md").read_text()
    assert stored["chosen_by"] in (finished / "report.html").read_text()
    assert stored["chosen_by"] not in page
    # scored again, it is still a choice made after the first look
    again = ["--resume", "--from", "evaluate", "--until", "export", "--quiet"]
    assert main(["run", "--output", str(finished), *again]) == 0
    assert "after the test patients had been scored (deliver: mtt)" in read(finished / "verdict.json")["chosen_by"]
    # and back: what was named beforehand is no choice afterwards
    assert (
        main(["run", "--output", str(finished), "--resume", "--set", "deliver=iadd", "--until", "export", "--quiet"])
        == 0
    )
    assert "after" not in read(finished / "verdict.json")["chosen_by"]


@pytest.mark.parametrize("value", ["dm", "nonsense"])
def test_a_method_that_was_not_compared_cannot_be_delivered(finished, value, capsys):
    before = (finished / "run.yaml").read_text()
    assert main(["run", "--output", str(finished), "--resume", "--set", f"deliver={value}", "--quiet"]) == 2
    assert (finished / "run.yaml").read_text() == before
    assert medidistill.load(finished / "bundle").facts["method"] == "iadd"


def test_margins_are_settings_and_changing_them_is_a_second_look(finished, tmp_path, capsys):
    changed = ["--set", "evaluate.clinical.margin_sensitivity=0.2"]
    assert main(["run", "--output", str(finished), "--resume", *changed, "--quiet"]) == 2
    assert "evaluate.clinical.margin_sensitivity" in capsys.readouterr().err
    assert main(["config", "check", str(finished / "run.yaml")]) == 0
    for value in ("0", "0.6", "x"):
        setting = f"evaluate.clinical.margin_balanced_accuracy={value}"
        assert main(["run", "--output", str(tmp_path / "new"), "--input", ".", "--set", setting, "--quiet"]) == 2
