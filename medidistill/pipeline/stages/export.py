"""Export: the bundle, which may leave once the privacy gate lets it pass."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from medidistill.config import RunConfig, as_dict, digest
from medidistill.distilled_set import DistilledSet
from medidistill.errors import IngestError, PrivacyGateError
from medidistill.evaluate import ArmRun
from medidistill.export import write_bundle
from medidistill.files import read_json
from medidistill.jsontypes import JsonObject  # facts of a stage, see `RunRecord.stages`
from medidistill.pipeline.comparison.arms import Delivery, cell_file, delivery
from medidistill.pipeline.comparison.verdict import keep_delivered_verdict
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.release.release_check import release_wanted
from medidistill.pipeline.release.releasing import Override, Release, only_release, release
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.stages import kinds_before
from medidistill.pipeline.stages.report import bundle_holds, report
from medidistill.pipeline.work import RunContext
from medidistill.record import RunRecord
from medidistill.results.comparison import Comparison
from medidistill.results.serialise import json_object
from medidistill.results.verdict import Verdict

__all__ = ["Export", "delivered_set", "export"]

_Set = TypeVar("_Set", bound=DistilledSet)


class Export(Stage):
    """Writes the bundle, and asks the gate where a release is wanted."""

    kind = "export"
    title = "Write the bundle"

    def inputs(self, run: RunContext) -> str:
        """Return the digest of the set, its figures and its words; a decision of the gate comes on top."""
        method = delivery(run.config, run.folder).method
        return _inputs(run, method, keep_delivered_verdict(run))

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the checksums of the bundle, which are written last."""
        return (run.folder.bundle / "SHA256SUMS",)

    def run(self, run: RunContext) -> None:
        """Write the bundle; where the gate refuses, the report is written before the run ends."""
        try:
            export(run, wanted=release_wanted(run.config))
        except PrivacyGateError:
            report(run)  # what was measured stays readable
            raise

    def estimate(self, survey: Survey) -> Estimate:
        """Return a second, and the size of the set with its pictures."""
        return Estimate(1.0, 3 * survey.set_bytes)

    def discard(self, folder: RunFolder) -> None:
        """Remove nothing: the bundle stays until its successor is complete, and is replaced as a whole."""


def export(run: RunContext, *, wanted: bool = False, overrides: Sequence[Override] = ()) -> Path:
    """Write the bundle of the run's method, with the training that validation chose.

    Args:
        run: a run that has been evaluated.
        wanted: release it, which asks the privacy gate; without, the bundle says that it is not released.
        overrides: failed rules to release in spite of.

    Returns:
        Its folder.

    Raises:
        PrivacyGateError: a rule refuses; the bundle that was there stays, and where it is of another set, the record
            does not tell of it any more.
    """
    chosen, folder = delivery(run.config, run.folder), run.folder.bundle
    method = chosen.method
    run.require("evaluate", "medidistill evaluate")
    distilled = delivered_set(run.config, run.folder, chosen, DistilledSet.load)
    verdict = keep_delivered_verdict(run)
    work = _inputs(run, method, verdict)
    before = run.record.stages.get("export", {})
    if not wanted and before.get("released") and before.get("work") == work and (folder / "SHA256SUMS").exists():
        if changed := run.first_modified_output("export"):
            raise IngestError(
                f"{run.folder.path / changed}: not what was released (checksum differs); release it again with "
                "`medidistill export --release`"
            )
        return folder  # what the gate let pass stays as it is
    if before and not bundle_holds(run.folder, distilled):
        run.mark_started("export")  # the bundle there is of another set: its release is none of this one
    with only_release(run) if wanted else contextlib.nullcontext():
        decided = release(run, distilled, wanted=wanted, overrides=overrides)
        _write_bundle(run, distilled, decided, verdict, method=method, work=work, released=wanted)
    return folder


def delivered_set(config: RunConfig, folder: RunFolder, chosen: Delivery, read: Callable[[Path], _Set]) -> _Set:
    """Return the set that is handed over, with the training that validation chose for it and its own network.

    Where that network was not compared, the first one that was counts.

    It keeps the training that it was distilled with where it was not evaluated, and where experts are private.

    Args:
        config: of the run.
        folder: of the run.
        chosen: which method's set is delivered, see `delivery`.
        read: reads the set from its file.

    Raises:
        IngestError: the file of the set, or of its cell of the comparison, is damaged.
    """
    distilled = read(folder.distill(chosen.method) / "distilled.safetensors")
    compared = config.evaluate.architectures
    own = config.network.name if config.network.name in compared else compared[0]
    cell = cell_file(folder, chosen.method, own)
    if cell.is_file() and not config.experts.dp.enabled:  # a choice on patients is a touch without a mechanism
        distilled = dataclasses.replace(distilled, training=ArmRun.load(cell).chosen)
    if chosen.scores:
        distilled = dataclasses.replace(distilled, recipe={**distilled.recipe, "chosen_among": _rounded(chosen)})
    return distilled


def _inputs(run: RunContext, method: str, verdict: Verdict | None) -> str:
    basis, config = run.require("evaluate", "medidistill evaluate"), run.config
    told = None if verdict is None else verdict.to_dict()
    return digest("export", basis, method, config.name, config.notice, as_dict(config)["sources"], told)


def _write_bundle(
    run: RunContext,
    distilled: DistilledSet,
    decided: Release,
    verdict: Verdict | None,
    *,
    method: str,
    work: str,
    released: bool,
) -> None:
    """Write the bundle that a decision allows, unless it is there; the one before stays until it is complete."""
    folder, inputs = run.folder.bundle, digest(work, json_object(decided.section))
    if run.is_up_to_date("export", inputs, folder / "SHA256SUMS"):
        decided.count_again(folder)
        return
    comparison = Comparison.from_dict(read_json(run.folder.evaluate / "comparison.json"))
    if decided.claim.kind == "dp":  # digests of the patients' images are no output of the mechanism
        distilled = dataclasses.replace(distilled, recipe={k: v for k, v in distilled.recipe.items() if k != "data"})
    write_bundle(
        distilled,
        folder,
        name=run.config.name,
        record=dataclasses.replace(run.record, stages={} if decided.claim.kind == "dp" else _before_export(run.record)),
        comparison=comparison,
        verdict=verdict,
        notice=run.config.notice,
        sources=run.config.sources,
        privacy=decided.section,
        replace=True,
        publishing=decided.publishing,
    )
    files = [path for path in folder.rglob("*") if path.is_file()]
    run.mark_finished("export", inputs, files, method=method, released=released, work=work)


def _rounded(chosen: Delivery) -> dict[str, float]:
    """Return the validation scores that the method was chosen by, best first."""
    return {name: round(chosen.scores[name], 3) for name in sorted(chosen.scores, key=lambda n: -chosen.scores[n])}


def _before_export(record: RunRecord) -> dict[str, JsonObject]:
    """Return the stages that the bundle rests on; the record of a run that is exported again holds later ones."""
    before = kinds_before("export")
    return {name: facts for name, facts in record.stages.items() if name.partition("/")[0] in before}
