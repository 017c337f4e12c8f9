"""The final comparison of weightings: 64 x 64, equal wall time for every arm, fresh pools and seeds, test opened once.

    python -m benchmarks.weight_final calibrate --data $MEDIDISTILL_DATA/covid-cxr --work work/weight-final
    python -m benchmarks.weight_final run --data $MEDIDISTILL_DATA/covid-cxr --work work/weight-final
    python -m benchmarks.weight_final open --data $MEDIDISTILL_DATA/covid-cxr --work work/weight-final

`calibrate` takes some outer steps of every arm on a quiet machine and writes how many fit into the wall time of
`MINUTES`; `run` makes the sets, whose last step counts as it is, trains networks on each and keeps their predictions;
`open` compares these with the labels of test and writes benchmarks/results/weight_final.json. It refuses while a set is
missing, and a second time: the test split is opened once. What was decided before: docs/weight-trial.md.
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

from benchmarks.matching_limits import prepared
from benchmarks.paper_results import holm, paired
from benchmarks.weight_trial import CHANCE, CONFIG, Cell, Trial
from benchmarks.weightings import FAMILIES, Family
from medidistill.config import RunConfig, as_dict
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, DivergedError
from medidistill.evaluate import Arm, ArmRun, run_arm
from medidistill.evaluate.metrics import balanced_accuracy_score
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import load_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "weight_final.json"
BASE = "mtt"
CONTROL = "shuffled"
SIDE = 64
MINUTES = {1: 1.5, 10: 3.0}  # wall time of the outer steps, by images per class
_TIMED, _ROUNDS = 16, 3  # outer steps, after as many that are not timed; a multiple of `hypergradient_every`


def trial(config: RunConfig, data: PreparedData, work: Path, ipc: int, steps: Mapping[str, int]) -> Trial:
    """Return the trial of one number of images, in which each arm has its own number of outer steps."""
    known = FAMILIES["parameters"].weightings
    # compiled whatever the number of steps: calibration takes few
    timed = {arm: {**known[arm], "outer_steps": count, "compile": "on"} for arm, count in steps.items()}
    family = Family(BASE, timed, RESULT)
    return Trial(config, data, work, family, pool_seed=2000, keeps_sets=True)


def calibrated(config: RunConfig, data: PreparedData, work: Path, arms: Sequence[str], ipc: int) -> dict[str, int]:
    """Return each arm's outer steps in `MINUTES[ipc]`, by means over steps, arms in turns, the fastest round."""
    paces: dict[str, list[float]] = {arm: [] for arm in arms}
    for _ in range(_ROUNDS):
        for arm in arms:
            short = trial(config, data, work, ipc, {arm: 2 * _TIMED})
            short.keeps_sets = False
            result, _ = short.distilled(Cell(0, ipc, arm, 99))
            paces[arm].append(statistics.fmean(float(entry["seconds"]) for entry in result.history[_TIMED:]))
    found = {arm: max(1, round(60 * MINUTES[ipc] / min(measured))) for arm, measured in paces.items()}
    for arm, measured in paces.items():
        print(f"{ipc} images per class, {arm}: {[round(one, 3) for one in measured]} s a step, {found[arm]} steps")
    return found


def predict(config: RunConfig, data: PreparedData, work: Path, cell: Cell) -> None:
    """Train networks on a cell's set and keep what they say of validation and test; no label of test is read."""
    file, place = _predictions(work, cell), work / "sets" / f"{cell.name}.safetensors"
    if file.is_file() or not place.is_file():
        return
    rules, distilled = config.evaluate, DistilledSet.load(place)
    with contextlib.suppress(DivergedError):
        run_arm(
            Arm("set", distilled.images, distilled.targets, (rules.adaptive.plain_training(),)),
            network=config.network,
            val_images=data.normalised(data.val.images),
            val_labels=data.val.labels,
            test_images=data.normalised(data.test.images),
            num_classes=data.train.num_classes,
            networks=rules.num_networks,
            seed=cell.seed,
            compile=True,
        ).save(file)


def _predictions(work: Path, cell: Cell) -> Path:
    return work / "predictions" / f"{cell.name}.safetensors"


def scored(labels: npt.NDArray[np.int64], file: Path) -> dict[str, float]:
    """Return the mean balanced accuracy of a cell's networks on validation and test; chance where there are none."""
    if not file.is_file():
        return {"validation": CHANCE, "test": CHANCE}
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
    lines = [
        "| images per class | weighting | outer steps | pairs | validation | test | test, minus w = 1 (95 %) "
        "| p, Holm | test, minus shuffled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    on_validation = {(row["ipc"], row["weighting"]): row["mean"] for row in result["validation"]}
    for row in result["test"]:
        key = row["ipc"], row["weighting"]
        p = "" if row.get("adjusted") is None else f"{row['adjusted']:.3f}"
        steps = result["steps"][str(row["ipc"])][row["weighting"]]
        lines.append(
            f"| {key[0]} | {key[1]} | {steps} | {row['pairs']} | {on_validation[key]:.3f} | {row['mean']:.3f} | "
            f"{_gap(row['minus_base'])} | {p} | {_gap(row['minus_control'])} |"
        )
    return "\n".join(lines)


def _gap(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return ""
    ends = "" if gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
    return f"{gap['estimate']:+.3f}{ends}"


def opened(config: RunConfig, data: PreparedData, work: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """Score all sets on validation and test. Raises `ConfigError` while one is missing."""
    steps = read_json(work / "steps.json")
    found = []
    for cell in cells:
        file = work / "cells" / f"{cell.name}.json"
        if not file.is_file():
            raise ConfigError(f"{file}: missing; run all cells before the test split is opened")
        made: dict[str, Any] = read_json(file)
        predict(config, data, work, cell)
        found.append({**made, **scored(data.test.labels.numpy(), _predictions(work, cell))})
    command = ["python", "-m", "benchmarks.weight_final", "open", "--data", "DATA", "--work", "WORK"]
    return {
        "base": BASE,
        "minutes": {str(ipc): minutes for ipc, minutes in MINUTES.items()},
        "steps": steps,
        "validation": rows(found, "validation"),
        "test": rows(found, "test"),
        "cells": found,
        "config": as_dict(config),
        "command": shlex.join(command),
        "hardware": hardware(),
        "versions": versions(),
    }


def main() -> None:
    """Calibrate, make the sets, or open the test split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("calibrate", "run", "open"))
    parser.add_argument("--data", type=Path, required=True, help="folder of covid-cxr")
    parser.add_argument("--work", type=Path, required=True, help="folder of experts, sets and cells")
    parser.add_argument("--arms", required=True, help="by commas, mtt among them")
    parser.add_argument("--ipc", default="1,10", help="images per class, by commas")
    parser.add_argument("--pools", type=int, default=2)
    parser.add_argument("--seeds", default="100-107", help="first and last seed, or 1=100-103,10=100-101 by images")
    parser.add_argument("--shard", default="0/1", help="i/n: take each n-th cell, from the i-th (run)")
    options = parser.parse_args()
    raise_malloc_thresholds()
    config = load_config(CONFIG, [f"ingest.image_size={SIDE}"])
    data = prepared(options.data, options.work, SIDE)
    arms, sizes = options.arms.split(","), [int(one) for one in options.ipc.split(",")]
    kept = options.work / "steps.json"
    if options.command == "calibrate":
        write_json(kept, {str(ipc): calibrated(config, data, options.work, arms, ipc) for ipc in sizes})
        return
    seeds = seeds_of(options.seeds, sizes)
    wanted = [
        Cell(pool, ipc, arm, seed)
        for seed, pool, ipc, arm in itertools.product(
            sorted(set().union(*seeds.values())), range(options.pools), sizes, arms
        )
        if seed in seeds[ipc]
    ]
    if options.command == "open":
        if RESULT.is_file():
            parser.error(f"{RESULT} exists: the test split was opened before")
        result = opened(config, data, options.work, wanted)
        write_json(RESULT, result)
        print(table(result))
        return
    index, count = map(int, options.shard.split("/"))
    for cell in wanted[index::count]:
        made_of(config, data, options.work, cell, read_json(kept)[str(cell.ipc)])


def seeds_of(text: str, sizes: Sequence[int]) -> dict[int, range]:
    """Return the seeds of each number of images: `FIRST-LAST` for all, or `IPC=FIRST-LAST` for each, by commas."""
    given = dict(part.split("=") for part in text.split(",")) if "=" in text else {str(ipc): text for ipc in sizes}
    ends = {ipc: tuple(map(int, given[str(ipc)].split("-"))) for ipc in sizes}
    return {ipc: range(first, last + 1) for ipc, (first, last) in ends.items()}


def made_of(config: RunConfig, data: PreparedData, work: Path, cell: Cell, steps: Mapping[str, int]) -> None:
    """Make the set of a cell and note how it ended, unless that was done."""
    file = work / "cells" / f"{cell.name}.json"
    if file.is_file():
        predict(config, data, work, cell)
        return
    result, _ = trial(config, data, work, cell.ipc, steps).distilled(cell)
    seconds = sum(float(entry["seconds"]) for entry in result.history)
    write_json(file, {**dataclasses.asdict(cell), "status": result.status.value, "seconds": seconds})
    predict(config, data, work, cell)
    print(cell.name, result.status.value, f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
