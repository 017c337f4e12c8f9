"""The first honest table: real, chosen, MTT and IADD images on covid-cxr at 64 x 64, and the ablation of W.

    python -m benchmarks.covid_cxr experts  --data DIR --work DIR [--shard i/n]
    python -m benchmarks.covid_cxr ablation --data DIR --work DIR [--shard i/n]
    python -m benchmarks.covid_cxr table    --data DIR --work DIR [--shard i/n]
    python -m benchmarks.covid_cxr collect  --data DIR --work DIR

Every cell is one file below the work folder; a stopped command goes on where it was, and n processes with
`--shard` share the cells. A cell that other settings left in the folder is refused. `ablation` looks at validation
only. `table` predicts the test split, once for each cell; its labels are read by `collect`, which chooses nothing and
writes the JSON files that the README's tables are made from.

Seeds are paired: with one seed, all methods share the start noise, the drawn segments, batches and
augmentation, and the evaluation networks' weights. All seeds share one pool of experts, so no interval covers the
variance across expert pools. The table's seeds are those that the ablation chose W on: at its ipc the chosen W was the
best of six on validation.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from medidistill.config import AugmentConfig, DistillConfig, ImportanceConfig, RunConfig, as_dict, with_settings
from medidistill.distillation import Callbacks, DistillProblem, distill, train_experts
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import ArmRun, compare, run_arm
from medidistill.evaluate.intervals import paired_t_interval
from medidistill.files import sha256_file, write_json
from medidistill.ingest import ingest
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import load_config
from medidistill.pipeline.comparison.arms import make_arm, method_config, validation_score
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions
from medidistill.results.history import HistoryEntry

HERE = Path(__file__).parent
CONFIG = HERE / "covid_cxr.yaml"
SEEDS = range(5)
IPC = (1, 5, 10)
ABLATION_IPC = 5
FULL_NETWORKS = 2  # on each seed
SCORED_NETWORKS = 10
# (constraint, direction) of learned weights; `none` with `ascend` is refused: W has no bound there
LEARNED = {
    "unit_mean_square-descend": ImportanceConfig(constraint="unit_mean_square", direction="descend"),
    "unit_mean_square-ascend": ImportanceConfig(constraint="unit_mean_square", direction="ascend"),
    "none-descend": ImportanceConfig(constraint="none", direction="descend"),
    "balanced-descend": ImportanceConfig(constraint="balanced", direction="descend"),
    "fisher": ImportanceConfig(start="fisher", lr=0.0, direction="descend"),
    "fisher-descend": ImportanceConfig(start="fisher", direction="descend"),
}
VARIANTS = {
    f"{granularity}-{name}": with_settings(importance, {"granularity": granularity})
    for granularity, (name, importance) in itertools.product(("tensor", "element"), LEARNED.items())
}
BFLOAT16 = "mtt-bfloat16"  # what rounding the tangents costs in accuracy, beside what W changes
ABLATION = ("mtt", BFLOAT16, *VARIANTS)


class Bench:
    """The work folder, the data and the settings that all cells share."""

    def __init__(self, data: Path, work: Path, shard: tuple[int, int], device: str) -> None:
        self.work, self.shard, self.device = work, shard, device
        self.compile: Literal["on", "off"] = (
            "on" if device == "cpu" else "off"
        )  # replayed kernels of a small network need no compiler
        self.config = load_config(CONFIG)
        self.data = self._prepare(data)

    def _prepare(self, source: Path) -> PreparedData:
        folder = self.work / f"prepared-{self.shard[0]}"
        if not (folder / "train.safetensors").is_file():
            return PreparedData.write(ingest(source, self.config.ingest, progress=True), folder)
        return PreparedData.read(folder)

    def with_cell(self, ipc: int, seed: int, importance: ImportanceConfig | None = None) -> RunConfig:
        """Return the run configuration of one cell."""
        settings = dataclasses.replace(
            self.config.distill, ipc=ipc, importance=importance or self.config.distill.importance
        )
        return dataclasses.replace(self.config, seed=seed, distill=settings)

    def mine(self, cells: Iterator[Any]) -> Iterator[Any]:
        """Return this shard's share of the cells."""
        return itertools.islice(cells, self.shard[0], None, self.shard[1])

    def experts(self) -> list[Path]:
        """Train the pool of experts, or this shard of it."""
        images, labels = self.data.training_tensors()
        return train_experts(
            images.to(self.device),
            labels.to(self.device),
            num_classes=self.data.train.num_classes,
            network=self.config.network,
            config=self.config.experts,
            seed=0,
            folder=self.work / "experts",
            on_epoch=lambda done, total: print(f"experts: epoch {done}/{total}", file=sys.stderr, flush=True),
            compile=self.compile,
            shard=self.shard,
        )

    def expert_files(self) -> list[Path]:
        """Return the whole pool."""
        files = sorted((self.work / "experts").glob("expert-*.safetensors"))
        if len(files) < self.config.experts.count:
            raise SystemExit(f"{len(files)} of {self.config.experts.count} experts in {self.work}: run `experts` first")
        return files

    def distilled(self, name: str, run: RunConfig) -> DistilledSet:
        """Return a distilled set, distilling it first where it is not there yet."""
        method = _method(name)
        folder = self.work / "distilled" / f"{name}-ipc{run.distill.ipc}-seed{run.seed}"
        file = folder / "distilled.safetensors"
        settings = dataclasses.replace(method_config(run, method), compile=self.compile)
        if not file.is_file():

            def show(entry: HistoryEntry) -> None:
                if "score" in entry:
                    line = f"{folder.name}: step {entry['step']} loss {entry['loss']:.3f} score {entry['score']:.3f}"
                    print(line, file=sys.stderr, flush=True)

            distill(
                DistillProblem(
                    self.expert_files(),
                    class_names=self.data.train.class_names,
                    normalisation=self.data.normalisation,
                    training=run.evaluate.small_set_training,
                    seed=run.seed,
                    real=self.data.training_tensors() if settings.requires_real else None,
                    expert_training=run.experts,
                ),
                settings,
                callbacks=Callbacks(
                    score=validation_score(run, self.data, compile=self.compile == "on", device=self.device),
                    on_step=show,
                ),
                folder=folder,
                resume=True,
                device=self.device,
            )
        made = DistilledSet.load(file)
        if _settings_of(made) != _settings(settings) or made.training != dataclasses.replace(
            run.evaluate.small_set_training, lr=made.alpha
        ):
            raise SystemExit(f"{file}: made with other settings; delete {folder} and the cells scored from it")
        return made

    def cell(self, name: str, arm: str, run: RunConfig, distilled: dict[str, DistilledSet], *, test: bool) -> ArmRun:
        """Return one evaluated cell, from its file or by training its networks."""
        where = "full" if arm == "full" else f"ipc{run.distill.ipc}"
        file = self.work / ("test" if test else "val") / f"{name}-{where}-seed{run.seed}.safetensors"
        networks = FULL_NETWORKS if arm == "full" else SCORED_NETWORKS
        made = make_arm(arm, run, self.data, distilled)
        if file.is_file():
            kept = ArmRun.load(file)
            if kept.chosen not in made.candidates or len(kept.val_balanced_accuracy) != networks:
                raise SystemExit(f"{file}: made with other settings; delete it and run again")
            return kept
        norm, val = self.data.normalisation, self.data.val
        result = run_arm(
            made.to(self.device),
            network=run.network,
            val_images=norm.apply(val.images).to(self.device),
            val_labels=val.labels,
            test_images=norm.apply(self.data.test.images).to(self.device) if test else None,
            num_classes=val.num_classes,
            networks=networks,
            seed=run.seed,
            compile=self.compile == "on",
        )
        result.save(file)
        print(f"{file.stem}: validation {result.val_score:.3f}", file=sys.stderr, flush=True)
        return result

    def ablation_cells(self) -> Iterator[tuple[int, str]]:
        """Yield (seed, variant), all variants of a seed together."""
        yield from itertools.product(SEEDS, ABLATION)

    def ablate(self, seed: int, variant: str) -> ArmRun:
        """Return one cell of the ablation; the test split stays closed."""
        run = self.with_cell(ABLATION_IPC, seed, VARIANTS.get(variant))
        arm = _method(variant)
        if variant == BFLOAT16:
            run = dataclasses.replace(run, distill=dataclasses.replace(run.distill, precision="bfloat16"))
        return self.cell(variant, arm, run, {arm: self.distilled(variant, run)}, test=False)

    def _ablated(self, seed: int, variant: str) -> Path:
        return self.work / "val" / f"{variant}-ipc{ABLATION_IPC}-seed{seed}.safetensors"

    def table_cells(self) -> Iterator[tuple[int, int, str]]:
        """Yield (ipc, seed, arm); ipc 0 stands for all real data."""
        yield from ((0, seed, "full") for seed in SEEDS)
        yield from itertools.product(IPC, SEEDS, ("random", "kmeans", "mtt", "iadd"))

    def tabulate(self, ipc: int, seed: int, arm: str) -> ArmRun:
        """Return one cell of the table, scored on the test split."""
        run = self.with_cell(ipc or 1, seed)
        chosen = run.distill.importance
        variant = next((name for name, one in VARIANTS.items() if one == chosen), "iadd") if arm == "iadd" else arm
        sets = {arm: self.distilled(variant, run)} if arm in ("mtt", "iadd") else {}
        return self.cell(arm, arm, run, sets, test=True)

    def provenance(self) -> dict[str, Any]:
        """Return what a result must state beside its figures."""
        return {
            "command": "python " + shlex.join(["-m", "benchmarks.covid_cxr", "collect"]),
            "config": as_dict(self.config),
            "data_digest": self.data.digest,
            "hardware": hardware(),
            "versions": versions(),
            "seeds": list(SEEDS),
            "experts": len(self.expert_files()),
            "networks_per_seed": {"full": FULL_NETWORKS, "other arms": SCORED_NETWORKS},
        }

    def ablated_seeds(self, variant: str) -> list[int]:
        """Return the seeds that a variant was run with: one that lags far behind after three gets no more."""
        return [seed for seed in SEEDS if self._ablated(seed, variant).is_file()]

    def collect_ablation(self) -> dict[str, Any]:
        """Return validation scores of each variant and the difference to MTT, paired over the seeds it was run with."""
        base = {seed: self.ablate(seed, "mtt").val_score for seed in self.ablated_seeds("mtt")}
        rows = []
        for name in ABLATION:
            seeds = [seed for seed in self.ablated_seeds(name) if seed in base]
            if not seeds:
                continue
            enough = len(seeds) > 1
            scores = [self.ablate(seed, name).val_score for seed in seeds]
            differences = np.array(scores) - np.array([base[seed] for seed in seeds])
            rows.append(
                {
                    "variant": name,
                    "seeds": seeds,
                    "val_balanced_accuracy": float(np.mean(scores)),
                    "sd_over_seeds": float(np.std(scores, ddof=1)) if enough else None,
                    "by_seed": scores,
                    "minus_mtt": vars(paired_t_interval(differences)) if enough and name != "mtt" else None,
                    "mean_minus_mtt": float(differences.mean()),
                }
            )
        return {**self.provenance(), "ipc": ABLATION_IPC, "rows": rows}

    def collect_table(self) -> dict[str, Any]:
        """Return one comparison for each ipc, each with the full-data arm."""
        test, result = self.data.test, {}
        full = [self.tabulate(0, seed, "full") for seed in SEEDS]
        for ipc in IPC:
            runs = [self.tabulate(ipc, seed, arm) for arm in ("random", "kmeans", "mtt", "iadd") for seed in SEEDS]
            comparison = compare(
                [*full, *runs],
                test.labels,
                test.patient_ids,
                test.class_names,
                bootstrap=self.config.evaluate.bootstrap,
                confidence=self.config.evaluate.confidence,
            )
            by_seed = {
                arm: [run.val_score for run in runs if run.arm == arm] for arm in ("random", "kmeans", "mtt", "iadd")
            }
            result[str(ipc)] = {"comparison": comparison.to_dict(), "validation_by_seed": by_seed}
        scored = {file.stem: sha256_file(file) for file in sorted((self.work / "test").glob("*.safetensors"))}
        return {**self.provenance(), "notice": self.config.notice, "ipc": result, "test_scored_by": scored}


def _method(variant: str) -> str:
    return "mtt" if variant in ("mtt", BFLOAT16) else "iadd"


def _settings(config: DistillConfig) -> DistillConfig:
    """Return the settings that decide a set: with W off, how it would have been learned does not."""
    decisive = dataclasses.replace(config, compile="auto")
    return (
        decisive
        if config.importance.enabled
        else dataclasses.replace(decisive, importance=ImportanceConfig(enabled=False))
    )


def _settings_of(made: DistilledSet) -> DistillConfig:
    plain = dict(made.recipe["distill"])
    parts = {"importance": ImportanceConfig(**plain["importance"]), "augment": AugmentConfig(**plain["augment"])}
    return _settings(DistillConfig(**(plain | parts)))


def _shard(text: str) -> tuple[int, int]:
    i, n = map(int, text.split("/"))
    return i, n


def main() -> None:
    """Run one stage of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("experts", "ablation", "table", "collect"))
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv and the images")
    parser.add_argument("--work", type=Path, required=True, help="folder of the cells; kept between calls")
    parser.add_argument("--shard", type=_shard, default=(0, 1), metavar="i/n", help="do every n-th cell from i on")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    options = parser.parse_args()
    raise_malloc_thresholds()
    torch.set_num_threads(1)
    bench = Bench(options.data, options.work, options.shard, options.device)
    if options.stage == "experts":
        bench.experts()
    elif options.stage == "ablation":
        for seed, variant in bench.mine(bench.ablation_cells()):
            bench.ablate(seed, variant)
    elif options.stage == "table":
        for ipc, seed, arm in bench.mine(bench.table_cells()):
            bench.tabulate(ipc, seed, arm)
    else:
        write_json(HERE / "results" / "covid_cxr.json", bench.collect_table())
        if bench.ablated_seeds("mtt"):
            write_json(HERE / "results" / "covid_cxr_ablation.json", bench.collect_ablation())


if __name__ == "__main__":
    main()
