"""What a call of `medidistill.distill` returns: the set, what it is worth, and the ways on from it."""

from __future__ import annotations

import html
import os
import shutil
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from medidistill.api.figures import draw
from medidistill.config import RunConfig
from medidistill.distillation.loop import STOPPED
from medidistill.errors import ArgumentError, ArgumentTypeError, ConfigError
from medidistill.evaluate import Comparison
from medidistill.export import Bundle
from medidistill.export.reading import read_set
from medidistill.files import read_json, translate_os_errors
from medidistill.jsontypes import JsonObject
from medidistill.pipeline.comparison.arms import delivery as delivered
from medidistill.pipeline.comparison.arms import methods
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runner import working
from medidistill.pipeline.stages.audit import audit as audit_stage
from medidistill.pipeline.stages.export import delivered_set
from medidistill.pipeline.stages.export import export as export_stage
from medidistill.pipeline.stages.report import report as report_stage
from medidistill.record import RunRecord
from medidistill.results.serialise import json_object
from medidistill.results.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Result", "best_so_far"]

_SET = "distilled.safetensors"
_PROFILES = ("quick", "full")


def best_so_far(folder: RunFolder, config: RunConfig) -> Bundle | None:
    """Return the best set that a stopped run left: of a method that finished, else of the one at work, else None.

    Of several finished methods the one that the configuration delivers is taken.
    """
    done = RunRecord.load(folder.record_file).stages if folder.record_file.is_file() else {}
    finished = [one for one in methods(config) if f"distill/{one}" in done]
    if finished:
        wanted = delivered(config, folder).method
        return read_set(folder.distill(wanted if wanted in finished else finished[-1]) / _SET)
    for method in methods(config):
        file = folder.distill(method) / STOPPED
        if file.is_file():
            return read_set(file)
    return None


class Result:
    """A distilled set, its comparison with real images, and the run folder behind both.

    Args:
        set: the set, ready to train from.
        folder: the run folder.
        config: of the run.
        status: `completed`, or `stopped` after an interrupt: the set is then the best so far, and was not evaluated.
        verdict: whether the set may stand in for the real images on these test patients; None where it was not
            evaluated.
        comparison: of all arms; None likewise.
        temporary: remove the run folder with the result, or at the latest when Python ends.
    """

    def __init__(
        self,
        set: Bundle,
        folder: RunFolder,
        config: RunConfig,
        *,
        status: str = "completed",
        verdict: Verdict | None = None,
        comparison: Comparison | None = None,
        temporary: bool = False,
    ) -> None:
        self.set, self.config, self.status = set, config, status
        self.verdict, self.comparison = verdict, comparison
        self._folder, self._temporary = folder, temporary
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder.path, ignore_errors=True)

    @classmethod
    def read(cls, folder: RunFolder, config: RunConfig, *, temporary: bool = False) -> Result:
        """Return what a finished run holds; its set carries the training that validation chose, as the bundle does.

        Args:
            folder: of the run.
            config: of the run.
            temporary: remove the folder once the result is no longer referenced.

        Raises:
            IngestError: a file of the run is damaged.
        """
        file = folder.evaluate / "comparison.json"
        return cls(
            delivered_set(config, folder, delivered(config, folder), read_set),
            folder,
            config,
            verdict=Verdict.from_dict(read_json(folder.verdict)) if folder.verdict.is_file() else None,
            comparison=Comparison.from_dict(read_json(file)) if file.is_file() else None,
            temporary=temporary,
        )

    @property
    def folder(self) -> Path:
        """The run folder; it holds patient data."""
        return self._folder.path

    @property
    def method(self) -> str:
        """The method that made the set."""
        return str(self.set.recipe.get("method", "unknown"))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed of the images and the patients, sentences."""
        if not self._folder.record_file.is_file():
            return ()
        return tuple(RunRecord.load(self._folder.record_file).stages.get("ingest", {}).get("notes", ()))

    @property
    def table(self) -> pd.DataFrame:
        """One row for each thing that was trained on, with balanced accuracy and AUROC and their intervals.

        Empty where the set was not evaluated.
        """
        rows = () if self.comparison is None else self.comparison.rows
        columns = ["trained_on", "network", "images", "networks", "balanced_accuracy", "balanced_accuracy_low"]
        columns += ["balanced_accuracy_high", "macro_auroc", "macro_auroc_low", "macro_auroc_high"]
        values = [
            (
                row.arm,
                row.architecture,
                row.training_images,
                row.networks,
                *(getattr(row.balanced_accuracy, one) for one in ("estimate", "low", "high")),
                *(getattr(row.macro_auroc, one) for one in ("estimate", "low", "high")),
            )
            for row in rows
        ]
        return pd.DataFrame(values, columns=columns)

    def plot(self) -> Figure:
        """Draw the images, the course of the distillation and, where there is one, the confusion matrix of the set."""
        history = self._folder.distill(self.method) / "history.json"
        entries = read_json(history)["entries"] if history.is_file() else []
        rows = () if self.comparison is None else self.comparison.rows
        confusion = next((row.confusion for row in rows if row.arm == self.method), None)
        return draw(self.set, entries, confusion)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the report of the run, one HTML page, and return its path.

        Raises:
            ArgumentError: the file exists or is not named `.html`.
            ConfigError: the set was not evaluated.
        """
        target = _new_path(path, "path")
        if target.suffix not in (".html", ".htm"):
            raise ArgumentError("path", repr(str(target)), "the name of a file that ends in .html")
        self._evaluated("report")
        with working(self._folder, progress=False, command="medidistill.report") as run:
            made = report_stage(run)
        with translate_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made, target)
        return target

    def audit(self, profile: str = "quick", *, workers: int = 1, progress: bool = False) -> JsonObject:
        """Attack the set, by distances and by shadow runs of the whole procedure, and return what the attacks found.

        Args:
            profile: `quick` or `full`.
            workers: processes for the shadow runs; a network that was defined in Python needs 1, and so does a script
                without `if __name__ == "__main__":`.
            progress: draw a bar.

        Raises:
            ArgumentError: an unknown profile, or workers below 1.
            ConfigError: the distillation was stopped.
        """
        if profile not in _PROFILES:
            raise ArgumentError("profile", repr(profile), "'quick' or 'full'")
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ArgumentError("workers", repr(workers), "a whole number >= 1")
        self._completed("audit")
        with working(self._folder, progress=progress, command="medidistill.audit") as run:
            return json_object(audit_stage(run, profile, workers=workers))

    def export(self, path: str | os.PathLike[str], *, release: bool = False) -> Path:
        """Write the bundle, the self-describing folder of the set, and return its path.

        Args:
            path: new folder.
            release: ask the privacy gate, and note the release in the ledger beside the run folder. Without, the bundle
                says that it is not released.

        Raises:
            ArgumentError: the folder exists, or a release is asked of a run in a temporary folder, whose ledger would
                go with it.
            ConfigError: the set was not evaluated.
            PrivacyGateError: a rule of the policy refuses the release.
        """
        target = _new_path(path, "path")
        if release and self._temporary:
            raise ArgumentError("release", True, "False for a temporary run", "name folder= when you call distill")
        self._evaluated("export")
        with working(self._folder, progress=False, command="medidistill.export") as run:
            made = export_stage(run, wanted=release)
        with translate_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(made, target)
        return target

    def _completed(self, what: str) -> None:
        if self.status != "completed":
            raise ConfigError(
                f"{what}: the run was {self.status}; finish it with distill(..., folder=..., resume=True)"
            )

    def _evaluated(self, what: str) -> None:
        self._completed(what)
        if self.comparison is None:
            raise ConfigError(f"{what}: the set was not evaluated; call distill with evaluate=True")

    def _facts(self) -> dict[str, str]:
        facts = {"status": self.status, "set": f"{len(self.set)} images, {self.set.num_classes} classes, {self.method}"}
        if self.verdict is not None:
            facts["verdict"] = f"{self.verdict.colour.value}: {self.verdict.sentence}"
        elif self.comparison is None:
            facts["verdict"] = "none, the set was not evaluated"
        unknown = [note for note in self.notes if note.startswith("Patients unknown")]
        if unknown:
            facts["patients"] = "unknown, split by image"
        return facts

    def __repr__(self) -> str:
        return "<Result " + "; ".join(f"{name}: {value}" for name, value in self._facts().items()) + ">"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td style='text-align:left'>{html.escape(value)}"
            "</td></tr>"
            for name, value in self._facts().items()
        )
        table = "" if self.comparison is None else str(self.table.to_html(index=False, float_format="{:.3f}".format))
        return f"<table><caption>medidistill Result</caption>{rows}</table>{table}"


def _new_path(path: Any, name: str) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentTypeError(name, type(path).__name__, "a path")
    target = Path(path)
    if os.path.lexists(target):
        raise ArgumentError(name, repr(str(target)), "new", "nothing is overwritten")
    return target
