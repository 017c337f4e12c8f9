"""How much of what all real images teach is in a packed set, by stored bytes: covid-cxr, every arm in the same bytes.

    python -m benchmarks.value run --data $MEDIDISTILL_DATA/covid-cxr --work work/value --side 64 --ipc 1,5,10 --seeds 5
    python -m benchmarks.value bits --work work/value
    python -m benchmarks.value collect --work work/value

`run` is resumable, and any number of processes may share its folder with `--shard i/n`. Each seed has a pool of experts
of its own, so that intervals over seeds cover the pool. Every choice (step, training, packing factor of the real
control) is made on validation inside `medidistill run`; the test split is scored by the run's evaluation and read by
`collect`, which chooses nothing. `bits` stores each set of `kernel_warm` in fewer bits and scores it on validation.
`collect` writes benchmarks/results/value.json.

    python -m benchmarks.value run --dataset pneumoniamnist.npz --data $MEDIDISTILL_DATA/medmnist \\
        --work work/pneumonia --side 28
    python -m benchmarks.value collect --dataset pneumoniamnist.npz --work work/pneumonia

is the same of another set that `benchmarks.data` reads; `collect` writes benchmarks/results/value_pneumoniamnist.json.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data as benchmark_data
from benchmarks.trained import trained
from benchmarks.value_tables import CLINICAL, WORDS, result_file, table
from medidistill.api.inputs import check_images, split_images
from medidistill.api.items import raw_images
from medidistill.config import METHODS, RunConfig, as_dict
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.evaluate import Arm, ArmRun, compare
from medidistill.evaluate.intervals import paired_t_interval
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import RunFolder, load_config, run
from medidistill.pipeline.comparison.arms import FULL, cell_file
from medidistill.pipeline.comparison.controls import PACKED
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runner import working
from medidistill.pipeline.stages.ingest import ingest_images
from medidistill.record import hardware, versions
from medidistill.spectral_images import SPECTRAL, SpectralImages

HERE = Path(__file__).parent
CONFIG = HERE / "value.yaml"
ARCHITECTURE = "convnet"
BITS = (8, 4, 2)  # of a stored value
BITS_FILE = "bits.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """Real images that cells begin with.

    Args:
        folder: of their files.
        dataset: as `benchmarks.data` names it; `covid-cxr` is any folder of X-rays that a run reads itself.
        train_images: training images that are used at most, equally many of each class; 0: all. Not for X-rays.
        eval_images: the same for validation and for test.
    """

    folder: Path
    dataset: str = CLINICAL
    train_images: int = 0
    eval_images: int = 0

    def begin(self, config: RunConfig, folder: RunFolder) -> None:
        """Create the run in `folder` and give it its images."""
        if self.dataset == CLINICAL:
            run(config, self.folder, folder.path, until="ingest")
            return
        held = benchmark_data.load(
            self.dataset,
            self.folder,
            config.ingest,
            train_images=self.train_images,
            eval_images=self.eval_images,
        )
        given = check_images(raw_images({"train": held.train, "val": held.val, "test": held.test}))
        RunFolder.create(folder.path, config, source=self.folder)
        with working(folder, command="medidistill ingest") as work:
            ingest_images(work, split_images(given, config.ingest))


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


def run_cell(cell: Cell, source: Source, work: Path, settings: Sequence[str]) -> None:
    """Run one cell to the end of its evaluation, or go on with it.

    Budgets of one seed share its experts, and the networks that were trained on all real images.
    """
    folder = RunFolder(cell.folder(work))
    config = cell.config(settings)
    resume = folder.record_file.is_file()
    if not resume:
        source.begin(config, folder)
        for other in sorted(work.glob(f"side{cell.side}-ipc*-seed{cell.seed}")):
            if other != folder.path and (other / "experts").is_dir():
                shutil.copytree(other / "experts", folder.experts, dirs_exist_ok=True, copy_function=_link)
    mine = cell_file(folder, FULL, ARCHITECTURE)
    for other in sorted(work.glob(f"side{cell.side}-ipc*-seed{cell.seed}")):
        theirs = cell_file(RunFolder(other), FULL, ARCHITECTURE)
        if theirs.is_file() and not mine.exists():
            mine.parent.mkdir(parents=True, exist_ok=True)
            os.link(theirs, mine)
    run(config, None, folder.path, resume=True, until="evaluate")


def _link(source: str, target: str) -> None:
    """Link a file; one that is there is of another cell of the same seed, or of a run that was cut."""
    with contextlib.suppress(FileExistsError):
        os.link(source, target)


def cells_of(work: Path) -> Iterator[Cell]:
    """Yield the cells whose evaluation has finished, in order."""
    found = []
    for folder in work.glob("side*-ipc*-seed*"):
        if (folder / "evaluate" / "comparison.json").is_file():
            side, ipc, seed = (int("".join(filter(str.isdigit, part))) for part in folder.name.split("-"))
            found.append(Cell(side, ipc, seed))
    yield from sorted(found, key=dataclasses.astuple)


def _stored_bytes(folder: RunFolder, arm: str, one: ArmRun, data: PreparedData) -> int:
    """Return the bytes that an arm is trained from: the stored images and soft labels of a set, 8 bits a real value.

    Of real images that are stored as amplitudes the scales are counted in full, 4 bits for each frequency.
    """
    if arm in METHODS:
        return DistilledSet.load(folder.distill(arm) / "distilled.safetensors").stored_bytes
    factor, bits = int(one.info.get("factor", 1)), int(one.info.get("bits", 8))
    spectral = one.info.get("decoder") == SPECTRAL
    labels = (1 if spectral else 4) * one.num_classes * one.training_images if one.info.get("labels") else 0
    values = data.train.images[0].numel()
    return one.training_images * values * bits // (8 * factor**2) + labels + (values // 2 if spectral else 0)


def _stored_as(folder: RunFolder, arm: str, runs: Sequence[ArmRun], side: int) -> str:
    """Return how the images of an arm are stored, in words; of real ones, what validation chose for the seeds."""
    if arm in METHODS:
        packed = DistilledSet.load(folder.distill(arm) / "distilled.safetensors").packed
        if packed is None:
            return ""
        stored_side = packed.stored_side if isinstance(packed, SpectralImages) else packed.codes.shape[-1]
        return _way(packed.decoder, stored_side, packed.bits)
    ways = [
        _way(one.info.get("decoder", ""), side // int(one.info["factor"]), int(one.info.get("bits", 8)))
        for one in runs
        if "factor" in one.info
    ]
    return ", ".join(f"{way} ({count})" if len(ways) > 1 else way for way, count in Counter(ways).most_common())


def _way(decoder: str, stored_side: int, bits: int) -> str:
    if decoder == SPECTRAL:
        return f"amplitudes, {stored_side**2 * bits} bits"
    return f"{stored_side} x {stored_side}, {bits} bits"


def score_bits(cell: Cell, work: Path, method: str = "kernel_warm") -> None:
    """Score the set of `method` on validation as it is stored, and rounded to fewer bits; kept in the cell's folder.

    Networks, batches and training are those that the comparison counted, so that scores differ by the rounding alone.
    """
    folder = RunFolder(cell.folder(work))
    file = folder.path / BITS_FILE
    if file.is_file():
        return
    config, data = load_config(folder.config_file), PreparedData.read(folder.ingest)
    kept = ArmRun.load(cell_file(folder, method, ARCHITECTURE))
    stored = DistilledSet.load(folder.distill(method) / "distilled.safetensors")
    found = {}
    for bits in BITS:
        shown = stored.quantised(bits)
        arm = Arm(method, shown.images, shown.targets, (kept.chosen,))
        one = trained(arm, config.network, data, len(kept.val_balanced_accuracy), config.seed, compile=True)
        found[str(bits)] = {"stored_bytes": shown.stored_bytes, "validation": one.val_score}
    write_json(file, {"method": method, "bits": found})


def _bits(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Return validation by bits a stored value, and its paired difference to 8 bits; empty where nothing was scored."""
    files = [folder.path / BITS_FILE for folder in folders]
    kept = [read_json(file)["bits"] for file in files if file.is_file()]
    rows = []
    for bits in map(str, BITS if len(kept) > 1 else ()):
        scores = np.array([one[bits]["validation"] for one in kept])
        minus = scores - np.array([one["8"]["validation"] for one in kept])
        rows.append(
            {
                "bits": int(bits),
                "stored_bytes": kept[0][bits]["stored_bytes"],
                "validation_by_seed": scores.tolist(),
                "minus_8_bits": None if bits == "8" else vars(paired_t_interval(minus)),
            }
        )
    return rows


def _sources(works: Sequence[Path], side: int, ipc: int) -> tuple[list[int], dict[str, Path]]:
    """Return the seeds that every work folder with such cells has, and for each arm the folder it is taken from."""
    held = {work: [cell.seed for cell in cells_of(work) if (cell.side, cell.ipc) == (side, ipc)] for work in works}
    holding = [work for work in works if held[work]]
    seeds = sorted(set.intersection(*(set(held[work]) for work in holding)))
    arms: dict[str, Path] = {}
    for work in holding:
        config = load_config(RunFolder(Cell(side, ipc, seeds[0]).folder(work)).config_file)
        arms |= dict.fromkeys(config.evaluate.arms, work)
    return seeds, {arm: arms[arm] for arm in (*WORDS, *arms) if arm in arms}


def collect(works: Sequence[Path]) -> dict[str, Any]:
    """Return one comparison for each side and number of stored images, paired over seeds.

    Args:
        works: folders of cells. Where several hold the same cells, arms are joined, and one that several have is
            taken from the last; they must share experts, which `run` takes from a cell of the same seed.
    """
    groups: list[dict[str, Any]] = []
    for side, ipc in sorted({(cell.side, cell.ipc) for work in works for cell in cells_of(work)}):
        seeds, sources = _sources(works, side, ipc)
        cells = [Cell(side, ipc, seed) for seed in seeds]
        folders = {arm: [RunFolder(cell.folder(work)) for cell in cells] for arm, work in sources.items()}
        first = folders[FULL][0]
        config, data = load_config(first.config_file), PreparedData.read(first.ingest)
        runs = {
            arm: [ArmRun.load(cell_file(folder, arm, ARCHITECTURE)) for folder in places]
            for arm, places in folders.items()
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
        full = next(row["balanced_accuracy"]["estimate"] for row in rows if row["arm"] == FULL)
        for row in rows:
            found = runs[row["arm"]]
            row["share_of_full"] = row["balanced_accuracy"]["estimate"] / full
            places = folders[row["arm"]]
            sizes = [_stored_bytes(place, row["arm"], one, data) for place, one in zip(places, found, strict=True)]
            row["stored_bytes"], row["stored_bytes_by_seed"] = max(sizes), sizes
            row["training_images_by_seed"] = [one.training_images for one in found]
            row["stored_as"] = _stored_as(places[0], row["arm"], found, side)
            row["factor"] = [one.info.get("factor") for one in found]
            row["bits"] = [one.info.get("bits") for one in found]
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
                "bits": next((bits for places in folders.values() if (bits := _bits(places))), []),
                "config": as_dict(config),
            }
        )
    if not groups:
        raise ConfigError(f"{works[0]}: no finished cell; run `python -m benchmarks.value run` first")
    return {
        "command": "python " + shlex.join(["-m", "benchmarks.value", "run"]),
        "groups": groups,
        "hardware": hardware(),
        "versions": versions(),
    }


def kept(earlier: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups of both by side, number of stored images and seeds.

    A new group takes the place of an earlier one that has no seed and no arm beside those of the new one; one of other
    seeds, or with other arms, stands beside it.
    """

    def arms(group: dict[str, Any]) -> set[str]:
        return {row["arm"] for row in group.get("rows", ())}

    def replaced(old: dict[str, Any]) -> bool:
        return any(
            (old["side"], old["ipc"]) == (one["side"], one["ipc"])
            and set(old["seeds"]) <= set(one["seeds"])
            and arms(old) <= arms(one)
            for one in new
        )

    left = [old for old in earlier if not replaced(old)]
    return sorted((*left, *new), key=lambda group: (group["side"], group["ipc"], group["seeds"]))


def main() -> None:
    """Run cells, or collect what they left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("run", "bits", "collect"))
    parser.add_argument("--data", type=Path, help="folder of the images; needed by run")
    parser.add_argument(
        "--dataset", default=CLINICAL, metavar="NAME", help=f"what they are, see benchmarks.data (default: {CLINICAL})"
    )
    parser.add_argument("--train-images", type=int, default=0, help="use at most so many (default: all)")
    parser.add_argument("--eval-images", type=int, default=0, help="the same of validation and of test (default: all)")
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        nargs="+",
        help="folder of the cells, kept between calls; collect joins several",
    )
    parser.add_argument(
        "--keep", action="store_true", help="collect: keep the groups of the earlier result that have no cell here"
    )
    parser.add_argument("--side", type=int, default=64, help="pixels (default: 64)")
    parser.add_argument("--ipc", default="1,5,10", help="stored images a class (default: 1,5,10)")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--shard", default="0/1", metavar="i/n", help="do every n-th cell from i on")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting of all cells"
    )
    options = parser.parse_args()
    if options.stage == "collect":
        found, result = collect(options.work), result_file(options.dataset)
        if options.keep:
            found["groups"] = kept(read_json(result)["groups"], found["groups"])
        write_json(result, found)
        print(table(read_json(result), "X-rays" if options.dataset == CLINICAL else "images"))
        return
    raise_malloc_thresholds()
    if options.stage == "bits":
        for cell in cells_of(options.work[0]):
            score_bits(cell, options.work[0])
        return
    if options.data is None:
        parser.error("run needs --data")
    index, count = map(int, options.shard.split("/"))
    budgets = [int(text) for text in options.ipc.split(",")]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    every = [Cell(options.side, ipc, seed) for seed in seeds for ipc in budgets]
    source = Source(options.data, options.dataset, options.train_images, options.eval_images)
    own = [] if options.dataset == CLINICAL else ["ingest.classes=[]"]
    for cell in every[index::count]:
        run_cell(cell, source, options.work[0], [*own, *options.set])


if __name__ == "__main__":
    main()
