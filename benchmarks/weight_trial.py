"""Which importance weights help: a screen of all of them at equal outer steps.

    python -m benchmarks.weight_trial run --data $MEDIDISTILL_DATA/covid-cxr --work work/weight-trial
    python -m benchmarks.weight_trial collect --work work/weight-trial

`--family parameters` weighs network parameters in trajectory matching from noise, `--family warm` in trajectory
matching that begins with the packed set of snapshot matching and its labels, `--family features` the features whose
class means snapshot matching compares. Each family needs a work folder of its own; experts may be linked.

A cell is one set: pool of experts x images per class x weighting x seed, and one JSON file. `run` goes on with the
cells that are missing; `--shard i/n` takes each n-th of them. Cells of one pool, number of images and seed share the
start of the images, the segments and the networks that score them, so that a difference is of the weighting. The set of
the last outer step is scored as it is, by the mean balanced accuracy on *validation* of fresh networks, trained by two
fixed recipes: `adaptive` (AdamW, the primary one) and, where alpha is learned, `own` (SGD at alpha). The test split is
not read.

`collect` writes benchmarks/results/weight_trial.json (`weight_trial_features.json`): for each weighting and number of
images the mean over pairs of pool and seed, its difference from no weights (`mtt`, `snapshots`) with Student's interval
over those pairs, and p values after Holm's correction over all weightings at that number of images. A set that diverged
counts as chance; rows that lose are kept. What is done with it: docs/weight-trial.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.matching_limits import prepared
from benchmarks.paper_results import holm, paired
from benchmarks.trained import trained
from benchmarks.weightings import FAMILIES, Family
from medidistill.config import DistillConfig, RunConfig, as_dict, with_settings
from medidistill.distillation import DistillProblem, DistillResult, DistillStatus, distill, train_experts
from medidistill.distilled_set import DistilledSet
from medidistill.errors import DivergedError
from medidistill.evaluate import Arm
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import load_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

HERE = Path(__file__).parent
CONFIG = HERE / "weight_trial.yaml"
PRIMARY = "adaptive"
FROZEN = {"frozen_same_pool": 0, "frozen_other_pool": 1}  # weighting -> how many pools further its W was learned
DONOR_SEED = 90  # of the sets whose W is frozen
CHANCE = 1 / 3  # balanced accuracy of a set that diverged, for three classes


@dataclasses.dataclass(frozen=True)
class Cell:
    """One distilled set."""

    pool: int
    ipc: int
    weighting: str
    seed: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"pool{self.pool}-ipc{self.ipc}-{self.weighting}-seed{self.seed}"


def cells(pools: int, sizes: Sequence[int], weightings: Sequence[str], seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield all cells, all weightings of a pool, number of images and seed together."""
    for seed, pool, ipc, weighting in itertools.product(seeds, range(pools), sizes, weightings):
        yield Cell(pool, ipc, weighting, seed)


class Trial:
    """The trial in a work folder.

    Args:
        config: experts, distillation, networks and recipes that all cells share.
        data: images; training and validation are used.
        work: folder of experts and cells.
        family: what is compared.
        pool_seed: seed of pool 0; others follow.
        keeps_sets: keep every set, not those of the base alone.
    """

    def __init__(
        self,
        config: RunConfig,
        data: PreparedData,
        work: Path,
        family: Family,
        *,
        pool_seed: int = 1000,
        keeps_sets: bool = False,
    ) -> None:
        self.config, self.data, self.work, self.family = config, data, work, family
        self.pool_seed, self.keeps_sets = pool_seed, keeps_sets
        self.real = data.training_tensors()

    def experts(self, pool: int) -> list[Path]:
        """Train a pool, or name its files."""
        return train_experts(
            *self.real,
            num_classes=self.data.train.num_classes,
            network=self.config.network,
            config=self.config.experts,
            seed=self.pool_seed + pool,
            folder=self.work / f"pool-{pool}",
        )

    def run(self, cell: Cell) -> dict[str, Any]:
        """Return a cell, from its file or by doing the work."""
        file = self.work / "cells" / f"{cell.name}.json"
        if file.is_file():
            found: dict[str, Any] = read_json(file)
            return found
        result, settings = self.distilled(cell)
        found = {**dataclasses.asdict(cell), "status": result.status.value}
        if result.status is DistillStatus.COMPLETED:
            found |= {
                "loss": result.history[-1]["loss"],
                "alpha": result.distilled.alpha,
                "seconds": sum(float(entry["seconds"]) for entry in result.history),
                "validation": self._scores(result.distilled, cell.seed, own=settings.learns_alpha),
            }
        write_json(file, found)
        return found

    def distilled(self, cell: Cell) -> tuple[DistillResult, DistillConfig]:
        """Make the set of a cell; return what came out, and its settings."""
        settings = with_settings(self.config.distill, {"ipc": cell.ipc, "validate_every": 0})
        settings = with_settings(settings, self.family.weightings[cell.weighting])
        problem = DistillProblem(
            self.experts(cell.pool),
            class_names=self.data.train.class_names,
            normalisation=self.data.normalisation,
            training=self.config.evaluate.small_set_training,
            seed=cell.seed,
            real=self.real if settings.requires_real else None,
            start=self._start(cell) if settings.start_from else None,
            expert_training=self.config.experts,
            weights=self.donor(cell).importance if cell.weighting in FROZEN else None,
        )
        result = distill(problem, settings)
        kept = self.keeps_sets or cell.weighting == self.family.base or cell.seed >= DONOR_SEED
        if kept and result.status is DistillStatus.COMPLETED:
            result.distilled.save(self.set_file(cell))
        return result, settings

    def set_file(self, cell: Cell) -> Path:
        """Return the file of a cell's set."""
        folder = self.work / "sets"
        folder.mkdir(exist_ok=True)
        return folder / f"{cell.name}.safetensors"

    def _start(self, cell: Cell) -> DistilledSet:
        """Return the base's set of the same pool, number of images and seed, made now where it is not there."""
        return self._kept(dataclasses.replace(cell, weighting=self.family.base))

    def donor(self, cell: Cell, further: int = 0) -> DistilledSet:
        """Return the set whose W a cell takes over, made now where it is not there; `further`: seeds past the first."""
        pool = (cell.pool + FROZEN[cell.weighting]) % 2
        return self._kept(Cell(pool, cell.ipc, "hypergradient", DONOR_SEED + further))

    def _kept(self, cell: Cell) -> DistilledSet:
        if not self.set_file(cell).is_file():
            self.distilled(cell)
        return DistilledSet.load(self.set_file(cell))

    def _scores(self, distilled: DistilledSet, seed: int, *, own: bool) -> dict[str, list[float | None]]:
        """Return the balanced accuracy on validation of every network, by recipe; None where they diverged."""
        rules = self.config.evaluate
        recipes = {PRIMARY: rules.adaptive.plain_training()}
        if own:
            recipes["own"] = dataclasses.replace(
                rules.small_set_training, lr=distilled.alpha, momentum=0.0, schedule="constant"
            )
        found: dict[str, list[float | None]] = {}
        for name, training in recipes.items():
            try:
                arm = Arm("set", distilled.images, distilled.targets, (training,))
                run = trained(arm, self.config.network, self.data, rules.num_networks, seed)
                found[name] = list(run.val_balanced_accuracy)
            except DivergedError:
                found[name] = [None] * rules.num_networks
        return found


def differences(
    found: Sequence[Mapping[str, Any]], recipe: str = PRIMARY, family: Family = FAMILIES["parameters"]
) -> list[dict[str, Any]]:
    """Return a row for each weighting and number of images.

    Args:
        found: cells.
        family: what was compared.
        recipe: training whose scores count.
    """
    scores: dict[tuple[int, str], dict[int, float]] = defaultdict(dict)
    lost: dict[tuple[int, str], int] = defaultdict(int)
    for cell in found:
        key, values = (cell["ipc"], cell["weighting"]), cell.get("validation", {}).get(recipe, [None])
        diverged = any(value is None for value in values)
        lost[key] += diverged
        scores[key][1000 * cell["pool"] + cell["seed"]] = CHANCE if diverged else float(np.mean(values))
    rows: list[dict[str, Any]] = []
    for ipc in sorted({key[0] for key in scores}):
        compared = []
        for weighting in family.weightings:
            own, base = scores.get((ipc, weighting), {}), scores.get((ipc, family.base), {})
            if not own:
                continue
            row: dict[str, Any] = {
                "ipc": ipc,
                "weighting": weighting,
                "pairs": len(own.keys() & base.keys()),
                "diverged": lost[ipc, weighting],
                "mean": float(np.mean(list(own.values()))),
                "minus_base": None if weighting == family.base else paired(own, base),
            }
            pools = sorted({key // 1000 for key in own.keys() & base.keys()})
            row["by_pool"] = [
                float(np.mean([own[key] - base[key] for key in own.keys() & base.keys() if key // 1000 == pool]))
                for pool in pools
            ]
            compared.append(row)
        rivals = [row for row in compared if row["minus_base"] is not None]
        for row, p in zip(rivals, holm([row["minus_base"]["p"] for row in rivals]), strict=True):
            row["adjusted"] = p
        rows += compared
    return rows


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result."""
    lines = [
        f"| images per class | weighting | pairs | balanced accuracy | minus `{result['base']}` (95 %) | p, Holm |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        gap = row["minus_base"]
        ends = "" if gap is None or gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        minus = "" if gap is None else f"{gap['estimate']:+.3f}{ends}"
        p = "" if row.get("adjusted") is None else f"{row['adjusted']:.2f}"
        lines.append(f"| {row['ipc']} | {row['weighting']} | {row['pairs']} | {row['mean']:.3f} | {minus} | {p} |")
    return "\n".join(lines)


def collect(work: Path, config: RunConfig, name: str) -> dict[str, Any]:
    """Return what the finished cells say."""
    found, family = [read_json(file) for file in sorted((work / "cells").glob("*.json"))], FAMILIES[name]
    own = [cell for cell in found if "own" in cell.get("validation", {"own": []})]
    command = ["python", "-m", "benchmarks.weight_trial", "collect", "--family", name, "--work", "WORK"]
    return {
        "base": family.base,
        "rows": differences(found, family=family),
        "rows_own_recipe": differences(own, "own", family),
        "cells": found,
        "config": as_dict(config),
        "weightings": {weighting: dict(settings) for weighting, settings in family.weightings.items()},
        "command": shlex.join(command),
        "hardware": hardware(),
        "versions": versions(),
    }


def main() -> None:
    """Run cells, or collect them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "collect"))
    parser.add_argument("--data", type=Path, help="folder of covid-cxr (run)")
    parser.add_argument("--work", type=Path, required=True, help="folder of experts and cells")
    parser.add_argument("--pools", type=int, default=2)
    parser.add_argument("--ipc", default="1,5,10", help="images per class, by commas")
    parser.add_argument("--seeds", default="0-7", help="first and last seed")
    parser.add_argument("--family", choices=tuple(FAMILIES), default="parameters", help="what the weights are on")
    parser.add_argument("--weightings", default="", help="by commas (default: all of the family)")
    parser.add_argument("--shard", default="0/1", help="i/n: take each n-th cell, from the i-th")
    options = parser.parse_args()
    raise_malloc_thresholds()
    config, family = load_config(CONFIG), FAMILIES[options.family]
    if options.command == "collect":
        result = collect(options.work, config, options.family)
        write_json(family.result, result)
        print(table(result))
        return
    if options.data is None:
        parser.error("run needs --data")
    data = prepared(options.data, options.work, config.ingest.image_size)
    first, last = map(int, options.seeds.split("-"))
    wanted = cells(
        options.pools,
        [int(one) for one in options.ipc.split(",")],
        options.weightings.split(",") if options.weightings else tuple(family.weightings),
        range(first, last + 1),
    )
    index, count = map(int, options.shard.split("/"))
    trial = Trial(config, data, options.work, family)
    for cell in itertools.islice(wanted, index, None, count):
        found = trial.run(cell)
        print(cell.name, found["status"], found.get("validation", {}).get(PRIMARY), flush=True)


if __name__ == "__main__":
    main()
