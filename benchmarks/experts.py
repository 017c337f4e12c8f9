"""Experts a minute: ours against the plain loop of published code.

    python -m benchmarks.experts --scale smoke|cpu|gpu [--device cpu|cuda] [--threads 2] [--output FILE]

| kind | what |
|---|---|
| `plain` | one expert after another by eager modules and `torch.optim.SGD`, as published code trains them |
| `ours` | `train_experts`, compiled, one after another |
| `processes` | CPU: `train_experts --shard i/n`, n processes with one thread each |
| `stack E` | E experts in one stack of parameters (vmap) |

All train the same experts from the same weights and batches; `deviation` says how far their ends are from those of
`plain`, as a share of the way that the expert went. Each kind runs in processes of its own, in turns with the others,
and is timed after its first experts, which take `first_seconds`, compilation included. `speedup` and `cpu_ratio` are
medians of the ratios within a round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.measuring import WorkerGroup, answer, facts, options_of
from medidistill.config import ExpertConfig, NetworkConfig
from medidistill.distillation import train_experts
from medidistill.distillation.trajectory import Architecture, Expert, expert_file
from medidistill.networks import ParameterLayout, draw, raise_malloc_thresholds
from medidistill.seeding import stream
from tests.support.peak_memory import Peak

_CLASSES = 10


@dataclass(frozen=True)
class Work:
    """A pool of experts to train.

    Args:
        side: rows and columns of the images.
        channels: of the images.
        depth: blocks of the ConvNet.
        width: channels of every block.
        images: real images; noise here, as time does not depend on them.
        batch: images a step.
        epochs: of each expert.
        count: experts a round; a multiple of all stacks.
        stacks: experts a stack.
        compile: ours; off where compiling would take longer than the benchmark.
    """

    side: int
    channels: int
    depth: int
    width: int
    images: int
    batch: int
    epochs: int
    count: int
    stacks: Sequence[int] = ()
    compile: bool = True

    @property
    def name(self) -> str:
        """Short text for a table row."""
        return f"{self.side}x{self.side}x{self.channels}, D{self.depth} w{self.width}, batch {self.batch}"


SCALES = {
    "smoke": (Work(16, 1, 2, 4, 32, 8, 2, 2, (2,), compile=False),),
    "cpu": (Work(32, 1, 3, 128, 256, 64, 1, 2, (2,)), Work(64, 1, 4, 32, 256, 64, 1, 2, (2,))),
    "gpu": (
        Work(32, 3, 3, 128, 5120, 256, 3, 8, (2, 4, 8)),
        Work(64, 1, 4, 64, 1024, 64, 5, 16, (4, 16)),
        Work(112, 1, 5, 128, 1024, 64, 2, 8, (2, 8)),
    ),
}


def _data(work: Work, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = stream(0, "benchmark", "experts")
    images = torch.randn(work.images, work.channels, work.side, work.side, generator=generator)
    return images.to(device), (torch.arange(work.images) % _CLASSES).to(device)


def _plain(work: Work, number: int, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Train one expert by eager modules, with the weights and batches that `train_experts` draws."""
    shape = Architecture(NetworkConfig(width=work.width, depth=work.depth), work.channels, work.side, _CLASSES)
    network = shape.make_network(stream(0, "expert", number, "init")).to(images.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=ExpertConfig().lr)
    generator = stream(0, "expert", number, "batches")
    snapshots = []
    for _ in range(work.epochs):
        order = torch.randperm(len(images), generator=generator)
        for index in torch.split(order, work.batch):
            draw(work.batch, generator)  # the augmentation's numbers, which `train_experts` draws between the batches
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(network(images[index]), labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        snapshots.append(ParameterLayout.of(network).flatten(network).cpu())
    return snapshots


def _trainer(
    work: Work, kind: str, stack: int, shard: tuple[int, int], device: torch.device, folder: Path
) -> Callable[[int], None]:
    """Return a function that trains all experts up to `count` that are not there yet."""
    images, labels = _data(work, device)
    if kind == "plain":
        ends: dict[int, Tensor] = {}

        def plain(count: int) -> None:
            for number in range(len(ends), count):
                ends[number] = _plain(work, number, images, labels)[-1]
            torch.save(ends, folder / "plain")

        return plain
    raise_malloc_thresholds()
    config = ExpertConfig(epochs=work.epochs, batch_size=work.batch)

    def ours(count: int) -> None:
        train_experts(
            images,
            labels,
            num_classes=_CLASSES,
            network=NetworkConfig(width=work.width, depth=work.depth),
            config=dataclasses.replace(config, count=count),
            seed=0,
            folder=folder,
            compile="on" if work.compile else "off",
            shard=shard,
            stack_size=stack,
        )

    return ours


def measure(
    work: Work, kind: str, stack: int, shard: tuple[int, int], device: str, threads: int, folder: str
) -> Callable[[], dict[str, Any]]:
    """Train the first experts, a stack of them or one a process; return what trains `work.count` more at each call."""
    torch.set_num_threads(threads)
    where, done = torch.device(device), stack * shard[1]
    peak = Peak(where)
    train = _trainer(work, kind, stack, shard, where, Path(folder))
    begun = time.perf_counter()
    train(done)
    opening = time.perf_counter() - begun

    def more() -> dict[str, Any]:
        nonlocal done
        done += work.count
        train(done)
        return {"first_seconds": opening, "peak_bytes": peak.bytes()}

    return more


def deviation(folder: Path, plain: Path) -> float:
    """Return the largest distance of an expert's end from that of the plain loop, as a share of the expert's way."""
    worst = 0.0
    for number, end in torch.load(plain / "plain", weights_only=True).items():
        if expert_file(folder, number).is_file():
            expert = Expert.open(expert_file(folder, number))
            begin, ours = expert.snapshot(0), expert.snapshot(expert.epochs)
            worst = max(worst, float((ours - end).norm() / (ours - begin).norm()))
    return worst


def compare(work: Work, device: str, threads: int, rounds: int) -> dict[str, Any]:
    """Return all kinds of one work, with their ratio to the plain loop."""
    kinds = [("plain", 1, 1), ("ours", 1, 1)]
    kinds += [("stack", stack, 1) for stack in work.stacks]
    kinds += [("processes", 1, threads)] if device == "cpu" and threads > 1 else []
    asked = {"work": dataclasses.asdict(work), "device": device}
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stacked:
        folders = {kind: Path(place) / "-".join(map(str, kind)) for kind in kinds}
        teams = {}
        for kind in kinds:
            folders[kind].mkdir()
            name, stack, processes = kind
            one = {**asked, "kind": name, "stack": stack, "folder": str(folders[kind])}
            each = [{**one, "shard": [i, processes], "threads": threads // processes} for i in range(processes)]
            teams[kind] = stacked.enter_context(WorkerGroup("experts", each))
        found = [{kind: team.work() for kind, team in teams.items()} for _ in range(rounds)]
        rows = [_row(work, kind, [turn[kind] for turn in found], [turn[kinds[0]] for turn in found]) for kind in kinds]
        for kind, row in zip(kinds[1:], rows[1:], strict=True):
            row["deviation"] = deviation(folders[kind], folders[kinds[0]])
    for row in rows:
        print(f"{work.name}, {row['kind']}: {row['speedup']:.2f} times plain", file=sys.stderr, flush=True)
    return {**dataclasses.asdict(work), "name": work.name, "kinds": rows}


def _row(
    work: Work, kind: tuple[str, int, int], turns: list[list[dict[str, Any]]], plain: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    seconds, reference = ([max(one["seconds"] for one in turn) for turn in one] for one in (turns, plain))
    cpu, cpu_reference = ([sum(one["cpu_seconds"] for one in turn) for turn in one] for one in (turns, plain))
    name, stack, processes = kind
    return {
        "kind": name + (f" {stack}" if stack > 1 else f" {processes}" if processes > 1 else ""),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "experts_a_minute": 60 * work.count / statistics.median(seconds),
        "speedup": statistics.median(b / a for a, b in zip(seconds, reference, strict=True)),
        "cpu_ratio": statistics.median(a / b for a, b in zip(cpu, cpu_reference, strict=True)),
        "first_seconds": max(one["first_seconds"] for one in turns[0]),
        "peak_bytes": sum(one["peak_bytes"] for one in turns[-1]),
    }


def main() -> None:
    """Measure all works of a scale and write them as JSON."""
    options = options_of(__doc__, "experts", tuple(SCALES))
    if options.measure:
        asked = json.loads(options.measure)
        asked["work"] = Work(**asked["work"])
        answer(lambda: measure(**asked))
        return
    works = SCALES[options.scale]
    facts("experts", options, [compare(work, options.device, options.threads, options.rounds) for work in works])


if __name__ == "__main__":
    main()
