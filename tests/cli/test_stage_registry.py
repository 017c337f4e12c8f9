"""The one list of stages: what asks it, and that a file and a line are all that a new stage needs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from medidistill.cli import main
from medidistill.config import digest
from medidistill.errors import ConfigError
from medidistill.files import write_text
from medidistill.pipeline import RunFolder, load_config, working
from medidistill.pipeline.runfolder.run_folder import _MANAGED_ENTRIES
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.stages import STAGES, kinds_before, position, stage_class, stage_names, stage_title, stages_of

ARMS = "evaluate.arms=[full, mtt, iadd]"


class Count(Stage):
    """Counts the files of the bundle."""

    kind = "count"
    title = "Count files"

    def inputs(self, run):
        return digest("count", run.require("export", "medidistill export"))

    def outputs(self, run):
        return (run.folder.path / "count" / "files.txt",)

    def run(self, run):
        (file,) = self.outputs(run)
        if not run.is_up_to_date(self.name, self.inputs(run), file):
            write_text(file, str(len(list(run.folder.bundle.rglob("*")))))
            run.mark_finished(self.name, self.inputs(run), [file])

    def estimate(self, survey):
        return Estimate(61.0, 1.0)

    def discard(self, folder):
        folder.remove_entry(folder.path / "count")


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the stage above as its file would."""
    module = ModuleType("medidistill.pipeline.stages.count")
    module.Count = Count  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(STAGES, "count", "Count")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([ARMS], ["ingest", "experts", "distill/mtt", "distill/iadd", "evaluate", "export", "report"]),
        (
            ["evaluate.arms=[full, iadd]", "privacy.audit=quick"],
            ["ingest", "experts", "distill/iadd", "evaluate", "audit", "export", "report"],
        ),
    ],
)
def test_names_of_a_run_are_methods_for_distill_and_no_audit_unless_asked(settings, names):
    assert list(stage_names(load_config(None, settings))) == names


def test_every_kind_has_its_name_a_title_and_a_place_in_the_run_folder():
    for kind in STAGES:
        assert stage_class(kind).kind == kind
        assert stage_title(kind) not in ("", kind)
    assert stage_title("distill/mtt") == stage_title("distill")
    assert {"ingest", "experts", "distill", "evaluate", "audit", "bundle", "report.html"} <= set(_MANAGED_ENTRIES)
    assert kinds_before("evaluate") == ("ingest", "experts", "distill")


@pytest.mark.parametrize(("last", "index"), [(False, 1), (True, 2)])
def test_a_kind_stands_for_its_first_or_last_stage(last, index):
    names = ("experts", "distill/mtt", "distill/iadd")
    assert position(names, "distill", "--from", last=last) == index
    assert position(names, "distill/iadd", "--from") == 2
    with pytest.raises(ConfigError, match=r"--from distil: must be one of experts, .*did you mean"):
        position(names, "distil", "--from")


def test_discard_removes_the_outputs_of_the_stage_and_of_no_other_but_for_the_bundle(finished: Path):
    folder = RunFolder(finished)
    stages = stages_of(load_config(folder.config_file))
    with working(folder, progress=False, command="medidistill report") as run:
        outputs = {stage.name: stage.outputs(run) for stage in stages}
        assert all(path.exists() for paths in outputs.values() for path in paths)
        for number, stage in enumerate(stages[::-1], 1):
            run.discard(stage)
            left = [name for name, paths in outputs.items() if all(path.exists() for path in paths)]
            gone = [one.name for one in stages[::-1][:number]]
            # the bundle stays until its successor is complete
            assert set(left) == outputs.keys() - set(gone) | {"export"}
            assert not set(run.record.stages) & set(gone)


def test_help_of_run_names_every_stage(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("ingest, experts, distill, evaluate, audit, export or report") == 2


@pytest.mark.usefixtures("count")
def test_a_new_stage_is_planned_run_kept_done_anew_and_deleted_with_the_run(finished, tiny, capsys):
    new = ["--input", str(tiny.phantoms), "--output", str(finished.parent / "new"), "--dry-run"]
    assert main(["run", "--config", str(finished / "run.yaml"), *new]) == 0
    assert "count" in capsys.readouterr().out
    assert main(["run", "--output", str(finished), "--resume", "--until", "count"]) == 0
    assert int((finished / "count" / "files.txt").read_text()) > 5
    assert main(["run", "--output", str(finished), "--resume"]) == 0
    assert "count: finished before, kept" in capsys.readouterr().err
    before = (finished / "count" / "files.txt").stat().st_mtime_ns
    assert main(["run", "--output", str(finished), "--resume", "--from", "count", "--quiet"]) == 0
    assert (finished / "count" / "files.txt").stat().st_mtime_ns > before
