"""Final comparisons of weightings: equal wall time for every arm, fresh pools and seeds, the test split opened once.

    python -m benchmarks.weight_final calibrate --comparison plateau --data $MEDIDISTILL_DATA --work work/plateau
    python -m benchmarks.weight_final run --comparison plateau --data $MEDIDISTILL_DATA --work work/plateau
    python -m benchmarks.weight_final open --comparison plateau --data $MEDIDISTILL_DATA --work work/plateau

`calibrate` takes some outer steps of every arm on a quiet machine and writes how many fit into the comparison's wall
time; `run` makes the sets, whose last step counts as it is, trains networks on each and keeps their predictions;
`open` compares these with the labels of test and writes the comparison's JSON file. It refuses while a set is missing,
and a second time: the test split is opened once. What is compared, and what was decided before: docs/weight-trial.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import data as benchmark_data
from benchmarks.paper_results import holm, paired
from benchmarks.trained import trained
from benchmarks.weight_trial import CONFIG, Cell, Trial
from benchmarks.weightings import FAMILIES, Family
from medidistill.config import RunConfig, as_dict
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, DivergedError
from medidistill.evaluate import Arm, ArmRun
from medidistill.evaluate.metrics import balanced_accuracy_score
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import load_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

RESULTS = Path(__file__).parent / "results"
BASE = "mtt"
CONTROL = "shuffled"
_POOLS = 2


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One final comparison.

    Args:
        result: file of its result.
        side: pixels.
        minutes: wall time of the outer steps, by images per class.
        arms: weightings, by images per class.
        seeds: first and last seed, by images per class.
        pool_seed: seed of the first of two pools of experts.
        source: set and folder of images, as `benchmarks.data` names them.
        train_images: training images that are used at most, equally many of each class; 0: all.
        eval_images: the same for validation and for test.
    """

    result: Path
    side: int
    minutes: Mapping[int, float]
    arms: Mapping[int, tuple[str, ...]]
    seeds: Mapping[int, tuple[int, int]]
    pool_seed: int
    source: tuple[str, str] = ("covid-cxr", "covid-cxr")
    train_images: int = 0
    eval_images: int = 0

    @property
    def config(self) -> RunConfig:
        """Settings that all cells share."""
        return load_config(CONFIG, [f"ingest.image_size={self.side}"])

    def prepared(self, root: Path, work: Path) -> PreparedData:
        """Return the images, kept below the work folder."""
        name, place = self.source
        return benchmark_data.prepared(
            work / "ingest",
            name,
            root / place,
            self.config.ingest,
            train_images=self.train_images,
            eval_images=self.eval_images,
        )

    def cells(self) -> list[Cell]:
        """Return all cells, those of one pair together, in the order of seeds."""
        return [
            Cell(pool, ipc, arm, seed)
            for seed in sorted({one for first, last in self.seeds.values() for one in range(first, last + 1)})
            for pool, ipc in itertools.product(range(_POOLS), self.minutes)
            if self.seeds[ipc][0] <= seed <= self.seeds[ipc][1]
            for arm in self.arms[ipc]
        ]


_SPARSE = ("mtt", "shuffled", "hypergradient_sparse", "hypergradient_tensor_sparse")
_DENSE = ("mtt", "hypergradient")
COMPARISONS: Mapping[str, Comparison] = {
    "budget": Comparison(
        RESULTS / "weight_final.json",
        64,
        {1: 1.5, 10: 3.0},
        {1: _SPARSE, 10: _SPARSE},
        {1: (100, 103), 10: (100, 101)},
        2000,
    ),
    "plateau": Comparison(
        RESULTS / "weight_final_plateau.json",
        32,
        {1: 3.0, 5: 3.0, 10: 4.0},
        dict.fromkeys((1, 5, 10), _DENSE),
        {1: (200, 202), 5: (200, 200), 10: (200, 201)},
        3000,
    ),
    "short": Comparison(
        RESULTS / "weight_final_short.json",
        32,
        {1: 0.7},
        {1: _DENSE},
        {1: (500, 502)},
        6000,
    ),
    "pneumoniamnist": Comparison(
        RESULTS / "weight_final_pneumoniamnist.json",
        28,
        {1: 1.5, 10: 2.0},
        dict.fromkeys((1, 10), _DENSE),
        {1: (300, 301), 10: (300, 301)},
        4000,
        ("pneumoniamnist.npz", "medmnist"),
        1000,
    ),
    "cifar10": Comparison(
        RESULTS / "weight_final_cifar10.json",
        32,
        {1: 2.0},
        {1: _DENSE},
        {1: (400, 401)},
        5000,
        ("cifar10-jpeg", "cifar10"),
        4000,
        2000,
    ),
}
_TIMED, _ROUNDS = 16, 3  # outer steps, after as many that are not timed; a multiple of `hypergradient_every`


def trial(config: RunConfig, data: PreparedData, work: Path, pool_seed: int, steps: Mapping[str, int]) -> Trial:
    """Return the trial of one number of images, in which each arm has its own number of outer steps."""
    known = FAMILIES["parameters"].weightings
    # compiled whatever the number of steps: calibration takes few
    timed = {arm: {**known[arm], "outer_steps": count, "compile": "on"} for arm, count in steps.items()}
    return Trial(config, data, work, Family(BASE, timed, work), pool_seed=pool_seed, keeps_sets=True)


def calibrated(config: RunConfig, data: PreparedData, work: Path, comparison: Comparison, ipc: int) -> dict[str, int]:
    """Return each arm's outer steps in the wall time, by means over steps, arms in turns, the fastest round."""
    arms = comparison.arms[ipc]
    paces: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(_ROUNDS):
        for arm in arms:
            short = trial(config, data, work, comparison.pool_seed, {arm: 2 * _TIMED})
            short.keeps_sets = False
            result, _ = short.distilled(Cell(0, ipc, arm, 99))
            paces[arm].append(statistics.fmean(float(entry["seconds"]) for entry in result.history[_TIMED:]))
    found = {arm: max(1, round(60 * comparison.minutes[ipc] / min(measured))) for arm, measured in paces.items()}
    for arm, measured in paces.items():
        print(f"{ipc} images per class, {arm}: {[round(one, 3) for one in measured]} s a step, {found[arm]} steps")
    return found


def predict(config: RunConfig, data: PreparedData, work: Path, cell: Cell) -> None:
    """Train networks on a cell's set and keep what they say of validation and test; no label of test is read."""
    file, place = _predictions(work, cell), work / "sets" / f"{cell.name}.safetensors"
    if file.is_file() or not place.is_file():
        return
    rules, distilled = config.evaluate, DistilledSet.load(place)
    arm = Arm("set", distilled.images, distilled.targets, (rules.adaptive.plain_training(),))
    with contextlib.suppress(DivergedError):
        trained(arm, config.network, data, rules.num_networks, cell.seed, compile=True, predict_test=True).save(file)


def _predictions(work: Path, cell: Cell) -> Path:
    return work / "predictions" / f"{cell.name}.safetensors"


def scored(labels: npt.NDArray[np.int64], file: Path) -> dict[str, float]:
    """Return the mean balanced accuracy of a cell's networks on validation and test; chance where there are none."""
    if not file.is_file():
        return dict.fromkeys(("validation", "test"), 1 / len(np.unique(labels)))
    run = ArmRun.load(file)
    assert run.test_probabilities is not None
    test = [balanced_accuracy_score(labels, one) for one in run.test_probabilities]
    return {"validation": run.val_score, "test": float(np.mean(test))}


def rows(cells: Sequence[Mapping[str, Any]], split: str) -> list[dict[str, Any]]:
    """Return a row for each arm and number of images: its mean, and its difference from w = 1 and from the control."""
    scores: dict[tuple[int, str], dict[int, float]] = {}
    for cell in cells:
        scores.setdefault((cell["ipc"], cell["weighting"]), {})[1000 * cell["pool"] + cell["seed"]] = cell[split]
    found: list[dict[str, Any]] = []
    for (ipc, arm), own in sorted(scores.items()):
        row: dict[str, Any] = {
            "ipc": ipc,
            "weighting": arm,
            "pairs": len(own),
            "mean": float(np.mean(list(own.values()))),
        }
        for name, other in (("minus_base", BASE), ("minus_control", CONTROL)):
            row[name] = paired(own, scores[ipc, other]) if arm != other and (ipc, other) in scores else None
        found.append(row)
    compared = [row for row in found if row["minus_base"] is not None and row["weighting"] != CONTROL]
    for row, p in zip(compared, holm([row["minus_base"]["p"] for row in compared]), strict=True):
        row["adjusted"] = p
    return found


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result."""
    controlled = any(row["minus_control"] is not None for row in result["test"])
    heads = ["images per class", "weighting", "outer steps", "pairs", "validation", "test"]
    heads += ["test, minus w = 1 (95 %)", "p, Holm", *(["test, minus shuffled"] if controlled else [])]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    on_validation = {(row["ipc"], row["weighting"]): row["mean"] for row in result["validation"]}
    for row in result["test"]:
        key = row["ipc"], row["weighting"]
        p = "" if row.get("adjusted") is None else f"{row['adjusted']:.3f}"
        steps = result["steps"][str(row["ipc"])][row["weighting"]]
        cells = [str(key[0]), key[1], str(steps), str(row["pairs"]), f"{on_validation[key]:.3f}", f"{row['mean']:.3f}"]
        cells += [_gap(row["minus_base"]), p, *([_gap(row["minus_control"])] if controlled else [])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gap(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return ""
    ends = "" if gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
    return f"{gap['estimate']:+.3f}{ends}"


def opened(config: RunConfig, data: PreparedData, work: Path, name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """Score all sets of the comparison `name` on validation and test. Raises `ConfigError` while one is missing."""
    comparison = COMPARISONS[name]
    steps = read_json(work / "steps.json")
    found = []
    for cell in cells:
        file = work / "cells" / f"{cell.name}.json"
        if not file.is_file():
            raise ConfigError(f"{file}: missing; run all cells before the test split is opened")
        made: dict[str, Any] = read_json(file)
        predict(config, data, work, cell)
        found.append({**made, **scored(data.test.labels.numpy(), _predictions(work, cell))})
    command = ["python", "-m", "benchmarks.weight_final", "open", "--comparison", name, "--data", "DATA"]
    return {
        "base": BASE,
        "side": comparison.side,
        "source": comparison.source[0],
        "images": {part: len(getattr(data, part)) for part in ("train", "val", "test")},
        "minutes": {str(ipc): minutes for ipc, minutes in comparison.minutes.items()},
        "steps": steps,
        "validation": rows(found, "validation"),
        "test": rows(found, "test"),
        "cells": found,
        "config": as_dict(config),
        "command": shlex.join([*command, "--work", "WORK"]),
        "hardware": hardware(),
        "versions": versions(),
    }


def main() -> None:
    """Calibrate, make the sets, or open the test split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("calibrate", "run", "open"))
    parser.add_argument("--comparison", choices=tuple(COMPARISONS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets of images")
    parser.add_argument("--work", type=Path, required=True, help="folder of experts, sets and cells")
    parser.add_argument("--shard", default="0/1", help="i/n: take each n-th cell, from the i-th (run)")
    options = parser.parse_args()
    raise_malloc_thresholds()
    comparison = COMPARISONS[options.comparison]
    config, data = comparison.config, comparison.prepared(options.data, options.work)
    kept = options.work / "steps.json"
    if options.command == "calibrate":
        found = {str(ipc): calibrated(config, data, options.work, comparison, ipc) for ipc in comparison.minutes}
        write_json(kept, found)
        return
    wanted = comparison.cells()
    if options.command == "open":
        if comparison.result.is_file():
            parser.error(f"{comparison.result} exists: the test split was opened before")
        result = opened(config, data, options.work, options.comparison, wanted)
        write_json(comparison.result, result)
        print(table(result))
        return
    index, count = map(int, options.shard.split("/"))
    for cell in wanted[index::count]:
        made_of(config, data, options.work, comparison, cell, read_json(kept)[str(cell.ipc)])


def made_of(
    config: RunConfig, data: PreparedData, work: Path, comparison: Comparison, cell: Cell, steps: Mapping[str, int]
) -> None:
    """Make the set of a cell and note how it ended, unless that was done."""
    file = work / "cells" / f"{cell.name}.json"
    if file.is_file():
        predict(config, data, work, cell)
        return
    result, _ = trial(config, data, work, comparison.pool_seed, steps).distilled(cell)
    seconds = sum(float(entry["seconds"]) for entry in result.history)
    write_json(file, {**dataclasses.asdict(cell), "status": result.status.value, "seconds": seconds})
    predict(config, data, work, cell)
    print(cell.name, result.status.value, f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
