"""What an outer step costs as the work grows: by J, ipc, resolution, number of experts, and ranks.

    python -m benchmarks.scaling --scale smoke|cpu [--device cpu|cuda] [--threads 2] [--series ipc,side]

Each point is a process that distills; the points of a series take turns, a few outer steps each.
Nothing is compiled: that would change the constants, not how they grow, and would take longer than the benchmark.
Memory is the peak above the process's size before the distillation began, experts' files and all. `ranks` deals the
same segments to more processes of one thread each, by torchrun and gloo, and its memory is that of one of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import WorkerGroup, answer, facts, options_of
from medidistill.config import AugmentConfig, DistillConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import DistillProblem, distill, join_ranks
from medidistill.distillation.trajectory import Architecture, expert_file, write_expert
from medidistill.distilled_set import Normalisation
from medidistill.networks import ParameterLayout, raise_malloc_thresholds
from medidistill.seeding import stream
from tests.support.peak_memory import Peak

_CLASSES = 3
_STEPS = 2  # outer steps that a turn counts


@dataclass(frozen=True)
class Point:
    """One distillation: everything that a series may change.

    Args:
        inner_steps: J.
        ipc: distilled images a class, all of them in every inner step.
        side: rows and columns.
        experts: in the pool.
        ranks: processes.
        segments: averaged in an outer step.
        width: channels of the ConvNet; its depth follows from `side`.
    """

    inner_steps: int = 10
    ipc: int = 5
    side: int = 32
    experts: int = 2
    ranks: int = 1
    segments: int = 1
    width: int = 32


@dataclass(frozen=True)
class Series:
    """Points that differ in one field."""

    field: str
    values: tuple[int, ...]
    base: Point

    def points(self) -> list[Point]:
        """Return one point for each value."""
        return [dataclasses.replace(self.base, **{self.field: value}) for value in self.values]


def _all_series(threads: int) -> dict[str, tuple[Series, ...]]:
    tiny, base = Point(2, 1, 16, width=4), Point()
    ranks = tuple(count for count in (1, 2, 4, 8) if count <= threads)
    dealt = dataclasses.replace(base, segments=max(ranks))
    return {
        "smoke": (Series("inner_steps", (2, 4), tiny),),
        "cpu": (
            Series("inner_steps", (10, 20, 40, 80), base),
            Series("ipc", (1, 5, 20, 50), base),
            Series("side", (16, 32, 64, 128), dataclasses.replace(base, ipc=2)),
            Series("experts", (1, 8, 64), base),
            Series("ranks", ranks, dealt),
        ),
    }


def _write_experts(point: Point, folder: Path) -> None:
    """Write a pool of made-up experts: an outer step costs the same whatever they learned."""
    shape = Architecture(NetworkConfig(width=point.width), 1, point.side, _CLASSES)
    for number in range(point.experts):
        generator = stream(0, "benchmark", number)
        begin = ParameterLayout.of(network := shape.make_network(generator)).flatten(network)
        way = torch.randn(4, len(begin), generator=generator).cumsum(0) * 1e-3
        header = {"architecture": shape.as_dict(), "digest": "made up", "expert": number, "seed": 0, "final_loss": 1.0}
        write_expert(expert_file(folder, number), torch.cat([begin[None], begin + way]), header)


def measure(point: Point, device: str, threads: int, steps: int, folder: str) -> Callable[[], Mapping[str, Any]]:
    """Return what takes `steps` outer steps after a first one, and says what one of them cost.

    Several ranks take their turns together, when the first one is told to; the others come back when it has ended.
    """
    torch.set_num_threads(threads)
    raise_malloc_thresholds()
    where, ranks = torch.device(device), join_ranks()
    config = DistillConfig(
        ipc=point.ipc,
        outer_steps=1 + steps,
        inner_steps=point.inner_steps,
        max_start=2,
        segments=point.segments,
        validate_every=0,
        augment=AugmentConfig(shift=0.05),
        compile="off",
    )
    files = [expert_file(Path(folder), number) for number in range(point.experts)]
    peak = Peak(where)

    def turn() -> Mapping[str, Any]:
        found = distill(
            DistillProblem(
                files,
                class_names=[str(k) for k in range(_CLASSES)],
                normalisation=Normalisation(),
                training=TrainingConfig(),
                seed=0,
            ),
            config,
            device=where,
            ranks=ranks,
        )
        seconds = [float(entry["seconds"]) for entry in found.history[1:]]
        return {"step_seconds": statistics.median(seconds), "peak_bytes": peak.bytes()}

    def told() -> Mapping[str, Any]:
        ranks.broadcast(1.0)
        return turn()

    while ranks.index and ranks.broadcast(None):
        turn()
    return told


def run(series: Series, device: str, threads: int, rounds: int) -> dict[str, Any]:
    """Return a row for each point of a series."""
    points = series.points()
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        teams = []
        for number, point in enumerate(points):
            folder = Path(place) / str(number)
            folder.mkdir()
            _write_experts(point, folder)
            asked = {"point": dataclasses.asdict(point), "device": device, "folder": str(folder), "steps": _STEPS}
            asked["threads"] = 1 if series.field == "ranks" else threads
            launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={point.ranks}"]
            teams.append(stack.enter_context(WorkerGroup("scaling", [asked], launcher if point.ranks > 1 else ())))
        found = [[team.work()[0] for team in teams] for _ in range(rounds)]
    rows = []
    for point, turns in zip(points, zip(*found, strict=True), strict=True):
        row: dict[str, Any] = {name: [turn[name] for turn in turns] for name in ("step_seconds", "cpu_seconds")}
        row |= {"value": getattr(point, series.field), "peak_bytes": turns[-1]["peak_bytes"]}
        row["cpu_seconds"] = [seconds / (1 + _STEPS) for seconds in row["cpu_seconds"]]
        print(f"{series.field}={row['value']}: {statistics.median(row['step_seconds']):.3f} s", file=sys.stderr)
        rows.append(row)
    return {"field": series.field, "base": dataclasses.asdict(series.base), "points": rows}


def main() -> None:
    """Measure all series of a scale and write them as JSON."""
    options = options_of(__doc__, "scaling", ("smoke", "cpu"), series="")
    if options.measure:
        asked = json.loads(options.measure)
        asked["point"] = Point(**asked["point"])
        ranks = join_ranks()
        if ranks.index:
            measure(**asked)
        else:
            answer(lambda: measure(**asked))
            ranks.broadcast(None)  # there will be no more turns
        return
    wanted = options.series.split(",") if options.series else None
    series = [one for one in _all_series(options.threads)[options.scale] if wanted is None or one.field in wanted]
    facts("scaling", options, [run(one, options.device, options.threads, options.rounds) for one in series])


if __name__ == "__main__":
    main()
