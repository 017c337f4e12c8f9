"""Report: the self-contained page and its summary, from what the other stages left."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medidistill.config import METHODS, digest
from medidistill.distilled_set import DistilledSet
from medidistill.errors import MedidistillError
from medidistill.evaluate.clinical import subgroup_table
from medidistill.files import (
    load_tensors,
    read_json,
    save_tensors,
    translate_os_errors,
    write_bytes,
    write_json,
    write_text,
)
from medidistill.pipeline.comparison.arms import delivery
from medidistill.pipeline.comparison.explaining import explanations
from medidistill.pipeline.comparison.verdict import images_by_site, keep_delivered_verdict
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.prepared import PreparedData, private_folder
from medidistill.pipeline.release.releasing import release
from medidistill.pipeline.runfolder.cleaning import check_not_cleaned
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.work import RunContext
from medidistill.privacy import set_digest
from medidistill.record import RunRecord
from medidistill.report import (
    ExplainedCase,
    Explanations,
    ExternalResults,
    ReportData,
    confounded_sites,
    render,
    saliency,
    summary_pdf,
)
from medidistill.results.clinical import ClinicalComparison
from medidistill.results.comparison import Comparison
from medidistill.results.history import HistoryEntry
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.serialise import from_json
from medidistill.statistics import Suppressed
from medidistill.words import arm_words

__all__ = ["Report", "bundle_holds", "report"]


class Report(Stage):
    """Writes the report and the summary."""

    kind = "report"
    title = "Write the report"

    def inputs(self, run: RunContext) -> str:
        """Return the digest of what the page shows: the record, configuration included, without this stage."""
        run.require("evaluate", "medidistill evaluate")
        others = {name: facts for name, facts in run.record.stages.items() if name != self.kind}
        return digest("report", version("medidistill"), {**vars(run.record), "stages": others})

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the page and its summary."""
        return (run.folder.report, run.folder.summary)

    def run(self, run: RunContext) -> None:
        """Write both, unless they show what they would show now."""
        if not run.is_up_to_date(self.kind, self.inputs(run), *self.outputs(run)):
            _write(run)

    def estimate(self, survey: Survey) -> Estimate:
        """Return a few seconds, and the size of a page."""
        return Estimate(5.0, 2 * 2**20)

    def discard(self, folder: RunFolder) -> None:
        """Remove the page and its summary."""
        folder.remove_entry(folder.report)
        folder.remove_entry(folder.summary)


def report(run: RunContext) -> Path:
    """Write the report from what the other stages left, also where it is there. Returns its file.

    What `evaluate.saliency` asks for shows patients: it becomes a page of its own among the patients' pixels.
    """
    run.require("evaluate", "medidistill evaluate")
    check_not_cleaned(run.folder, run.record.stages)  # before the report that is there counts for nothing
    run.mark_started("report")
    return _write(run)


def bundle_holds(folder: RunFolder, distilled: DistilledSet) -> bool:
    """Whether the bundle of a run is of this very set; it may be of one that was delivered before.

    Args:
        folder: of the run.
        distilled: the set, with whatever training.

    Returns:
        False where there is no bundle, or none that can be read.
    """
    file = folder.bundle / "distilled.safetensors"
    try:
        return file.is_file() and set_digest(DistilledSet.load(file)) == set_digest(distilled)
    except MedidistillError:
        return False


def _write(run: RunContext) -> Path:
    inputs = Report().inputs(run)
    method, data, config = delivery(run.config, run.folder).method, run.data(), run.config
    run.record.stage("report", inputs=inputs)  # the page shows itself among the stages
    made = f"distill/{method}" in run.record.stages  # a comparison of bundles from elsewhere distills nothing itself
    distilled = DistilledSet.load(run.folder.distill(method) / "distilled.safetensors") if made else None
    told = distilled is not None and bundle_holds(run.folder, distilled)
    _explain(run, explanations(run, data))
    page = ReportData(
        title=config.name,
        notice=config.notice,
        class_names=data.train.class_names,
        record=_redact_paths(run.record),
        comparison=Comparison.from_dict(read_json(run.folder.evaluate / "comparison.json")),
        clinical=ClinicalComparison.from_dict(read_json(run.folder.evaluate / "clinical.json")),
        verdict=keep_delivered_verdict(run),
        distilled=distilled,
        histories=_histories(run),
        evolution=_evolution(run, method) if made else (),
        quarantine=_quarantine(run),
        splits=_by_class(run.record.stages["ingest"]["images"]),
        patient_units=run.patient_units,
        data_notes=tuple(run.record.stages["ingest"].get("notes", ())),
        sites=_sites(run, data),
        confounded=confounded_sites(images_by_site(data), data.train.class_names),
        external=_external(run),
        privacy=None if distilled is None else _privacy(run, distilled, told=told),
        explained=run.folder.explained.is_dir(),
        bundle=run.folder.bundle.name if told else "",
    )
    write_text(run.folder.report, render(page))
    write_bytes(run.folder.summary, summary_pdf(page))
    written = (run.folder.report, run.folder.summary, run.folder.verdict)
    run.mark_finished("report", inputs, (path for path in written if path.is_file()))
    return run.folder.report


def _privacy(run: RunContext, distilled: DistilledSet, *, told: bool) -> PrivacySection:
    """Return what is known of the privacy of the set: where it is told, what its bundle says, else what one would."""
    if told:
        recipe = read_json(run.folder.bundle / "recipe.json")
        return from_json(PrivacySection, recipe["privacy"], "the privacy section of a bundle")
    return release(run, distilled, wanted=False).section


def _explain(run: RunContext, found: Explanations | None) -> None:
    """Keep Grad-CAM where patients' pixels are kept; without `found`, or without a case in it, remove it."""
    folder, config = run.folder.explained, run.config
    if folder.is_dir():
        with translate_os_errors(folder):
            shutil.rmtree(folder)
    if found is None or not found.cases:
        return
    private_folder(folder)
    drawn = saliency(found)
    write_bytes(folder / "picture.png", drawn.content, mode=0o600)
    ipc = config.distill.ipc
    cases = [
        {"outcome": one.outcome, "true class": one.truth}
        | {arm_words(arm, ipc): f"{name} {probability:.2f}" for arm, (name, probability) in one.called.items()}
        for one in found.cases
    ]
    told = {"alt": drawn.alt, "caption": drawn.caption, "cases": cases, "arms": list(found.cases[0].maps)}
    write_json(folder / "cases.json", told, mode=0o600)
    save_tensors(
        folder / "cases.safetensors",
        {
            f"{number}/{name}": torch.from_numpy(np.ascontiguousarray(pixels))
            for number, one in enumerate(found.cases)
            for name, pixels in _pictures(one).items()
        },
        {"kind": "explained_cases"},
        mode=0o600,
    )
    page = ReportData(
        title=config.name,
        notice=config.notice,
        class_names=run.data().train.class_names,
        record=_redact_paths(run.record),
        explanations=found,
    )
    write_text(folder / "explained.html", render(page), mode=0o600)


def _pictures(case: ExplainedCase) -> dict[str, npt.NDArray[Any]]:
    """Return the film in 8 bits, at the resolution of its file where that is there, and its maps in float32."""
    film = case.image if case.original is None else case.original
    maps = {f"map/{arm}": np.asarray(one, np.float32) for arm, one in case.maps.items()}
    return {"film": np.rint(np.clip(film, 0, 1) * 255).astype(np.uint8), **maps}


def _redact_paths(record: RunRecord) -> RunRecord:
    """Return the record with folders by their last name only: absolute paths stay inside."""
    config = copy.deepcopy(record.config)
    rules = config.get("evaluate", {})
    rules["bundles"] = [Path(place).name for place in rules.get("bundles", ())]
    rules["external"] = Path(rules.get("external", "")).name
    reading = config.get("ingest", {})
    reading["follow_links"] = [Path(place).name for place in reading.get("follow_links", ())]
    reading["exclusions"] = Path(reading.get("exclusions", "")).name
    return dataclasses.replace(record, config=config)


def _evolution(run: RunContext, method: str) -> list[tuple[int, Tensor]]:
    images, _ = load_tensors(run.folder.distill(method) / "evolution.safetensors")
    return [(int(name.rpartition("-")[2]), one) for name, one in sorted(images.items())]


def _external(run: RunContext) -> ExternalResults | None:
    folder = run.folder.evaluate / "external"
    if not run.config.evaluate.external:
        return None
    return ExternalResults(
        Comparison.from_dict(read_json(folder / "comparison.json")),
        ClinicalComparison.from_dict(read_json(folder / "clinical.json")),
    )


def _histories(run: RunContext) -> dict[str, list[HistoryEntry]]:
    files = {method: run.folder.distill(method) / "history.json" for method in METHODS}
    return {
        method: read_json(file)["entries"] for method, file in files.items() if f"distill/{method}" in run.record.stages
    }


def _quarantine(run: RunContext) -> list[tuple[str, str]]:
    import pandas

    table = pandas.read_csv(run.folder.ingest / "quarantine.csv", dtype=str, keep_default_na=False)
    return list(zip(table["key"], table["reason"], strict=True))


def _by_class(images: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Turn split -> class -> count around to class -> split -> count."""
    return {name: {split: counts[name] for split, counts in images.items()} for name in images["train"]}


def _sites(run: RunContext, data: PreparedData) -> dict[str, dict[str, int | str]]:
    """Return the images of all splits by site and class; counts of few patients are hidden."""
    parts = (data.train, data.val, data.test)
    sites = [site for part in parts for site in part.sites]
    if not any(sites):
        return {}
    rules = run.config.evaluate.clinical
    table = subgroup_table(
        torch.cat([part.labels for part in parts]).numpy(),
        {},
        [patient for part in parts for patient in part.patient_ids],
        sites,
        data.train.class_names,
        min_patients=rules.min_patients,
        min_positives=rules.min_positives,
    )
    shown = {row.group: {**row.counts, "all": row.images} for row in table}
    return {
        site: {name: "hidden" if isinstance(n, Suppressed) else n for name, n in row.items()}
        for site, row in shown.items()
    }
