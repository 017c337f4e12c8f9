"""Whether packed sets train other architectures, beside packed real images in the same bytes.

    python -m benchmarks.value_architectures run --work work/value --arms packed,mixture,snapshots,kernel_warm
    python -m benchmarks.value_architectures open --work work/value

Takes the cells that `benchmarks.value run` left in the work folders: each set, and the form of packed real images that
validation chose there. `run` trains one network of each architecture on each arm by AdamW, at one rate, for 200 steps
of 32 images (a quarter of the time of the comparison's), the same for all of them and not tuned, and keeps what it
predicts; `open` compares that with the labels of test, once, and writes benchmarks/results/value_architectures.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks import architectures
from benchmarks.architectures import ARCHITECTURES, RATE, keep_predictions
from benchmarks.value import ARCHITECTURE, Cell, cells_of
from benchmarks.value_tables import WORDS
from medidistill.config import METHODS, RunConfig
from medidistill.distillation import Experts
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import Arm, ArmRun
from medidistill.files import write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import RunFolder, load_config
from medidistill.pipeline.comparison.arms import cell_file, make_arm
from medidistill.pipeline.comparison.controls import chosen_form
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "value_architectures.json"
STEPS, BATCH = 200, 32


@dataclasses.dataclass(frozen=True)
class Task:
    """One arm of one cell: what networks are trained on.

    Args:
        cell: side, stored images a class and seed.
        arm: the real control or a method.
        folder: the run that holds it.
    """

    cell: Cell
    arm: str
    folder: RunFolder

    def predictions(self, architecture: str) -> Path:
        """Return the file of what a network that was trained on this arm predicts."""
        return self.folder.path / "architectures" / f"{self.arm}-{architecture}.safetensors"


def tasks(works: Sequence[Path], arms: Sequence[str], ipc: int) -> Iterator[Task]:
    """Yield the arms that the work folders have compared, by seed; one that several have is taken from the last."""
    found: dict[tuple[Cell, str], RunFolder] = {}
    for work in works:
        for cell in cells_of(work):
            folder = RunFolder(cell.folder(work))
            for arm in arms:
                if cell.ipc == ipc and cell_file(folder, arm, ARCHITECTURE).is_file():
                    found[cell, arm] = folder
    order = sorted(found, key=lambda key: (dataclasses.astuple(key[0]), arms.index(key[1])))
    yield from (Task(cell, arm, found[cell, arm]) for cell, arm in order)


def kept_run(task: Task) -> ArmRun:
    """Return what the comparison made of the arm."""
    return ArmRun.load(cell_file(task.folder, task.arm, ARCHITECTURE))


def arm_of(task: Task, config: RunConfig, data: PreparedData) -> Arm:
    """Return what the ConvNets of the comparison were trained on, with the training that every architecture gets."""
    sets = {}
    if task.arm in METHODS:
        sets[task.arm] = DistilledSet.load(task.folder.distill(task.arm) / "distilled.safetensors")
    experts = Experts(sorted(task.folder.experts.glob("expert-*.safetensors")))
    form = chosen_form(make_arm(task.arm, config, data, sets, experts), kept_run(task))
    training = dataclasses.replace(config.evaluate.adaptive.plain_training(), lr=RATE, steps=STEPS, batch_size=BATCH)
    return Arm(task.arm, form.images, form.labels, (training,))


def opened(every: Sequence[Task]) -> dict[str, Any]:
    """Score every network on test. Raises `ConfigError` while one is missing."""
    found = []
    for task in every:
        data = PreparedData.read(task.folder.ingest)
        for architecture in ARCHITECTURES:
            scores = architectures.opened(task.predictions(architecture), data)
            found.append({**dataclasses.asdict(task.cell), "arm": task.arm, "architecture": architecture, **scores})
    command = ["python", "-m", "benchmarks.value_architectures", "open", "--work", "WORK"]
    return {
        "rows": architectures.rows(found, list(WORDS)),
        "cells": found,
        "training": {"rate": RATE, "steps": STEPS, "batch_size": BATCH},
        "command": shlex.join(command),
        "hardware": hardware(),
        "versions": versions(),
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result."""
    return architectures.table(result["rows"], WORDS)


def main() -> None:
    """Train the networks, or open the test split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "open"))
    parser.add_argument(
        "--work", type=Path, required=True, nargs="+", help="folders of the cells of `benchmarks.value`"
    )
    parser.add_argument("--arms", default="packed,mixture", help="what is trained on (default: packed,mixture)")
    parser.add_argument("--ipc", type=int, default=10, help="stored images a class (default: 10)")
    parser.add_argument("--shard", default="0/1", metavar="i/n", help="do every n-th arm from i on (run)")
    options = parser.parse_args()
    raise_malloc_thresholds()
    arms = options.arms.split(",")
    if unknown := [arm for arm in arms if arm not in WORDS]:
        parser.error(f"--arms {','.join(unknown)}: must be of {', '.join(WORDS)}")
    every = list(tasks(options.work, arms, options.ipc))
    if options.command == "open":
        if RESULT.is_file():
            parser.error(f"{RESULT} exists: the test split was opened before")
        result = opened(every)
        write_json(RESULT, result)
        print(table(result))
        return
    index, count = map(int, options.shard.split("/"))
    for task in every[index::count]:
        config, data = load_config(task.folder.config_file), PreparedData.read(task.folder.ingest)
        arm = cache(partial(arm_of, task, config, data))  # made where a network is missing, and once
        for name in ARCHITECTURES:
            keep_predictions(task.predictions(name), arm, name, config, data, config.seed)
        print(task.folder.path.name, task.arm, flush=True)


if __name__ == "__main__":
    main()
