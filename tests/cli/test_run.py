"""The whole job, and what interrupts it."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys

import pytest

import medidistill
from medidistill.cli import main
from medidistill.cli.parser import make_parser

from ..killing import reach, start, wait

COMMANDS = (
    *("demo", "phantom", "run", "ingest", "experts", "distill", "evaluate", "export", "report", "app"),
    *("status", "clean", "config", "support"),
)


def _distilled(folder, method="iadd"):
    return (folder / "distill" / method / "distilled.safetensors").read_bytes()


def test_run_leaves_bundle_report_and_one_opening_of_the_test_split(tiny):
    record = json.loads((tiny.finished / "record.json").read_text())
    stages = {"ingest", "experts", "distill/mtt", "distill/iadd", "evaluate", "export", "report"}
    assert set(record["stages"]) == stages
    assert len(record["test_openings"]) == 1
    assert "A notice that must reach the reader." in (tiny.finished / "report.html").read_text()
    assert "A notice that must reach the reader." in (tiny.finished / "bundle" / "README.md").read_text()
    assert len(medidistill.load(tiny.finished / "bundle")) == 3


def test_bundle_ships_the_training_that_validation_chose(tiny):
    comparison = json.loads((tiny.finished / "evaluate" / "comparison.json").read_text())
    (row,) = [row for row in comparison["rows"] if row["arm"] == "iadd"]
    assert medidistill.load(tiny.finished / "bundle").training.lr == row["chosen"][0]["lr"]


def test_no_patient_leaves_the_ingest_folder(tiny):
    with open(tiny.phantoms / "labels.csv") as file:
        names = {row["patient_id"] for row in csv.DictReader(file)}
    with open(tiny.finished / "ingest" / "manifest.csv") as file:
        names |= {row["patient_id"] for row in csv.DictReader(file)}
    people = [f"PHANTOM^{number:04d}".encode() for number in range(1, 100)]  # names in the headers
    secrets = [*people, str(tiny.phantoms).encode(), *(name.encode() for name in sorted(names))]
    assert len(secrets) > 40
    seen = 0
    for path in tiny.finished.rglob("*"):
        if path.is_file() and (tiny.finished / "ingest") not in path.parents:
            content, seen = path.read_bytes(), seen + 1
            assert not [secret for secret in secrets if secret in content], path
    assert seen > 20


def test_patient_data_are_readable_by_their_owner_only(tiny):
    folder = tiny.finished / "ingest"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_stages_one_by_one_give_the_same_bytes(tiny, tmp_path, capsys):
    out = str(tmp_path / "out")
    first = ["ingest", "--config", str(tiny.config), "--input", str(tiny.phantoms), "--output", out]
    assert main([*first, "--quiet"]) == 0
    for stage in (["experts"], ["distill", "--method", "mtt"], ["distill"], ["evaluate"], ["export"], ["report"]):
        assert main([*stage, "--output", out, "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}/report.html"
    for method in ("mtt", "iadd"):
        assert _distilled(tmp_path / "out", method) == _distilled(tiny.finished, method)
    # the two arms differ in W alone
    assert _distilled(tiny.finished, "mtt") != _distilled(tiny.finished, "iadd")


def test_resume_of_a_finished_run_does_no_work(tiny, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    before |= {path: path.stat().st_mtime_ns for path in (finished / "report.html", finished / "summary.pdf")}
    assert main(["run", "--output", str(finished), "--resume"]) == 0
    shown = capsys.readouterr()
    assert "iadd - mtt" in shown.out
    assert shown.out.rstrip().endswith(f"report: {finished}/report.html")
    assert "evaluate: finished before, kept" in shown.err
    assert "report: finished before, kept" in shown.err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(finished.rglob("*.safetensors")) < set(before)


def test_lost_cell_is_computed_again_without_opening_the_test_split_again(finished):
    cells = finished / "evaluate" / "cells"
    comparison = (finished / "evaluate" / "comparison.json").read_bytes()
    before = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    (cells / "random-convnet.safetensors").unlink()
    (finished / "evaluate" / "comparison.json").unlink()
    assert main(["run", "--output", str(finished), "--resume", "--until", "evaluate", "--quiet"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert [name for name in before if before[name] != after[name]] == ["random-convnet.safetensors"]
    assert (finished / "evaluate" / "comparison.json").read_bytes() == comparison
    assert len(json.loads((finished / "record.json").read_text())["test_openings"]) == 1


def test_edited_configuration_redoes_what_depends_on_it(finished):
    file = finished / "run.yaml"
    file.write_text(file.read_text().replace("outer_steps: 80", "outer_steps: 90"))
    experts = {path: path.stat().st_mtime_ns for path in (finished / "experts").iterdir()}
    old = _distilled(finished)
    for stage in ("experts", "distill"):
        assert main([stage, "--output", str(finished), "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in (finished / "experts").iterdir()} == experts
    history = json.loads((finished / "distill" / "iadd" / "history.json").read_text())
    assert len(history["entries"]) == 90
    assert _distilled(finished) != old


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_killed_run_resumes_to_the_same_bytes(tiny, tmp_path, number, code):
    out, log = tmp_path / "out", tmp_path / "log"
    child = start(tiny.arguments(out), log)
    # it has written a checkpoint of the second distillation
    assert reach(child, (out / "distill" / "iadd" / "checkpoint.safetensors").exists), log.read_text()
    os.kill(child, number)
    assert wait(child) == code
    assert not (out / "distill" / "iadd" / "distilled.safetensors").exists()
    if number == signal.SIGTERM:
        message = log.read_text().splitlines()[-1]
        assert message.startswith("medidistill: error: stopped by SIGTERM; finished work is kept")
        assert message.endswith(f"medidistill run --output {out} --resume")
        assert "Traceback" not in log.read_text()
    assert main(["run", "--output", str(out), "--resume", "--until", "distill", "--quiet"]) == 0
    assert _distilled(out) == _distilled(tiny.finished)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "Example:" in text
    # every line of the example parses; others may come first, as an audit before a release
    lines = text.partition("Example:")[2].strip().splitlines()
    assert command in [make_parser().parse_args(line.split()[1:]).command for line in lines]


def test_version_and_help_answer_without_torch():
    code = "import sys, medidistill.cli as c; c.make_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    shown = subprocess.run(
        [sys.executable, "-m", "medidistill", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"medidistill {medidistill.__version__}\n"


def test_the_core_and_the_package_load_without_the_pipeline():
    code = (
        "import sys, medidistill.distillation; "
        "sys.exit(any(n in sys.modules for n in ('monai', 'pandas', 'sklearn', 'yaml', 'streamlit', 'pydicom')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ}).returncode == 0
    for name in medidistill.__all__:
        assert getattr(medidistill, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        medidistill.lod  # noqa: B018
