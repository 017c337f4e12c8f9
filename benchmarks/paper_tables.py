"""The tables of the papers: selection, gradient, distribution and trajectory matching on the same work.

    python -m benchmarks.paper_tables --table cifar10 --scale cpu --data DIR --work DIR [--methods mtt,iadd]
    python -m benchmarks.paper_tables --table cross_arch --scale cpu --data DIR --work DIR --collect

| scale | what |
|---|---|
| `smoke` | seconds a cell: shows that every method runs; its figures mean nothing |
| `cpu` | narrow networks, few experts and images: under two hours for four methods on two cores |
| `full` | the recipe of `pipelines/configs/paper` as it is: for a GPU (`--device cuda`) |

One cell is one method, start, number of images per class, seed and architecture, and one file below --work; its name
holds a digest of all that decides it, so a stopped command goes on where it was, n processes with `--shard` share the
cells, and nothing made with other settings is ever mixed in. Seeds are paired: with one seed all methods share start,
segments, batches and the evaluation networks' weights. Choices are made on validation; the test split is predicted once
a cell and read by the collection, which chooses nothing. Every finished cell is in the result, whatever it says.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.data import NAMES, load
from benchmarks.paper_results import collect
from benchmarks.paper_scales import SCALES, SMALL_SIDE, TABLES
from medidistill.config import METHODS, RunConfig, as_dict, digest
from medidistill.distill import distill, train_experts
from medidistill.distilled_set import DistilledSet
from medidistill.errors import DivergedError, IngestError, MedidistillError, did_you_mean
from medidistill.evaluate import Arm, ArmRun, run_arm
from medidistill.files import write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import load_config
from medidistill.pipeline.arms import SCORING_NETWORKS, make_arm, method_config
from medidistill.pipeline.prepared import Prepared
from medidistill.record import hardware, versions
from medidistill.seeding import derive_seed

HERE = Path(__file__).parent
SELECTIONS = ("random", "kmeans", "herding")
ARMS = ("full", *SELECTIONS, *METHODS)
BOTH_STARTS = ("mtt", "iadd")  # shown from noise and from real images; the others start as the scale says


@dataclass(frozen=True)
class Cell:
    """One cell; ipc 0 and start "" stand for all real images."""

    arm: str
    start: str
    ipc: int
    seed: int
    architecture: str

    @property
    def name(self) -> str:
        """What its file is called."""
        size = f"-{self.start}-ipc{self.ipc}" if self.ipc else ""
        return f"{self.arm}{size}-{self.architecture}-seed{self.seed}"


class Work:
    """The data, the settings and the files of one table at one scale."""

    def __init__(self, table: str, scale: str, source: str, root: Path, folder: Path, device: str) -> None:
        self.table, self.scale, self.source = TABLES[table], SCALES[scale], source
        self.names = (table, scale)
        self.folder, self.device = folder / f"{table}-{scale}", torch.device(device)
        self.recipes = {
            ipc: load_config(name, self._overrides()) for ipc, name in self.table.recipes.items() if ipc <= self.most
        }
        self._root, self._read = root, dict[str, Prepared]()

    @property
    def most(self) -> int:
        """Largest number of images per class."""
        return self.scale.most_ipc

    def _overrides(self) -> tuple[str, ...]:
        table, scale = self.names
        side = SMALL_SIDE.get(table) if scale != "full" else None
        return (*self.scale.overrides, *([f"ingest.image_size={32 if scale == 'smoke' else side}"] if side else []))

    def cells(self, arms: tuple[str, ...], architectures: tuple[str, ...]) -> Iterator[Cell]:
        """Yield every cell, all methods of a seed together."""
        for seed, ipc in itertools.product(range(self.scale.seeds), self.recipes):
            for arm, architecture in itertools.product(arms, architectures):
                if arm == "full":
                    if ipc == min(self.recipes):
                        yield Cell(arm, "", 0, seed, architecture)
                    continue
                for start in self._starts(arm):
                    yield Cell(arm, start, ipc, seed, architecture)

    def _starts(self, arm: str) -> tuple[str, ...]:
        if arm in SELECTIONS:
            return ("real",)
        return ("noise", "real") if arm in BOTH_STARTS and self.names[1] != "smoke" else (self.scale.start,)

    def config(self, cell: Cell) -> RunConfig:
        """Return the run configuration of a cell."""
        recipe = self.recipes[cell.ipc or min(self.recipes)]
        start = dataclasses.replace(recipe.distill, init=cell.start or "noise", ipc=cell.ipc or 1)
        return dataclasses.replace(recipe, seed=cell.seed, distill=start)

    def data(self, config: RunConfig) -> Prepared:
        """Return the images that a recipe is about, read once for each normalisation."""
        key = digest(config.ingest)
        if key not in self._read:
            self._read[key] = load(
                self.source,
                self._root,
                config.ingest,
                train_images=self.scale.train_images,
                classes=self.scale.classes,
            )
        return self._read[key]

    def experts(self, config: RunConfig, method: str) -> list[Path]:
        """Return the pool that `method` matches, trained where it is not there yet. All seeds share it."""
        data, pool = self.data(config), config.experts_by(method)
        train, name = data.train, digest(data.digest, config.network, dataclasses.replace(pool, count=1))
        return train_experts(
            data.normalisation.apply(train.images).to(self.device),
            train.labels.to(self.device),
            num_classes=train.num_classes,
            network=config.network,
            config=pool,
            seed=0,
            folder=self.folder / f"experts-{name}",
            on_epoch=lambda done, total: _say(f"experts {name}: epoch {done}/{total}", done % 10 == 0),
        )

    def distilled(self, cell: Cell) -> DistilledSet:
        """Return the set of a cell, distilled where it is not there yet; architectures share it."""
        config = self.config(cell)
        data, settings = self.data(config), method_config(config, cell.arm)
        files = self.experts(config, cell.arm)
        name = digest(data.digest, config.network, config.experts_by(cell.arm), settings, config.evaluate.small)
        folder = self.folder / "distilled" / f"{cell.arm}-{cell.start}-ipc{cell.ipc}-seed{cell.seed}-{name}"
        file = folder / "distilled.safetensors"
        if file.is_file():
            return DistilledSet.load(file)
        train = data.train
        images = data.normalisation.apply(train.images).to(self.device) if settings.reads_real else None
        result = distill(
            files,
            settings,
            class_names=train.class_names,
            normalisation=data.normalisation,
            training=config.evaluate.small,
            seed=cell.seed,
            folder=folder,
            resume=True,
            score=self._score(config, data),
            real=None if images is None else (images, train.labels.to(self.device)),
            recipe={"method": cell.arm, "data": data.digest},
            device=self.device,
        )
        if result.status != "completed":
            raise DivergedError(f"{folder.name}: {result.status} after step {len(result.history)}")
        return result.distilled

    def _score(self, config: RunConfig, data: Prepared) -> Callable[[DistilledSet], float]:
        def score(candidate: DistilledSet) -> float:
            arm = Arm("score", candidate.images, candidate.targets, (candidate.training,))
            return self._trained(
                arm, config, data, SCORING_NETWORKS, derive_seed(config.seed, "score"), False
            ).val_score

        return score

    def _trained(
        self, arm: Arm, config: RunConfig, data: Prepared, networks: int, seed: int, test: bool, name: str = ""
    ) -> ArmRun:
        norm = data.normalisation
        return run_arm(
            dataclasses.replace(arm, images=arm.images.to(self.device), labels=arm.labels.to(self.device)),
            network=dataclasses.replace(config.network, name=name or config.network.name),
            val_images=norm.apply(data.val.images).to(self.device),
            val_labels=data.val.labels,
            test_images=norm.apply(data.test.images).to(self.device) if test else None,
            num_classes=data.train.num_classes,
            networks=networks,
            seed=seed,
        )

    def cell(self, cell: Cell) -> ArmRun:
        """Return an evaluated cell, from its file or by doing the work."""
        config = self.config(cell)
        data, file = self.data(config), self._file(cell)
        try:
            return ArmRun.load(file)
        except IngestError:
            pass  # not there, or left half-written by another tool: done anew
        sets = {cell.arm: self.distilled(cell)} if cell.arm in METHODS else {}
        arm = make_arm(cell.arm, config, data, sets)
        info = {**arm.info, "start": cell.start, "ipc": cell.ipc}
        run = self._trained(
            dataclasses.replace(arm, info=info),
            config,
            data,
            config.evaluate.networks,
            config.seed,
            True,
            cell.architecture,
        )
        run.save(file)
        _say(f"{cell.name}: validation {run.val_score:.3f}")
        return run

    def _file(self, cell: Cell) -> Path:
        config = self.config(cell)
        name = digest(self.data(config).digest, dataclasses.asdict(cell), as_dict(config))
        return self.folder / "cells" / f"{cell.name}-{name}.safetensors"

    def finished(self, arms: tuple[str, ...], architectures: tuple[str, ...]) -> dict[Cell, ArmRun]:
        """Return the cells that are there."""
        return {
            cell: ArmRun.load(file) for cell in self.cells(arms, architectures) if (file := self._file(cell)).is_file()
        }

    def result(self, arms: tuple[str, ...], architectures: tuple[str, ...]) -> dict[str, Any]:
        """Return what the finished cells say, with all that a reader must know beside it."""
        runs, table, scale = self.finished(arms, architectures), *self.names
        wanted = [cell.name for cell in self.cells(arms, architectures)]
        some = self.data(next(iter(self.recipes.values())))
        return {
            "table": table,
            "scale": scale,
            "source": self.source,
            "command": "python " + shlex.join(["-m", "benchmarks.paper_tables", "--table", table, "--scale", scale]),
            "images": {split: len(getattr(some, split)) for split in ("train", "val", "test")},
            "classes": some.train.num_classes,
            "recipes": {str(ipc): as_dict(recipe) for ipc, recipe in self.recipes.items()},
            "missing": sorted(set(wanted) - {cell.name for cell in runs}),
            "hardware": hardware(),
            "versions": versions(),
            **collect(
                {(c.arm, c.start, c.ipc, c.architecture, c.seed): run for c, run in runs.items()},
                some.test.labels.numpy(),
            ),
        }


def _say(text: str, now: bool = True) -> None:
    if now:
        print(text, file=sys.stderr, flush=True)


def _shard(text: str) -> tuple[int, int]:
    i, n = map(int, text.split("/"))
    return i, n


def _arms(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    for name in chosen:
        if name not in ARMS:
            raise argparse.ArgumentTypeError(
                f"unknown method {name!r}{did_you_mean(name, ARMS)}; known: {', '.join(ARMS)}"
            )
    return chosen


def main() -> None:
    """Do the cells of a table that are not there yet, and collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=tuple(TABLES), required=True)
    parser.add_argument("--scale", choices=tuple(SCALES), default="cpu")
    parser.add_argument("--data", type=Path, required=True, help="folder of the images, see benchmarks.data")
    parser.add_argument("--source", help=f"another set in its place: {', '.join(NAMES)}, or a MedMNIST .npz")
    parser.add_argument("--work", type=Path, required=True, help="folder of the cells; kept between calls")
    parser.add_argument(
        "--methods", type=_arms, default=ARMS, metavar="A,B", help=f"of {', '.join(ARMS)} (default: all)"
    )
    parser.add_argument("--shard", type=_shard, default=(0, 1), metavar="i/n", help="do every n-th cell from i on")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--collect", action="store_true", help="train nothing; write what the finished cells say")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the JSON file")
    options = parser.parse_args()
    raise_malloc_thresholds()
    if options.device == "cpu":
        torch.set_num_threads(1)
    table = TABLES[options.table]
    source = options.source or table.data
    work = Work(options.table, options.scale, source, options.data, options.work, options.device)
    try:
        if not options.collect:
            cells = itertools.islice(
                work.cells(options.methods, table.architectures), options.shard[0], None, options.shard[1]
            )
            for cell in cells:
                try:
                    work.cell(cell)
                except DivergedError as error:
                    _say(f"{cell.name}: diverged, left out: {error}")
        result = work.result(options.methods, table.architectures)
    except MedidistillError as error:
        raise SystemExit(f"benchmarks.paper_tables: {error}") from error
    file = options.results / f"paper_{options.table}_{options.scale}.json"
    write_json(file, result)
    _say(f"{file}: {len(result['rows'])} rows, {len(result['missing'])} cells missing")


if __name__ == "__main__":
    main()
