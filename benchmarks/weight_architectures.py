"""Whether sets of a final comparison of weightings train other architectures, beside packed real images.

    python -m benchmarks.weight_architectures run --data $MEDIDISTILL_DATA --work work/plateau
    python -m benchmarks.weight_architectures open --data $MEDIDISTILL_DATA --work work/plateau

Takes the sets that `benchmarks.weight_final run` left in the work folder. `run` trains one network of each architecture
on each set and on random real images packed into the bytes of one (labelled by the experts, as the comparison of
`medidistill run` may label them), by AdamW at one rate, the same for all of them and not tuned, and keeps what it
predicts; `open` compares that with the labels of test, once, and writes benchmarks/results/weight_architectures.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks import architectures
from benchmarks.architectures import ARCHITECTURES, RATE, keep_predictions
from benchmarks.weight_final import COMPARISONS
from benchmarks.weight_trial import Cell
from medidistill.config import RunConfig, as_dict
from medidistill.distillation import Experts, expert_labels
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import Arm, random_subset
from medidistill.files import write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.packed_images import PackedImages
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions
from medidistill.seeding import stream

RESULT = Path(__file__).parent / "results" / "weight_architectures.json"
SIZES, SEEDS = (1,), (200,)
PACKED = "packed"
FACTOR = 4  # images of a quarter of the side in the bytes of one: sixteen
WORDS = {
    "mtt": "w = 1",
    "hypergradient": "W learned on real images",
    PACKED: "random real X-rays, sixteen in the bytes of one",
}


def cells() -> list[Cell]:
    """Return what is trained on: the sets of two pools, and packed real images labelled by the first."""
    sets = [cell for cell in COMPARISONS["plateau"].cells() if cell.ipc in SIZES and cell.seed in SEEDS]
    return [*sets, *(Cell(0, ipc, PACKED, seed) for seed in SEEDS for ipc in SIZES)]


def arm_of(cell: Cell, config: RunConfig, data: PreparedData, work: Path) -> Arm:
    """Return the images of a cell, with the training that all of them get."""
    training = dataclasses.replace(config.evaluate.adaptive.plain_training(), lr=RATE)
    if cell.weighting == PACKED:
        labels, side = data.train.labels, data.train.images.shape[-1]
        index = random_subset(labels, cell.ipc * FACTOR**2, stream(cell.seed, "packed", cell.ipc))
        small = F.interpolate(data.normalised(data.train.images[index]), size=side // FACTOR, mode="area")
        images = PackedImages(small.contiguous(), side).decode()
        pool = Experts(sorted((work / f"pool-{cell.pool}").glob("expert-*.safetensors")))
        targets = expert_labels(pool, images, torch.bincount(labels).tolist())
        return Arm(PACKED, images, targets, (training,))
    made = DistilledSet.load(work / "sets" / f"{cell.name}.safetensors")
    return Arm(cell.weighting, made.images, made.targets, (training,))


def predictions(work: Path, cell: Cell, architecture: str) -> Path:
    """Return the file of what a network that was trained on a cell predicts."""
    return work / "architectures" / f"{cell.name}-{architecture}.safetensors"


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result."""
    return architectures.table(result["rows"], WORDS)


def opened(config: RunConfig, data: PreparedData, work: Path) -> dict[str, Any]:
    """Score every network on test. Raises `ConfigError` while one is missing."""
    found = []
    for cell in cells():
        for architecture in ARCHITECTURES:
            scores = architectures.opened(predictions(work, cell, architecture), data)
            found.append({**dataclasses.asdict(cell), "architecture": architecture, **scores})
    command = ["python", "-m", "benchmarks.weight_architectures", "open", "--data", "DATA", "--work", "WORK"]
    return {
        "rows": architectures.rows([{**one, "arm": one["weighting"]} for one in found], list(WORDS)),
        "cells": found,
        "rate": RATE,
        "config": as_dict(config),
        "command": shlex.join(command),
        "hardware": hardware(),
        "versions": versions(),
    }


def main() -> None:
    """Train the networks, or open the test split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "open"))
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets of images")
    parser.add_argument("--work", type=Path, required=True, help="folder of the comparison `plateau`")
    parser.add_argument("--shard", default="0/1", help="i/n: take each n-th cell, from the i-th (run)")
    options = parser.parse_args()
    raise_malloc_thresholds()
    comparison = COMPARISONS["plateau"]
    config, data = comparison.config, comparison.prepared(options.data, options.work)
    if options.command == "open":
        if RESULT.is_file():
            parser.error(f"{RESULT} exists: the test split was opened before")
        result = opened(config, data, options.work)
        write_json(RESULT, result)
        print(table(result))
        return
    index, count = map(int, options.shard.split("/"))
    for cell in cells()[index::count]:
        arm = cache(partial(arm_of, cell, config, data, options.work))  # made where a network is missing, and once
        for name in ARCHITECTURES:
            keep_predictions(predictions(options.work, cell, name), arm, name, config, data, cell.seed)
        print(cell.name, flush=True)


if __name__ == "__main__":
    main()
