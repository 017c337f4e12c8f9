"""A run in parts: until a stage, from a stage, further than planned, in shards, and only on paper."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from medidistill.cli import main
from medidistill.errors import ResourceError
from medidistill.pipeline import RunFolder, load_config
from medidistill.pipeline.runfolder.status import read_status
from medidistill.privacy import ProvenanceLog


def _stages(folder):
    return set(json.loads((folder / "record.json").read_text())["stages"])


def _bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _flip(path):
    """Change one bit in the middle of the numbers."""
    content = bytearray(path.read_bytes())
    content[-len(content) // 4] ^= 1
    path.write_bytes(content)


def test_until_ends_early_and_resume_reaches_the_same_bytes(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*tiny.arguments(out, "--until", "ingest"), "--quiet"]) == 0
    assert "finished until ingest; continue with: medidistill run" in capsys.readouterr().out
    assert _stages(out) == {"ingest"}
    # the experts in two shares, as an array of jobs would train them
    for share in ("1/2", "0/2"):
        assert main(["experts", "--output", str(out), "--shard", share, "--quiet"]) == 0
    assert _stages(out) == {"ingest"}
    kept = [path.stat().st_mtime_ns for path in sorted((out / "experts").iterdir())]
    assert main(["run", "--output", str(out), "--resume", "--until", "distill", "--quiet"]) == 0
    assert [path.stat().st_mtime_ns for path in sorted((out / "experts").iterdir())] == kept
    assert _stages(out) == {"ingest", "experts", "distill/mtt", "distill/iadd"}
    for name in ("experts/expert-0001.safetensors", "distill/iadd/distilled.safetensors"):
        assert (out / name).read_bytes() == (tiny.finished / name).read_bytes()


def test_from_does_a_stage_and_what_follows_anew(finished):
    before = _bytes(finished)
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    assert (
        main(["run", "--output", str(finished), "--resume", "--from", "evaluate", "--until", "export", "--quiet"]) == 0
    )
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    changed = {path.relative_to(finished).parts[0] for path in after if after[path] != times[path]}
    assert changed == {"evaluate", "bundle"}
    for name in map(Path, ("evaluate/comparison.json", "bundle/distilled.safetensors")):
        assert (finished / name).read_bytes() == before[name]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_from_after_until_is_refused_before_anything_goes(finished, more, capsys):
    before = _bytes(finished)
    options = ["--resume", "--from", "evaluate", "--until", "experts", *more]
    assert main(["run", "--output", str(finished), *options, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "--from evaluate --until experts: evaluate comes after experts" in told
    assert "the order is ingest, experts, distill/" in told
    assert _bytes(finished) == before


def test_dry_run_tells_what_from_does_anew(finished, capsys):
    share = ["--resume", "--from", "evaluate", "--until", "evaluate", "--dry-run"]
    assert main(["run", "--output", str(finished), *share]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [("to" in line, "done" in line) for line in lines if line and line[0] in ("evaluate", "export")] == [
        (True, False),
        (False, True),
    ]


def test_from_removes_each_stage_at_its_turn(finished, monkeypatch):
    """Where a stage fails, what comes after it is still there, and the status says so."""
    bundle = _bytes(finished / "bundle")

    def full(run):
        assert not (finished / "evaluate").exists()
        assert "evaluate" not in json.loads((finished / "status.json").read_text())["finished"]
        raise ResourceError("the disk is full")

    monkeypatch.setattr("medidistill.pipeline.stages.evaluate.evaluate", full)
    assert main(["run", "--output", str(finished), "--resume", "--from", "evaluate", "--quiet"]) == 5
    assert _bytes(finished / "bundle") == bundle
    assert (finished / "report.html").is_file()
    status = read_status(finished)
    assert {"export", "report"} <= set(status["finished"])
    assert "evaluate" not in status["finished"]


def test_a_run_that_could_not_note_its_reading_reads_again_and_notes_it(tiny, tmp_path, monkeypatch):
    """As on a disk that is full just then: who was read must not be missing from what the bundle says."""
    out = tmp_path / "out"

    def full(log, path):
        raise ResourceError(f"cannot write {path.name}: the disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(ProvenanceLog, "save", full)
        assert main([*tiny.arguments(out, "--until", "ingest"), "--quiet"]) == 5
    assert main(["run", "--output", str(out), "--resume", "--until", "ingest", "--quiet"]) == 0
    noted = [(event.kind, event.split) for event in ProvenanceLog.load(out / "provenance.json").events]
    assert noted == [("read", "train"), ("read", "val"), ("read", "test")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume", "--from", "evaluat"], "did you mean 'evaluate'?"),
        (["--resume", "--until", "export2"], "--until export2: must be one of ingest, experts"),
    ],
)
def test_unknown_stages_are_refused(finished, options, words, capsys):
    assert main(["run", "--output", str(finished), *options, "--quiet"]) == 2
    assert words in capsys.readouterr().err


def test_from_needs_a_run_to_continue(tiny, tmp_path, capsys):
    assert main([*tiny.arguments(tmp_path / "out", "--from", "experts"), "--quiet"]) == 2
    assert "needs --resume" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_outer_steps_continue_what_is_there(finished):
    folder = finished / "distill" / "iadd"
    before = json.loads((folder / "history.json").read_text())["entries"]
    more = ["--resume", "--set", "distill.outer_steps=90", "--until", "distill", "--quiet"]
    assert main(["run", "--output", str(finished), *more]) == 0
    after = json.loads((folder / "history.json").read_text())["entries"]
    # seconds and all: these steps were not taken again
    assert after[:80] == before
    assert [entry["step"] for entry in after[80:]] == list(range(81, 91))
    assert "outer_steps: 90" in (finished / "run.yaml").read_text()


def test_a_set_that_was_made_anew_is_not_exported_with_the_figures_of_the_old_one(finished, capsys):
    more = ["--resume", "--set", "distill.outer_steps=90", "--until", "distill", "--quiet"]
    bundle = _bytes(finished / "bundle")
    assert main(["run", "--output", str(finished), *more]) == 0
    assert not (finished / "verdict.json").exists()
    assert main(["export", "--output", str(finished), "--quiet"]) == 2
    assert "stage evaluate has not finished" in capsys.readouterr().err
    assert _bytes(finished / "bundle") == bundle
    openings = len(json.loads((finished / "record.json").read_text())["test_openings"])
    assert main(["run", "--output", str(finished), "--resume", "--quiet"]) == 0
    assert len(json.loads((finished / "record.json").read_text())["test_openings"]) == openings + 1
    assert (finished / "verdict.json").exists()


def test_fewer_steps_or_another_setting_are_refused(finished, capsys):
    before = _bytes(finished)
    assert main(["run", "--output", str(finished), "--resume", "--set", "distill.outer_steps=70", "--quiet"]) == 2
    assert "distill.outer_steps: 80 -> 70" in capsys.readouterr().err
    assert _bytes(finished) == before


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("ingest/train.safetensors", ["--from", "experts"]),
        ("experts/expert-0001.safetensors", ["--from", "distill"]),
        ("distill/mtt/checkpoint.safetensors", ["--set", "distill.outer_steps=85"]),
        ("distill/iadd/distilled.safetensors", ["--from", "export"]),
    ],
)
def test_one_flipped_bit_is_refused_by_name(finished, name, again, capsys):
    _flip(finished / name)
    assert main(["run", "--output", str(finished), "--resume", *again, "--quiet"]) == 3
    shown = capsys.readouterr().err
    assert name in shown
    assert "damaged" in shown
    status = json.loads((finished / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 3)


def test_a_damaged_cell_is_computed_again(finished):
    cell = finished / "evaluate" / "cells" / "random-convnet.safetensors"
    whole = cell.read_bytes()
    _flip(cell)
    (finished / "evaluate" / "comparison.json").unlink()
    assert main(["run", "--output", str(finished), "--resume", "--until", "evaluate", "--quiet"]) == 0
    assert cell.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("evaluate/comparison.json", b'"estimate"', b'"estimaty"'),
        ("bundle/README.md", b"tiny", b"tinz"),
        ("distill/iadd/history.json", b'"loss"', b'"losz"'),
    ],
)
def test_a_result_that_changed_is_made_again_and_said(finished, name, old, new):
    whole = (finished / name).read_bytes()
    (finished / name).write_bytes(whole.replace(old, new, 1))
    assert (finished / name).read_bytes() != whole
    assert main(["run", "--output", str(finished), "--resume", "--until", "export", "--quiet"]) == 0
    assert (finished / name).read_bytes() == whole
    events = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    assert [event["file"] for event in events if event["event"] == "file_changed"] == [name]


@pytest.mark.parametrize("command", [["export"], ["report"], ["evaluate"], ["audit", "--estimate"]])
def test_every_command_names_itself_in_the_status(finished, command):
    place = [str(finished)] if command[0] == "audit" else ["--output", str(finished)]
    assert main([*command, *place, "--quiet"]) == 0
    assert json.loads((finished / "status.json").read_text())["command"] == command[0]


@pytest.mark.parametrize("name", ["record.json", "provenance.json"])
def test_a_record_that_changed_is_refused_by_name(finished, name, capsys):
    file = finished / name
    file.write_text(file.read_text().replace("patients", "patient5", 1))
    assert main(["run", "--output", str(finished), "--resume", "--from", "evaluate", "--quiet"]) == 3
    assert f"{name}: damaged: its content is not what was written" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", "--resume", "--from", "evaluate"], ["export", "--release"]])
def test_a_run_whose_provenance_is_lost_goes_no_further_and_is_not_released(finished, command, capsys):
    (finished / "provenance.json").unlink()
    before = _bytes(finished / "bundle")
    assert main([*command, "--output", str(finished), "--quiet"]) == 3
    assert "provenance.json: missing, so that nobody knows" in capsys.readouterr().err
    assert not (finished / "provenance.json").exists()
    assert _bytes(finished / "bundle") == before


def test_leftovers_of_a_killed_process_are_swept(finished):
    (finished / "distill" / ".x.json.abc.part").write_text("half")
    (finished / ".bundle.abc.part").mkdir()
    (finished / ".bundle.abc.part" / "half.png").write_text("half")
    assert main(["run", "--output", str(finished), "--resume", "--quiet"]) == 0
    assert not list(finished.rglob("*.part"))


def test_dry_run_plans_and_writes_nothing(tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*tiny.arguments(out, "--dry-run", "--until", "experts"), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert not out.exists()
    lines = {line.split()[0]: line for line in shown.splitlines() if line}
    assert "to do" in lines["ingest"]
    assert "to do" in lines["experts"]
    assert "left out" in lines["distill/iadd"]
    assert "nothing was written" in shown
    assert "MiB of memory" in shown


def test_dry_run_of_a_finished_run_has_nothing_to_do(finished, capsys):
    before = _bytes(finished)
    assert main(["run", "--output", str(finished), "--resume", "--dry-run", "--quiet"]) == 0
    assert "to do" not in capsys.readouterr().out
    assert _bytes(finished) == before


def test_shards_are_checked(finished, capsys):
    for wrong in ("2/2", "a", "1"):
        assert main(["experts", "--output", str(finished), "--shard", wrong, "--quiet"]) == 2
        assert f"--shard {wrong}: must be I/N" in capsys.readouterr().err


def test_a_start_that_was_killed_at_once_can_be_started_again(tiny, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".lock").touch()
    (out / ".run.yaml.x.part").write_text("half")
    (out / "ingest").mkdir()
    (out / "ingest" / "source.json").write_text('{"source": "/elsewhere"}')
    (out / "ingest" / ".source.json.x.part").write_text("half")
    assert main([*tiny.arguments(out, "--until", "ingest"), "--quiet"]) == 0
    shutil.rmtree(out)


def test_a_start_that_was_killed_before_it_read_anything_goes_on_without_being_told_the_input(tiny, tmp_path):
    folder = RunFolder.create(tmp_path / "out", load_config(tiny.config), source=tiny.phantoms)
    assert [path.name for path in folder.ingest.iterdir()] == ["source.json"]
    assert main(["run", "--output", str(folder.path), "--resume", "--until", "ingest", "--quiet"]) == 0
    assert _stages(folder.path) == {"ingest"}
