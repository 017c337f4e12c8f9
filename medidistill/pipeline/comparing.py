"""The stage that measures: fresh networks on every arm, the test split opened once, the comparison."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from medidistill.config import METHODS, digest
from medidistill.distilled_set import DistilledSet
from medidistill.errors import IngestError
from medidistill.evaluate import ArmRun, Comparison, compare, run_arm
from medidistill.evaluate.clinical import ClinicalSettings, checklist, clinical_comparison
from medidistill.files import read_json, write_json, write_text
from medidistill.pipeline.arms import make_arm
from medidistill.pipeline.prepared import Prepared
from medidistill.pipeline.progress import say
from medidistill.pipeline.work import Run

__all__ = ["cell_file", "evaluate"]


def evaluate(run: Run) -> Comparison:
    """Train fresh networks on every arm, score the test split, compare. Finished cells are kept."""
    config, data = run.config, run.data()
    wanted = [arm for arm in config.evaluate.arms if arm in METHODS]
    basis = [run.require(f"distill/{method}", f"medidistill distill --method {method}") for method in wanted]
    inputs = digest("evaluate", data.digest, basis, config.evaluate, config.experts, config.distill.ipc, config.seed)
    table = run.folder.evaluate / "comparison.json"
    if run.finished("evaluate", inputs, table):
        return Comparison.from_dict(read_json(table))
    if not any(opening["digest"] == inputs for opening in run.record.test_openings):
        run.record.open_test("evaluate", inputs)
        run.record.save(run.folder.record_file)
    runs = _cells(run, data, inputs)
    comparison = compare(
        runs,
        data.test.labels,
        data.test.patient_ids,
        data.test.class_names,
        bootstrap=config.evaluate.bootstrap,
        confidence=config.evaluate.confidence,
        seed=config.seed,
    )
    write_text(run.folder.evaluate / "comparison.md", comparison.to_markdown())
    write_text(run.folder.evaluate / "comparison.csv", comparison.to_csv())
    _write_clinical(run, data, runs)
    write_json(table, comparison.to_dict())
    run.note("evaluate", inputs, cells=len(runs))
    return comparison


def _write_clinical(run: Run, data: Prepared, runs: list[ArmRun]) -> None:
    """Leave the clinical statistics and the reporting checklists beside the comparison."""
    config = run.config.evaluate
    settings = ClinicalSettings(
        reference="full" if "full" in config.arms else config.arms[0],
        bootstrap=config.bootstrap,
        confidence=config.confidence,
        seed=run.config.seed,
    )
    result = clinical_comparison(
        runs,
        data.test.labels.numpy(),
        data.test.patient_ids,
        data.test.class_names,
        settings=settings,
        val_labels=data.val.labels.numpy(),
        subgroups={"site": data.test.sites} if any(data.test.sites) else None,
    )
    write_json(run.folder.evaluate / "clinical.json", result)
    write_text(run.folder.evaluate / "checklist.md", checklist(run.record, result))


def cell_file(run: Run, arm: str, architecture: str) -> Path:
    """Return the file of one cell of the comparison."""
    return run.folder.evaluate / "cells" / f"{arm}-{architecture}.safetensors"


def _cells(run: Run, data: Prepared, inputs: str) -> list[ArmRun]:
    config, runs = run.config, []
    distilled = {
        method: DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")
        for method in config.evaluate.arms
        if method in METHODS
    }
    val, test = (data.normalisation.apply(split.images) for split in (data.val, data.test))
    pieces = len(config.evaluate.architectures) * len(config.evaluate.arms)
    for architecture in config.evaluate.architectures:
        network = dataclasses.replace(config.network, name=architecture)
        for name in config.evaluate.arms:
            file = cell_file(run, name, architecture)
            kept = _kept_cell(file, inputs)
            if kept is not None:
                say(run.progress, f"evaluate {name} {architecture}: finished before, kept")
                runs.append(kept)
                continue
            arm = make_arm(name, config, data, distilled)
            arm = dataclasses.replace(arm, info={**arm.info, "inputs": inputs})
            with run.bar(f"evaluate {name} {architecture}", 0, "network", (len(runs), pieces)) as bar:
                cell = run_arm(
                    arm,
                    network=network,
                    val_images=val,
                    val_labels=data.val.labels,
                    test_images=test,
                    num_classes=data.train.num_classes,
                    networks=config.evaluate.networks,
                    seed=config.seed,
                    on_network=bar.at,
                )
            cell.save(file)
            runs.append(cell)
    return runs


def _kept_cell(file: Path, inputs: str) -> ArmRun | None:
    try:
        kept = ArmRun.load(file)
    except IngestError:
        return None
    return kept if kept.info.get("inputs") == inputs else None
