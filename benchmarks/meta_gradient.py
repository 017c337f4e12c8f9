"""Time and memory of one meta-gradient: ours against the stored graph of published trajectory-matching code.

    python -m benchmarks.meta_gradient --scale smoke|cpu [--threads 2] [--output FILE]

The reference is the double backward through J stored inner graphs, in eager mode, as published. Ours is the adjoint,
compiled: in float32; the same, keeping activations of the forward pass where all fit into 500 MB; and that with
bfloat16 tangents.
All are timed in turn in one process, so that a shared machine slows them alike; reported are ratios of medians. Memory
is measured in a process each: the highest resident size during one computation above the size at rest, after everything
is compiled and what was freed is given back; for the adjoint less the J + 1 parameter vectors. Where the reference
would take more than `--memory` GB it is run at the largest J that fits, ours at that J beside it, and the ratio is of
equal J.

"of peak" is the share of the rate of a large matrix product, float32, that the convolutions' multiplications need.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medidistill.config import AugmentConfig, NetworkConfig
from medidistill.distillation import InnerStep, MetaGradient, draw_plan
from medidistill.distillation.unroll import unroll_by
from medidistill.files import write_json
from medidistill.networks import ParameterLayout, make_network, raise_malloc_thresholds
from medidistill.record import hardware, versions
from medidistill.seeding import stream

HERE = Path(__file__).parent
CLASSES = 10
ALPHA = 0.001


@dataclass(frozen=True)
class Work:
    """One meta-gradient to compute.

    Args:
        side: rows and columns of the images.
        depth: blocks of the ConvNet.
        width: channels of every block.
        batch: images in an inner step.
        steps: J.
        target_time: the ratio to the reference that the project aims at.
        target_memory: the same for peak memory.
    """

    side: int
    depth: int
    width: int
    batch: int
    steps: int
    target_time: float
    target_memory: float | None

    @property
    def name(self) -> str:
        """Short text for a table row."""
        return f"{self.side}x{self.side}x1, D{self.depth} w{self.width}, batch {self.batch}, J = {self.steps}"

    @property
    def forward_flops(self) -> float:
        """Multiplications and additions in the convolutions of one forward pass of a batch."""
        sides, channels = [self.side >> k for k in range(self.depth)], [1, *[self.width] * (self.depth - 1)]
        return 2.0 * 9 * self.width * self.batch * sum(s * s * c for s, c in zip(sides, channels, strict=True))


SCALES = {
    "smoke": (Work(16, 2, 8, 6, 3, 0.5, 0.25),),
    "cpu": (
        Work(32, 3, 128, 30, 10, 0.5, 0.25),
        Work(32, 3, 128, 30, 20, 0.5, None),
        Work(32, 3, 128, 30, 40, 0.5, None),
        Work(32, 3, 128, 30, 80, 0.5, 0.05),
        Work(64, 4, 64, 20, 20, 0.5, 0.15),
        Work(112, 5, 128, 10, 80, 0.6, None),
    ),
}
RATIOS = ("time_ratio", "memory_ratio")
KINDS = ("stored", "adjoint", "adjoint_keeping", "adjoint_bfloat16")
UNITS = 3 + 8  # forward passes' worth of convolutions in a gradient and in an adjoint step that keeps nothing
KEEP = 5e8
STORED_BYTES = 13.0  # of a step's activations of a float32 map, per element of all convolutions' outputs


def prepared(work: Work, kind: str, dtype: torch.dtype = torch.float32) -> Callable[[], MetaGradient]:
    """Return a function that computes the meta-gradient; what is drawn is the same for every kind."""
    config = NetworkConfig(width=work.width, depth=work.depth)
    network = make_network(
        config, channels=1, image_size=work.side, num_classes=CLASSES, generator=stream(0, "network")
    ).to(dtype)
    generator = stream(0, "inputs")
    images = torch.randn(work.batch, 1, work.side, work.side, generator=generator).to(dtype)
    targets = torch.eye(CLASSES, dtype=dtype)[torch.arange(work.batch) % CLASSES]
    theta = ParameterLayout.of(network).flatten(network)
    goal = theta + 0.01 * torch.randn(len(theta), generator=generator).to(dtype)
    plan = draw_plan(work.batch, work.steps, 0, AugmentConfig(), generator)
    adjoint_dtype = torch.bfloat16 if kind == "adjoint_bfloat16" else None
    keep = 0 if kind == "adjoint" else KEEP
    compiled = kind != "stored" and dtype == torch.float32
    step = InnerStep(network, compile=compiled, adjoint_dtype=adjoint_dtype, activation_budget_bytes=keep)
    unroll = unroll_by("stored" if kind == "stored" else "adjoint")

    def end_loss(end: Tensor) -> tuple[Tensor, Tensor]:
        return (end - goal).square().sum(), 2 * (end - goal)

    return lambda: unroll(step, theta, images, targets, torch.tensor(ALPHA, dtype=dtype), plan, end_loss)


def timed(work: Work, kinds: Sequence[str], repeats: int) -> dict[str, Any]:
    """Return the seconds of every kind, in turn, and how far each result is from float64's."""
    functions = {kind: prepared(work, kind) for kind in kinds}
    result: dict[str, Any] = {"first": {}, "seconds": {kind: [] for kind in kinds}, "off": {}}
    exact = prepared(work, "adjoint", torch.float64)() if repeats > 1 else None
    for kind, function in functions.items():
        begun = time.perf_counter()
        found = function()
        result["first"][kind] = time.perf_counter() - begun
        if exact is not None:
            result["off"][kind] = {
                name: _off(getattr(found, name), getattr(exact, name)) for name in ("images", "alpha", "end")
            }
    for _ in range(repeats):
        for kind, function in functions.items():
            begun = time.perf_counter()
            function()
            result["seconds"][kind].append(time.perf_counter() - begun)
    left, right = torch.randn(2, 2048, 2048)
    rates = []
    for _ in range(3):
        begun = time.perf_counter()
        left @ right
        rates.append(2 * 2048**3 / (time.perf_counter() - begun))
    result["matrix_flops"] = max(rates)
    return result


def _off(found: Tensor, reference: Tensor) -> dict[str, float]:
    found = found.double()
    distance = float((found - reference).norm() / reference.norm())
    return {"relative": distance, "cosine": float(torch.cosine_similarity(found.flatten(), reference.flatten(), dim=0))}


def peak(work: Work, kind: str) -> dict[str, Any]:
    """Return the bytes that one computation takes at its highest, above this process at rest."""
    function = prepared(dataclasses.replace(work, steps=1), kind)
    function()  # compiles
    function = prepared(work, kind)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest resident size so far
    rest = _status("VmRSS")
    found = function()
    used = _status("VmHWM") - rest
    if kind != "stored":
        used -= (work.steps + 1) * found.end.numel() * found.end.element_size()
    return {"peak_bytes": used}


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def in_process(what: str, threads: int, **arguments: Any) -> dict[str, Any]:
    """Run `timed` or `peak` in a process of its own."""
    plain = json.dumps({"what": what, "threads": threads, **arguments})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.meta_gradient", "--measure", plain],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(what: str, threads: int, work: Mapping[str, Any], **arguments: Any) -> dict[str, Any]:
    """Do in this process what `in_process` asked for."""
    raise_malloc_thresholds()
    torch.set_num_threads(threads)
    return (timed if what == "timed" else peak)(Work(**work), **arguments)


def largest_steps(work: Work, memory: float) -> int:
    """Return the largest J, at most the work's, whose stored graphs should fit into `memory` bytes."""
    elements = sum(work.batch * work.width * (work.side >> k) ** 2 for k in range(work.depth))
    return max(1, min(work.steps, int(memory / (elements * 4 * STORED_BYTES))))


def compare(work: Work, repeats: int, threads: int, memory: float) -> dict[str, Any]:
    """Return one row: seconds, peaks, their ratios at equal J, and how far apart the gradients are."""
    steps = largest_steps(work, memory)
    fitting = dataclasses.asdict(dataclasses.replace(work, steps=steps))
    row: dict[str, Any] = {**dataclasses.asdict(work), "name": work.name, "reference_steps": steps}
    row["time"] = in_process("timed", threads, work=fitting, kinds=KINDS, repeats=repeats)
    row["peak_bytes"] = {kind: in_process("peak", threads, work=fitting, kind=kind)["peak_bytes"] for kind in KINDS}
    medians = {kind: statistics.median(row["time"]["seconds"][kind]) for kind in KINDS}
    ours = KINDS[1:]
    row["time_ratio"] = {kind: medians[kind] / medians["stored"] for kind in ours}
    row["memory_ratio"] = {kind: row["peak_bytes"][kind] / row["peak_bytes"]["stored"] for kind in ours}
    needed = UNITS * work.forward_flops * steps
    row["of_peak"] = needed / medians["adjoint"] / row["time"]["matrix_flops"]
    if steps < work.steps:  # ours at the J that was asked for
        whole = dataclasses.asdict(work)
        row["whole"] = {
            "seconds": in_process("timed", threads, work=whole, kinds=KINDS[1:2], repeats=1)["seconds"]["adjoint"],
            "peak_bytes": in_process("peak", threads, work=whole, kind="adjoint")["peak_bytes"],
        }
    return row


def main() -> None:
    """Measure all rows of a scale and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=tuple(SCALES), default="smoke")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=float, default=8.0, help="GB that the reference may take (default: 8)")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "meta_gradient.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(**json.loads(options.measure))))
        return
    rows = []
    for work in SCALES[options.scale]:
        row = compare(work, options.repeats, options.threads, options.memory * 1e9)
        rows.append(row)
        shown = {name: {kind: round(value, 3) for kind, value in row[name].items()} for name in RATIOS}
        print(f"{work.name}: {shown}", file=sys.stderr, flush=True)
        command = ["python", "-m", "benchmarks.meta_gradient", "--scale", options.scale, "--threads", options.threads]
        command += ["--memory", f"{options.memory:g}"]
        content = {
            "command": shlex.join(map(str, command)),
            "threads": options.threads,
            "hardware": hardware(),
            "versions": versions(),
        }
        write_json(options.output, {**content, "load": os.getloadavg()[0], "rows": rows})


if __name__ == "__main__":
    main()
