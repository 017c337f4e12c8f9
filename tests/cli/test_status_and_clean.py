"""`medidistill status` and `medidistill clean` on real run folders."""

from __future__ import annotations

import json
import re
import zipfile

import pytest

import medidistill
from medidistill.cli import main
from medidistill.pipeline.runfolder.status import read_status


def test_status_of_a_finished_run(tiny, capsys):
    capsys.readouterr()
    assert main(["status", str(tiny.finished), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["state"] == "completed"
    assert status["finished"] == status["stages"]
    assert "host" not in json.dumps(status)
    assert main(["status", str(tiny.finished)]) == 0
    shown = capsys.readouterr().out
    assert "state      finished\n" in shown
    assert "bundle     not released: for use inside\n" in shown


def test_events_tell_the_run_from_start_to_end(tiny):
    events = [json.loads(line) for line in (tiny.finished / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "run_started"
    assert events[-1]["event"] == "run_completed"
    finished = [event["stage"] for event in events if event["event"] == "stage_finished"]
    assert finished == ["ingest", "experts", "distill/mtt", "distill/iadd", "evaluate", "export", "report"]
    assert all(event["seconds"] >= 0 for event in events if event["event"] == "stage_finished")
    assert {event["stage"] for event in events if event["event"] == "step"} >= {"experts", "distill/iadd", "evaluate"}


def test_a_failed_run_says_so_and_keeps_the_input_to_itself(tiny, tmp_path, capsys):
    source = tmp_path / "PHANTOM^BERTA"
    source.mkdir()
    out = tmp_path / "out"
    assert main(["run", "--config", str(tiny.config), "--input", str(source), "--output", str(out), "--quiet"]) == 3
    assert "PHANTOM^BERTA" in capsys.readouterr().err
    assert main(["status", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "state      failed" in shown
    assert "stage      ingest (1 of 7)" in shown
    for file in ("status.json", "events.jsonl"):
        assert "BERTA" not in (out / file).read_text()


def test_status_of_no_run_is_refused(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "holds no medidistill run" in capsys.readouterr().err


def test_clean_removes_pixels_and_says_what(finished, tiny, capsys):
    (finished / "distill" / ".left.part").write_bytes(b"x" * 10)
    capsys.readouterr()
    assert main(["clean", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert "removed ingest (" in shown
    assert "removed distill/.left.part" in shown
    assert not (finished / "ingest").exists()
    assert (finished / "experts").exists()
    assert json.loads((finished / "record.json").read_text())["stages"]["clean"]["removed"][0] == "ingest"
    # results and bundle stay
    assert len(medidistill.load(finished / "bundle")) == 3
    assert (finished / "report.html").is_file()
    # and the run goes on when the images are named again
    assert main(["run", "--output", str(finished), "--resume", "--quiet"]) == 2
    assert "name the images with --input" in capsys.readouterr().err
    kept = (finished / "experts" / "expert-0000.safetensors").stat().st_mtime_ns
    assert (
        main(
            [
                "run",
                "--output",
                str(finished),
                "--resume",
                "--input",
                str(tiny.phantoms),
                "--until",
                "export",
                "--quiet",
            ]
        )
        == 0
    )
    assert (finished / "experts" / "expert-0000.safetensors").stat().st_mtime_ns == kept


def test_clean_all_leaves_results_only(finished, capsys):
    assert main(["clean", str(finished), "--all"]) == 0
    assert not (finished / "experts").exists()
    assert not list(finished.rglob("checkpoint.safetensors"))
    assert not (finished / "evaluate" / "cells").exists()
    assert (finished / "evaluate" / "comparison.json").is_file()
    assert (finished / "distill" / "iadd" / "distilled.safetensors").is_file()
    capsys.readouterr()
    assert main(["clean", str(finished), "--all"]) == 0
    assert capsys.readouterr().out.startswith("0.0 MB removed")


@pytest.mark.parametrize("command", [["report"], ["evaluate"], ["audit"], ["run", "--resume"]])
def test_what_needs_the_images_of_a_cleaned_run_says_that_they_were_removed(finished, command, capsys):
    assert main(["clean", str(finished)]) == 0
    before, page = read_status(finished), (finished / "report.html").read_bytes()
    name = [str(finished), "--profile", "quick"] if command == ["audit"] else ["--output", str(finished)]
    capsys.readouterr()
    assert main([*command, *name, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "the prepared images were removed by `clean`" in told
    assert "start a new run, or name the images with --input" in told
    assert {**read_status(finished), "updated": before["updated"]} == before
    assert before["state"] == "completed"
    assert (finished / "report.html").read_bytes() == page


def test_an_input_that_is_not_there_makes_no_run_folder(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    for command in ("run", "ingest"):
        options = ["--config", str(tiny.config), "--input", str(tmp_path / "xrasy"), "--output", str(out)]
        assert main([command, *options, "--quiet"]) == 3
        assert "xrasy: no such folder" in capsys.readouterr().err
    assert not out.exists()


def test_what_failed_before_anything_had_finished_is_mended_and_goes_on(pictures, tiny, tmp_path, capsys):
    for name in ("sick-0-0.png", "well-1-1.png"):
        (pictures / name).write_bytes(b"not a picture")
    out = tmp_path / "out"
    begin = ["ingest", "--config", str(tiny.config), "--output", str(out), "--quiet"]
    assert main([*begin, "--input", str(pictures)]) == 6
    capsys.readouterr()
    assert main(["status", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "go on with" not in shown
    assert "correct    that, then: medidistill run" in shown
    mended = ["--resume", "--set", "ingest.max_quarantine=0.5"]
    assert main([*begin, *mended]) == 0
    assert "max_quarantine: 0.5" in (out / "run.yaml").read_text()
    # now it is settled
    assert main([*begin, "--resume", "--set", "ingest.max_quarantine=0.6"]) == 2


def test_what_goes_to_support_names_no_class_of_the_run(tiny, tmp_path):
    counts = json.loads((tiny.finished / "record.json").read_text())["stages"]["ingest"]["images"]["train"]
    assert main(["support", str(tiny.finished), "--output", str(tmp_path / "s.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert parts["medidistill-support/status.json"]
    for name, text in parts.items():
        assert not [one for one in counts if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", text)], name
    assert set(json.loads(parts["medidistill-support/status.json"])["verdict"]) == {"colour"}


def test_a_run_that_is_not_there_is_said_so(tmp_path, capsys):
    assert main(["run", "--output", str(tmp_path / "nowhere"), "--resume", "--quiet"]) == 2
    assert "nowhere: no such folder; name the folder of a run" in capsys.readouterr().err
