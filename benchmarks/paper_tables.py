"""The tables of the papers: selection, gradient, distribution and trajectory matching on the same work.

    python -m benchmarks.paper_tables --table cifar10 --scale cpu --data DIR --work DIR [--methods mtt,iadd]
    python -m benchmarks.paper_tables --table cross_arch --scale cpu --data DIR --work DIR --collect

| scale | what |
|---|---|
| `smoke` | seconds a cell: shows that every method runs; its figures mean nothing |
| `cpu` | a narrow network, short experts, some dozen outer steps, small images: seconds a cell on one core |
| `full` | the recipe of `pipelines/configs/paper` as it is: for a GPU (`--device cuda`) |

One cell is one method, start, number of images per class, seed and architecture, and one file below --work; its name
holds a digest of all that decides it, so a stopped command goes on where it was and nothing made with other settings is
ever mixed in. Start the same command n times on one --work to use n cores: each process takes what no other has. The
tables of one set share experts, sets and cells. Seeds are paired: with one seed all methods share start, segments,
batches and the evaluation networks' weights. Choices are made on validation; the test split is predicted once a cell
and read by the collection, which chooses nothing. Every finished cell is in the result, whatever it says.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import math
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.claims import claim
from benchmarks.data import NAMES, load
from benchmarks.paper_results import collect
from benchmarks.paper_scales import CPU_ONLY, SCALES, SMALL_SIDE, TABLES
from medidistill.config import METHODS, RunConfig, as_dict, digest, with_settings, without_later_defaults
from medidistill.distillation import Callbacks, DistillProblem, DistillStatus, distill, train_experts
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, DivergedError, IngestError, MedidistillError, did_you_mean
from medidistill.evaluate import Arm, ArmRun, run_arm
from medidistill.files import write_json
from medidistill.networks import raise_malloc_thresholds, should_compile
from medidistill.pipeline import load_config
from medidistill.pipeline.comparison.arms import SCORING_NETWORKS, make_arm, method_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions
from medidistill.seeding import derive_seed

HERE = Path(__file__).parent
SELECTIONS = ("random", "kmeans", "herding")
ARMS = (
    "full",
    *SELECTIONS,
    *(method for method in METHODS if not METHODS[method].needs_dp),
)  # that has benchmarks.privacy_table
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

    def __init__(
        self, table: str, scale: str, source: str, root: Path, folder: Path, device: str, compile: str = "auto"
    ) -> None:
        self.table, self.scale, self.source = TABLES[table], SCALES[scale], source
        self.names = (table, scale)
        self.folder, self.device, self.compile = folder / f"{source}-{scale}", torch.device(device), compile
        self.recipes = {
            ipc: load_config(name, self._overrides())
            for ipc, name in self.table.recipes.items()
            if not self.scale.ipc or ipc in self.scale.ipc
        }
        self._root, self._read = root, dict[str, PreparedData]()
        self._ready, self._pools = dict[tuple[str, str], Tensor](), dict[str, list[Path]]()

    @property
    def arms(self) -> tuple[str, ...]:
        """What the table compares."""
        return self.table.arms or ARMS

    def _overrides(self) -> tuple[str, ...]:
        table, scale = self.names
        side = SMALL_SIDE.get(table) if scale != "full" else None
        few = CPU_ONLY.get(table, ()) if scale == "cpu" else ()
        return (*self.scale.overrides, *few, *([f"ingest.image_size={side}"] if side else []))

    def only(self, sizes: tuple[int, ...]) -> None:
        """Leave out all other numbers of images per class. Raises `ConfigError` for one that is not in the table."""
        for ipc in sizes:
            if ipc not in self.recipes:
                raise ConfigError(f"--ipc {ipc}: must be one of {', '.join(map(str, self.recipes))}")
        self.recipes = {ipc: recipe for ipc, recipe in self.recipes.items() if ipc in sizes}

    def cells(self, arms: tuple[str, ...], architectures: tuple[str, ...]) -> Iterator[Cell]:
        """Yield every cell, all methods of a seed together, sets before the architectures that share them."""
        for ipc, seed in itertools.product(self.recipes, range(self.scale.seeds)):
            for architecture, arm in itertools.product(architectures, arms):
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
        start = with_settings(recipe.distill, {"init": cell.start or "noise", "ipc": cell.ipc or 1})
        return dataclasses.replace(recipe, seed=cell.seed, distill=start)

    def data(self, config: RunConfig) -> PreparedData:
        """Return the images that a recipe is about, read once for each normalisation."""
        scale, key = self.scale, digest(config.ingest)
        if key not in self._read:
            folder = self.folder / f"prepared-{key}"
            with claim(folder.with_suffix(".lock"), wait=True):
                try:
                    self._read[key] = PreparedData.read(folder)
                except IngestError:
                    load(
                        self.source,
                        self._root,
                        config.ingest,
                        train_images=scale.train_images,
                        eval_images=scale.eval_images,
                        classes=scale.classes,
                    ).save(folder)
                    self._read[key] = PreparedData.read(folder)
        return self._read[key]

    def _images(self, config: RunConfig, split: str) -> Tensor:
        """Return the normalised images of a split on the device."""
        key = (digest(config.ingest), split)
        if key not in self._ready:
            data = self.data(config)
            self._ready[key] = data.normalisation.apply(getattr(data, split).images).to(self.device)
        return self._ready[key]

    def experts(self, config: RunConfig, method: str) -> list[Path]:
        """Return the pool that `method` matches, trained where it is not there yet. All seeds share it."""
        data, pool = self.data(config), config.experts_by(method)
        name = digest(data.digest, config.network, dataclasses.replace(pool, count=1))
        if name in self._pools:
            return self._pools[name]
        folder = self.folder / f"experts-{name}"
        train = functools.partial(
            train_experts,
            self._images(config, "train"),
            data.train.labels.to(self.device),
            num_classes=data.train.num_classes,
            network=config.network,
            config=pool,
            seed=0,
            folder=folder,
            compile=self.compile,
        )
        for wait in (False, True):  # first what nobody is at, then what others were at
            for number in range(pool.count):
                with claim(folder / f"expert-{number}.lock", wait=wait) as mine:
                    if mine:
                        train(shard=(number, pool.count))
        self._pools[name] = train()
        return self._pools[name]

    def distilled(self, cell: Cell) -> DistilledSet:
        """Return the set of a cell, distilled where it is not there yet; architectures share it."""
        config, folder = self.config(cell), self._set(cell)
        data, settings = self.data(config), method_config(config, cell.arm)
        file = folder / "distilled.safetensors"
        if file.is_file():
            return DistilledSet.load(file)
        files, train = self.experts(config, cell.arm), data.train
        images = self._images(config, "train") if settings.requires_real else None
        result = distill(
            DistillProblem(
                files,
                class_names=train.class_names,
                normalisation=data.normalisation,
                training=config.evaluate.small_set_training,
                seed=cell.seed,
                real=None if images is None else (images, train.labels.to(self.device)),
                expert_training=config.experts_by(cell.arm),
                recipe={"method": cell.arm, "data": data.digest},
            ),
            with_settings(settings, {"compile": self.compile}),
            callbacks=Callbacks(score=self._score(config, data)),
            folder=folder,
            resume=True,
            device=self.device,
        )
        if result.status is not DistillStatus.COMPLETED:
            raise DivergedError(f"{folder.name}: {result.status} after step {len(result.history)}")
        return result.distilled

    def _set(self, cell: Cell) -> Path:
        config = self.config(cell)
        settings = method_config(config, cell.arm)
        parts = (config.network, config.experts_by(cell.arm), settings, config.evaluate.small_set_training)
        name = digest(self.data(config).digest, *parts)
        return self.folder / "distilled" / f"{cell.arm}-{cell.start}-ipc{cell.ipc}-seed{cell.seed}-{name}"

    def _score(self, config: RunConfig, data: PreparedData) -> Callable[[DistilledSet], float]:
        def score(candidate: DistilledSet) -> float:
            arm = Arm("score", candidate.images, candidate.targets, (candidate.training,))
            return self._trained(
                arm, config, data, SCORING_NETWORKS, derive_seed(config.seed, "score"), False
            ).val_score

        return score

    def _trained(
        self, arm: Arm, config: RunConfig, data: PreparedData, networks: int, seed: int, test: bool, name: str = ""
    ) -> ArmRun:
        steps = max(candidate.steps for candidate in arm.candidates) * (networks + 2 * len(arm.candidates))
        work = steps * min(arm.candidates[0].batch_size, len(arm.images)) * config.network.width
        return run_arm(
            arm.to(self.device),
            network=dataclasses.replace(config.network, name=name or config.network.name),
            val_images=self._images(config, "val"),
            val_labels=data.val.labels,
            test_images=self._images(config, "test") if test else None,
            num_classes=data.train.num_classes,
            networks=networks,
            seed=seed,
            compile=should_compile(self.compile, work * arm.images[0, 0].numel()),
        )

    def attempt(self, cell: Cell) -> bool:
        """Do a cell unless another process is at it; return whether it is done, or known to diverge."""
        if self._file(cell).is_file() or self._mark(cell).is_file():
            return True
        with claim(self._file(cell).with_suffix(".lock")) as mine:
            if not mine:
                return False
            if cell.arm in METHODS and not (self._set(cell) / "distilled.safetensors").is_file():
                with claim(self._set(cell).with_suffix(".lock")) as alone:
                    if not alone:
                        return False  # another architecture's cell is making the set
                    self.distilled(cell)
            self.cell(cell)
        return True

    def cell(self, cell: Cell) -> ArmRun:
        """Return an evaluated cell, from its file or by doing the work."""
        config = self.config(cell)
        data, file, started = self.data(config), self._file(cell), time.perf_counter()
        try:
            return ArmRun.load(file)
        except IngestError:
            pass  # not there, or left half-written by another tool: done anew
        sets = {cell.arm: self.distilled(cell)} if cell.arm in METHODS else {}
        arm = make_arm(cell.arm, config, data, sets)
        made = {"start": cell.start, "ipc": cell.ipc, "device": _device(self.device), "torch": torch.__version__}
        run = self._trained(
            dataclasses.replace(arm, info={**arm.info, **made}),
            config,
            data,
            config.evaluate.num_networks,
            config.seed,
            True,
            cell.architecture,
        )
        dataclasses.replace(run, val_probabilities=None).save(file)  # nothing here chooses a threshold
        _say(f"{cell.name}: validation {run.val_score:.3f}, {time.perf_counter() - started:.0f} s")
        return run

    def _file(self, cell: Cell) -> Path:
        config = self.config(cell)
        name = digest(self.data(config).digest, dataclasses.asdict(cell), without_later_defaults(config))
        return self.folder / "cells" / f"{cell.name}-{name}.safetensors"

    def _mark(self, cell: Cell) -> Path:
        return self._file(cell).with_suffix(".diverged.json")

    def give_up(self, cell: Cell, error: DivergedError) -> None:
        """Remember that a cell diverged, so that no process tries again."""
        write_json(self._mark(cell), {"cell": cell.name, "error": str(error)})
        _say(f"{cell.name}: diverged, left out: {error}")

    def finished(self, arms: tuple[str, ...], architectures: tuple[str, ...]) -> dict[Cell, ArmRun]:
        """Return the cells that are there."""
        return {
            cell: ArmRun.load(file) for cell in self.cells(arms, architectures) if (file := self._file(cell)).is_file()
        }

    def result(self, arms: tuple[str, ...], architectures: tuple[str, ...]) -> dict[str, Any]:
        """Return what the finished cells say, with all that a reader must know beside it."""
        runs, table, scale = self.finished(arms, architectures), *self.names
        wanted = [cell.name for cell in self.cells(arms, architectures)]
        diverged = [cell.name for cell in self.cells(arms, architectures) if self._mark(cell).is_file()]
        some = self.data(next(iter(self.recipes.values())))
        command = ["-m", "benchmarks.paper_tables", "--table", table, "--scale", scale]
        command += ["--source", self.source] if self.source != self.table.data else []
        return {
            "table": table,
            "scale": scale,
            "source": self.source,
            "command": "python " + shlex.join(command),
            "images": {split: len(getattr(some, split)) for split in ("train", "val", "test")},
            "classes": some.train.num_classes,
            "recipes": {str(ipc): as_dict(recipe) for ipc, recipe in self.recipes.items()},
            "missing": sorted(set(wanted) - {cell.name for cell in runs} - set(diverged)),
            "diverged": sorted(diverged),
            "made_on": _places(list(runs.values())),
            "collected_on": {"hardware": hardware(), "versions": versions()},
            **collect(
                {(c.arm, c.start, c.ipc, c.architecture, c.seed): run for c, run in runs.items()},
                some.test.labels.numpy(),
            ),
        }


def _say(text: str, now: bool = True) -> None:
    if now:
        print(text, file=sys.stderr, flush=True)


def _device(device: torch.device) -> str:
    found = hardware()
    return str(found["accelerator"] if device.type == "cuda" else found["cpu"])


def _places(runs: Sequence[ArmRun]) -> list[dict[str, Any]]:
    """Return on what the cells were made: device and version of torch, with the number of cells."""
    counts = Counter((str(run.info["device"]), str(run.info["torch"])) for run in runs)
    return [{"device": device, "torch": version, "cells": n} for (device, version), n in sorted(counts.items())]


def run_pending_cells(work: Work, cells: list[Cell], until: float = math.inf) -> None:
    """Do all cells, beside any number of other processes; start none after `until` (`time.monotonic`)."""
    while cells:
        left = []
        for cell in cells:
            if time.monotonic() > until:
                return
            try:
                done = work.attempt(cell)
            except DivergedError as error:
                work.give_up(cell, error)
                continue
            if not done:
                left.append(cell)
        if len(left) == len(cells):
            time.sleep(1)  # all that is left is in other hands
        cells = left


def _shard(text: str) -> tuple[int, int]:
    i, n = map(int, text.split("/"))
    return i, n


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


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
    parser.add_argument("--methods", type=_arms, metavar="A,B", help=f"of {', '.join(ARMS)} (default: the table's)")
    parser.add_argument(
        "--ipc", type=_sizes, metavar="A,B", help="images per class (default: the table's at the scale)"
    )
    parser.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="i/n", help="every n-th cell from i on, for machines apart"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of this process (default: 1)")
    parser.add_argument(
        "--compile", choices=("auto", "on", "off"), default="auto", help="torch.compile (default: auto)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="M", help="begin no cell after M minutes")
    parser.add_argument("--collect", action="store_true", help="train nothing; write what the finished cells say")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the JSON file")
    options = parser.parse_args()
    raise_malloc_thresholds()
    until = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False  # the adjoint is exact; ten bits of mantissa would not be
    table = TABLES[options.table]
    source = options.source or table.data
    work = Work(options.table, options.scale, source, options.data, options.work, options.device, options.compile)
    arms = options.methods or work.arms
    try:
        if options.ipc:
            work.only(options.ipc)
        if not options.collect:
            run_pending_cells(
                work, list(work.cells(arms, table.architectures))[options.shard[0] :: options.shard[1]], until
            )
        result = work.result(arms, table.architectures)
    except MedidistillError as error:
        raise SystemExit(f"benchmarks.paper_tables: {error}") from error
    file = options.results / f"paper_{options.table}_{options.scale}.json"
    write_json(file, result)
    _say(f"{file}: {len(result['rows'])} rows, {len(result['missing'])} cells missing")


if __name__ == "__main__":
    main()
