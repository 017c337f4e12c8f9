"""How much of what all real images teach is in a packed set, by stored bytes: covid-cxr, every arm in the same bytes.

    python -m benchmarks.value run --data $MEDIDISTILL_DATA/covid-cxr --work work/value --side 64 --ipc 1,5,10 --seeds 5
    python -m benchmarks.value collect --work work/value

`run` is resumable, and any number of processes may share its folder with `--shard i/n`. Each seed has a pool of experts
of its own, so that intervals over seeds cover the pool. Every choice (step, training, packing factor of the real
control) is made on validation inside `medidistill run`; the test split is scored by the run's evaluation and read by
`collect`, which chooses nothing. Writes benchmarks/results/value.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medidistill.config import METHODS, RunConfig, as_dict
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.evaluate import ArmRun, compare
from medidistill.evaluate.intervals import paired_t_interval
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import RunFolder, load_config, run
from medidistill.pipeline.arms import PACKED, cell_file
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

HERE = Path(__file__).parent
CONFIG = HERE / "value.yaml"
RESULT = HERE / "results" / "value.json"
ARCHITECTURE = "convnet"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run: a side, stored images a class, a seed with its pool of experts."""

    side: int
    ipc: int
    seed: int

    def folder(self, work: Path) -> Path:
        """Return the run folder of the cell."""
        return work / f"side{self.side}-ipc{self.ipc}-seed{self.seed}"

    def config(self, settings: Sequence[str] = ()) -> RunConfig:
        """Return its configuration; at a side of 64 or more, feature matching begins at half of it."""
        coarse = [
            "methods.snapshots.coarse=2",
            "methods.snapshots.coarse_steps=500",
            "methods.snapshots.outer_steps=150",
            "methods.kernel_warm.coarse=2",
            "methods.kernel_warm.coarse_steps=500",
            "methods.kernel_warm.outer_steps=50",
        ]
        own = [f"ingest.image_size={self.side}", f"distill.ipc={self.ipc}", f"seed={self.seed}"]
        return load_config(CONFIG, [*own, *(coarse if self.side >= 64 else []), *settings])


def run_cell(cell: Cell, data: Path, work: Path, settings: Sequence[str]) -> None:
    """Run one cell to the end of its evaluation, or go on with it; experts of its seed are shared between budgets."""
    folder = RunFolder(cell.folder(work))
    config = cell.config(settings)
    resume = folder.record_file.is_file()
    if not resume:
        run(config, data, folder.path, until="ingest")
        for other in sorted(work.glob(f"side{cell.side}-ipc*-seed{cell.seed}")):
            if other != folder.path and (other / "experts").is_dir():
                shutil.copytree(other / "experts", folder.experts, dirs_exist_ok=True, copy_function=os.link)
    run(config, None, folder.path, resume=True, until="evaluate")


def cells_of(work: Path) -> Iterator[Cell]:
    """Yield the cells whose evaluation has finished, in order."""
    found = []
    for folder in work.glob("side*-ipc*-seed*"):
        if (folder / "evaluate" / "comparison.json").is_file():
            side, ipc, seed = (int("".join(filter(str.isdigit, part))) for part in folder.name.split("-"))
            found.append(Cell(side, ipc, seed))
    yield from sorted(found, key=dataclasses.astuple)


def _stored_bytes(folder: RunFolder, arm: str, one: ArmRun, data: PreparedData) -> int:
    """Return the bytes that an arm is trained from: the stored images and soft labels of a set, 8 bits a real value."""
    if arm in METHODS:
        return DistilledSet.load(folder.distill(arm) / "distilled.safetensors").stored_bytes
    factor = int(one.info.get("factor", 1))
    return one.training_images * data.train.images[0].numel() // factor**2


def collect(work: Path) -> dict[str, Any]:
    """Return one comparison for each side and number of stored images, paired over seeds."""
    groups: list[dict[str, Any]] = []
    for (side, ipc), members in itertools.groupby(cells_of(work), key=lambda cell: (cell.side, cell.ipc)):
        cells = list(members)
        folders = [RunFolder(cell.folder(work)) for cell in cells]
        config, data = load_config(folders[0].config_file), PreparedData.read(folders[0].ingest)
        runs = {
            arm: [ArmRun.load(cell_file(folder, arm, ARCHITECTURE)) for folder in folders]
            for arm in config.evaluate.arms
        }
        comparison = compare(
            [one for found in runs.values() for one in found],
            data.test.labels,
            data.test.patient_ids,
            data.test.class_names,
            bootstrap=config.evaluate.bootstrap,
            confidence=config.evaluate.confidence,
        )
        rows, differences = (comparison.to_dict()[name] for name in ("rows", "differences"))
        full = next(row["balanced_accuracy"]["estimate"] for row in rows if row["arm"] == "full")
        for row in rows:
            found = runs[row["arm"]]
            row["share_of_full"] = row["balanced_accuracy"]["estimate"] / full
            row["stored_bytes"] = _stored_bytes(folders[0], row["arm"], found[0], data)
            row["factor"] = [one.info.get("factor") for one in found]
            row["validation_by_seed"] = [one.val_score for one in found]
            row["chosen"] = [f"{one.chosen.optimizer}, {one.chosen.steps} steps" for one in found]
        control = np.array([one.val_score for one in runs[PACKED]])
        minus = {}
        if len(cells) > 1:
            for method in METHODS:
                if method in runs:
                    mine = np.array([one.val_score for one in runs[method]])
                    minus[method] = vars(paired_t_interval(mine - control))
        groups.append(
            {
                "side": side,
                "ipc": ipc,
                "seeds": [cell.seed for cell in cells],
                "rows": rows,
                "differences": [gap for gap in differences if PACKED in (gap["arm"], gap["minus"])],
                "validation_minus_packed": minus,
                "config": as_dict(config),
            }
        )
    if not groups:
        raise ConfigError(f"{work}: no finished cell; run `python -m benchmarks.value run` first")
    return {
        "command": "python " + shlex.join(["-m", "benchmarks.value", "run"]),
        "groups": groups,
        "hardware": hardware(),
        "versions": versions(),
    }


def table(result: dict[str, Any]) -> str:
    """Return the Markdown of the result: one row an arm, the losing ones too."""
    lines = [
        "| side | trained on | stored bytes | training images | validation | test balanced accuracy | of all real |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in result["groups"]:
        for row in group["rows"]:
            span, share = row["balanced_accuracy"], f"{100 * row['share_of_full']:.0f} %"
            lines.append(
                f"| {group['side']} | {row['arm']}, {group['ipc']} stored a class, n = {len(group['seeds'])} "
                f"| {row['stored_bytes']:,} | {row['training_images']} | {np.mean(row['validation_by_seed']):.3f} "
                f"| {span['estimate']:.3f} [{span['low']:.3f}, {span['high']:.3f}] | {share} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run cells, or collect what they left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "collect"))
    parser.add_argument("--data", type=Path, help="folder of covid-cxr; needed by run")
    parser.add_argument("--work", type=Path, required=True, help="folder of the cells; kept between calls")
    parser.add_argument("--side", type=int, default=64, help="pixels (default: 64)")
    parser.add_argument("--ipc", default="1,5,10", help="stored images a class (default: 1,5,10)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N - 1 (default: 5)")
    parser.add_argument("--shard", default="0/1", metavar="i/n", help="do every n-th cell from i on")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting of all cells"
    )
    options = parser.parse_args()
    if options.stage == "collect":
        write_json(RESULT, collect(options.work))
        print(table(read_json(RESULT)))
        return
    if options.data is None:
        parser.error("run needs --data")
    raise_malloc_thresholds()
    index, count = map(int, options.shard.split("/"))
    budgets = [int(text) for text in options.ipc.split(",")]
    every = [Cell(options.side, ipc, seed) for seed in range(options.seeds) for ipc in budgets]
    for cell in every[index::count]:
        run_cell(cell, options.data, options.work, options.set)


if __name__ == "__main__":
    main()
