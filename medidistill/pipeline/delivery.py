"""The stages that hand over: the bundle, and the report."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas

from medidistill.config import METHODS, as_dict, digest
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import ArmRun
from medidistill.export import write_bundle
from medidistill.files import load_tensors, read_json, translate_os_errors, write_text
from medidistill.pipeline.arms import delivered
from medidistill.pipeline.comparing import cell_file
from medidistill.pipeline.prepared import Prepared
from medidistill.pipeline.work import Run
from medidistill.report import ReportData, RocInput, render

__all__ = ["export", "report"]


def export(run: Run) -> Path:
    """Write the bundle of the run's method, with the training that validation chose. Returns its folder."""
    method, folder = delivered(run.config), run.folder.bundle
    basis = run.require("evaluate", "medidistill evaluate")
    distilled = DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")
    cell = cell_file(run, method, run.config.evaluate.architectures[0])
    if cell.is_file():
        distilled = dataclasses.replace(distilled, training=ArmRun.load(cell).chosen)
    inputs = digest("export", basis, method, run.config.name, run.config.notice, as_dict(run.config)["sources"])
    if run.finished("export", inputs, folder / "SHA256SUMS"):
        return folder
    if folder.is_dir():
        with translate_os_errors(folder):
            shutil.rmtree(folder)
    comparison = read_json(run.folder.evaluate / "comparison.json")
    write_bundle(
        distilled,
        folder,
        name=run.config.name,
        record=run.record,
        comparison=comparison,
        notice=run.config.notice,
        sources=run.config.sources,
    )
    run.note("export", inputs, method=method)
    return folder


def report(run: Run) -> Path:
    """Write the report from what the other stages left. Returns its file."""
    basis = run.require("evaluate", "medidistill evaluate")
    method, data, config = delivered(run.config), run.data(), run.config
    run.begin("report")
    inputs = digest("report", basis)
    run.record.stage("report", inputs=inputs)  # the page shows itself among the stages
    evolution, _ = load_tensors(run.folder.distill(method) / "evolution.safetensors")
    page = ReportData(
        title=config.name,
        notice=config.notice,
        class_names=data.train.class_names,
        record=run.record,
        comparison=read_json(run.folder.evaluate / "comparison.json"),
        clinical=read_json(run.folder.evaluate / "clinical.json"),
        distilled=DistilledSet.load(run.folder.distill(method) / "distilled.safetensors"),
        histories=_histories(run),
        evolution=[(int(name.rpartition("-")[2]), images) for name, images in sorted(evolution.items())],
        quarantine=_quarantine(run),
        splits=_by_class(run.record.stages["ingest"]["images"]),
        sites=_sites(data),
        roc=_roc(run, data),
        bundle=run.folder.bundle.name if run.folder.bundle.is_dir() else "",
    )
    write_text(run.folder.report, render(page))
    run.note("report", inputs)
    return run.folder.report


def _histories(run: Run) -> dict[str, Any]:
    files = {method: run.folder.distill(method) / "history.json" for method in METHODS}
    return {
        method: read_json(file)["entries"] for method, file in files.items() if f"distill/{method}" in run.record.stages
    }


def _quarantine(run: Run) -> list[tuple[str, str]]:
    table = pandas.read_csv(run.folder.ingest / "quarantine.csv", dtype=str, keep_default_na=False)
    return list(zip(table["key"], table["reason"], strict=True))


def _by_class(images: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Turn split -> class -> count around to class -> split -> count."""
    return {name: {split: counts[name] for split, counts in images.items()} for name in images["train"]}


def _sites(data: Prepared) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for part in (data.train, data.val, data.test):
        for site, label in zip(part.sites, part.labels.tolist(), strict=False):
            if site:
                counts.setdefault(site, Counter())[part.class_names[label]] += 1
    return {site: dict(found) for site, found in sorted(counts.items())}


def _roc(run: Run, data: Prepared) -> RocInput | None:
    architecture = run.config.evaluate.architectures[0]
    cells = {arm: cell_file(run, arm, architecture) for arm in run.config.evaluate.arms}
    found = {arm: ArmRun.load(file).test_probabilities for arm, file in cells.items()}
    means = {arm: probabilities.mean(0) for arm, probabilities in found.items() if probabilities is not None}
    return RocInput(data.test.labels.numpy(), means, architecture) if means else None
