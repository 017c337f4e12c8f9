"""The stages in order. Each knows the digest of what went in, and is skipped where that has been done.

Every function takes the `Run`, does its work below the run folder, and notes itself in the record.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from medidistill.config import RunConfig, digest
from medidistill.distill import distill as distill_images
from medidistill.distill import train_experts
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, DivergedError, IngestError
from medidistill.evaluate import ArmRun, Comparison, compare, run_arm
from medidistill.export import write_bundle
from medidistill.files import read_json, translate_os_errors, write_json, write_text
from medidistill.ingest import ingest as read_images
from medidistill.pipeline.arms import (
    check_ipc,
    make_arm,
    method_config,
    methods,
    shipped_training,
    validation_score,
)
from medidistill.pipeline.prepared import Prepared, private_folder
from medidistill.pipeline.progress import Bar, say
from medidistill.pipeline.run_folder import RunFolder
from medidistill.pipeline.stopping import Stop
from medidistill.record import RunRecord

__all__ = ["Run", "distill", "evaluate", "experts", "export", "ingest", "report"]

_SOURCE = "source.json"


@dataclasses.dataclass
class Run:
    """One run in work.

    Args:
        folder: where it writes.
        config: its resolved configuration.
        record: what it has done so far.
        stop: how it is asked to stop.
        progress: draw bars and say what is done on stderr.
    """

    folder: RunFolder
    config: RunConfig
    record: RunRecord
    stop: Stop
    progress: bool = True

    def data(self) -> Prepared:
        """Return the prepared images. Raises `ConfigError` when `ingest` has not finished."""
        self.require("ingest", "medidistill ingest")
        return Prepared.read(self.folder.ingest)

    def require(self, stage: str, command: str) -> str:
        """Return the digest of a finished stage, or say which command comes first."""
        if stage not in self.record.stages:
            raise ConfigError(f"{self.folder.path}: stage {stage} has not finished; run `{command}` first")
        return str(self.record.stages[stage]["inputs"])

    def finished(self, stage: str, inputs: str, *outputs: Path) -> bool:
        """Whether `stage` was done with the same inputs and its files are there."""
        done = self.record.stages.get(stage, {}).get("inputs") == inputs and all(path.exists() for path in outputs)
        if done:
            say(self.progress, f"{stage}: finished before, kept")
        return done

    def note(self, stage: str, inputs: str, **facts: Any) -> None:
        """Write into the record that `stage` has finished."""
        self.record.stage(stage, inputs=inputs, **facts)
        self.record.save(self.folder.record_file)
        self.stop.check()


def ingest(run: Run, source: Path | None) -> None:
    """Read, split and prepare the images of `source`; `None` continues with the source of the first call."""
    folder, inputs = run.folder.ingest, digest("ingest", run.config.ingest)
    note = folder / _SOURCE
    before = Path(read_json(note)["source"]) if note.is_file() else None
    if source is None and before is None:
        raise ConfigError(f"{run.folder.path}: nothing was read yet; name the images with --input")
    if source is not None and before is not None and source.resolve() != before:
        raise ConfigError(f"--input {source}: this run was started with {before}; use that, or another --output")
    if run.finished("ingest", inputs, folder / "train.safetensors"):
        return
    source = source.resolve() if source is not None else before
    assert source is not None
    say(run.progress, f"ingest: reading {source}")
    private_folder(folder)
    write_json(note, {"source": str(source)}, mode=0o600)
    cache = private_folder(folder / "cache") if run.config.ingest.cache == "disk" else None
    result = read_images(source, run.config.ingest, cache=cache, progress=run.progress)
    check_ipc(run.config, result.train.counts())
    data = Prepared.write(result, folder)
    counts = {split: getattr(data, split).counts() for split in ("train", "val", "test")}
    patients = {split: len(set(getattr(data, split).patient_ids)) for split in ("train", "val", "test")}
    run.note("ingest", inputs, data=data.digest, images=counts, patients=patients, quarantined=len(result.quarantine))


def experts(run: Run) -> None:
    """Train the experts on the training split; finished ones are kept."""
    data, config = run.data(), run.config
    inputs = digest("experts", data.digest, config.network, config.experts, config.seed)
    files = _expert_files(run)
    if len(files) == config.experts.count and run.finished("experts", inputs):
        return
    with Bar("experts", config.experts.count * config.experts.epochs, "epoch", run.progress) as bar:
        train_experts(
            data.normalisation.apply(data.train.images),
            data.train.labels,
            num_classes=data.train.num_classes,
            network=config.network,
            config=config.experts,
            seed=config.seed,
            folder=run.folder.experts,
            on_epoch=bar.at,
        )
    run.note("experts", inputs, files=config.experts.count)


def _expert_files(run: Run) -> list[Path]:
    return sorted(run.folder.experts.glob("expert-*.safetensors"))[: run.config.experts.count]


def distill(run: Run, method: str) -> None:
    """Distil with `method`, continuing from its checkpoint. Raises `DivergedError` when it cannot be finished."""
    config = method_config(run.config, method)
    basis = run.require("experts", "medidistill experts")
    data, seed, stage = run.data(), run.config.seed, f"distill/{method}"
    small = run.config.evaluate.small
    inputs = digest("distill", method, basis, config, small, seed)
    folder = run.folder.distill(method)
    if run.finished(stage, inputs, folder / "distilled.safetensors"):
        return
    resume = _claim(folder, inputs)
    train = data.train
    real = (data.normalisation.apply(train.images), train.labels) if config.init == "real" else None
    with Bar(f"distill {method}", config.outer_steps, "step", run.progress) as bar, run.stop.deferred():

        def on_step(entry: dict[str, Any]) -> None:
            bar.at(int(entry["step"]), config.outer_steps, **_shown(entry))
            run.stop.check()

        result = distill_images(
            _expert_files(run),
            config,
            class_names=train.class_names,
            normalisation=data.normalisation,
            training=small,
            seed=seed,
            folder=folder,
            resume=resume,
            score=validation_score(run.config, data),
            on_step=on_step,
            real=real,
            recipe={"method": method, "data": data.digest, "image_size": run.config.ingest.image_size},
        )
    if result.status != "completed":
        raise DivergedError(
            f"distill {method}: {result.status} after step {len(result.history)}; lower distill.lr_images "
            f"or distill.alpha (the last good set is in {folder})"
        )
    run.note(stage, inputs, best_step=result.best_step, alpha=result.distilled.alpha)


def _claim(folder: Path, inputs: str) -> bool:
    """Make `folder` belong to `inputs`: keep a matching checkpoint (True), clear what another configuration left."""
    note = folder / "inputs.json"
    if note.is_file() and read_json(note).get("inputs") == inputs:
        return True
    with translate_os_errors(folder):
        shutil.rmtree(folder, ignore_errors=False) if folder.is_dir() else None
    write_json(note, {"inputs": inputs})
    return False


def _shown(entry: dict[str, Any]) -> dict[str, str]:
    shown = {"loss": f"{entry['loss']:.4f}", "alpha": f"{entry['alpha']:.4f}"}
    if entry.get("score") is not None:
        shown["score"] = f"{entry['score']:.3f}"
    return shown


def evaluate(run: Run) -> Comparison:
    """Train fresh networks on every arm, score the test split, compare. Finished cells are kept."""
    config, data = run.config, run.data()
    wanted = [arm for arm in config.evaluate.arms if arm in ("mtt", "iadd")]
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
    write_json(table, comparison.to_dict())
    run.note("evaluate", inputs, cells=len(runs))
    return comparison


def cell_file(run: Run, arm: str, architecture: str) -> Path:
    """Return the file of one cell of the comparison."""
    return run.folder.evaluate / "cells" / f"{arm}-{architecture}.safetensors"


def _cells(run: Run, data: Prepared, inputs: str) -> list[ArmRun]:
    config, runs = run.config, []
    distilled = {
        method: DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")
        for method in config.evaluate.arms
        if method in ("mtt", "iadd")
    }
    val, test = (data.normalisation.apply(split.images) for split in (data.val, data.test))
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
            with Bar(f"evaluate {name} {architecture}", 0, "network", run.progress) as bar:
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


def export(run: Run) -> Path:
    """Write the bundle of the run's method, with the training that validation chose."""
    method = methods(run.config)[-1]
    basis = run.require("evaluate", "medidistill evaluate")
