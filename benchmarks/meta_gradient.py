"""Time and memory of one meta-gradient: ours against the stored graph of published trajectory-matching code.

    python -m benchmarks.meta_gradient --scale smoke|cpu [--threads 2] [--output FILE]

Every measurement is a process of its own, so that peaks do not mix: it builds the network, notes its resident memory,
computes the same meta-gradient a few times and prints what it saw. The reference is the double backward through J
stored inner graphs, in eager mode, as published. Reported are ratios within this run; the absolute figures
are of a machine that may be shared. The peak is that of the process above its idle size, less the J + 1 parameter
vectors for the adjoint.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medidistill.config import AugmentConfig, NetworkConfig
from medidistill.distill import InnerStep, adjoint_gradient, draw_plan, stored_gradient
from medidistill.files import write_json
from medidistill.networks import ParameterLayout, make_network, raise_malloc_thresholds
from medidistill.record import hardware, versions
from medidistill.seeding import stream

HERE = Path(__file__).parent
CLASSES = 10
ALPHA = 0.01


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


def measure(work: Work, kind: str, repeats: int, threads: int, out: Path) -> dict[str, Any]:
    """Compute one meta-gradient `repeats` times in this process, keep it in `out`, and return what it cost."""
    raise_malloc_thresholds()
    torch.set_num_threads(threads)
    config = NetworkConfig(width=work.width, depth=work.depth)
    network = make_network(
        config, channels=1, image_size=work.side, num_classes=CLASSES, generator=stream(0, "network")
    )
    generator = stream(0, "inputs")
    images = torch.randn(work.batch, 1, work.side, work.side, generator=generator)
    targets = torch.eye(CLASSES)[torch.arange(work.batch) % CLASSES]
    theta = ParameterLayout.of(network).flatten(network)
    goal = theta + 0.01 * torch.randn(len(theta), generator=generator)
    plan = draw_plan(work.batch, work.steps, 0, AugmentConfig(), generator)
    step = InnerStep(network, compile=kind == "adjoint")
    unroll = adjoint_gradient if kind == "adjoint" else stored_gradient

    def once() -> Any:
        return unroll(
            step,
            theta,
            images,
            targets,
            torch.tensor(ALPHA),
            plan,
            lambda end: ((end - goal).square().sum(), 2 * (end - goal)),
        )

    idle = _resident()
    begun = time.perf_counter()
    found = once()
    first = time.perf_counter() - begun
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        found = once()
        seconds.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - idle
    if kind == "adjoint":
        peak -= (work.steps + 1) * theta.numel() * theta.element_size()
    torch.save({"images": found.images, "alpha": found.alpha}, out)
    return {"seconds": seconds, "first": first, "peak_bytes": peak}


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_process(work: Work, kind: str, repeats: int, threads: int, out: Path) -> dict[str, Any] | None:
    """Measure in a process of its own; None where it did not survive (out of memory)."""
    plain = json.dumps({"work": dataclasses.asdict(work), "kind": kind, "repeats": repeats, "threads": threads})
    command = [sys.executable, "-m", "benchmarks.meta_gradient", "--measure", plain, "--output", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{work.name}, {kind}: ended with {done.returncode}", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(work: Work, repeats: int, threads: int) -> dict[str, Any]:
    """Return one row: both kinds, their ratio, and how far apart their gradients are."""
    row: dict[str, Any] = {**dataclasses.asdict(work), "name": work.name}
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / kind for kind in ("stored", "adjoint")}
        for kind, file in files.items():
            row[kind] = in_process(work, kind, repeats, threads, file)
        if row["stored"] and row["adjoint"]:
            ours, reference = (torch.load(files[kind], weights_only=True) for kind in ("adjoint", "stored"))
            row["relative_error"] = {
                name: float((ours[name] - reference[name]).norm() / reference[name].norm()) for name in reference
            }
            medians = {kind: statistics.median(row[kind]["seconds"]) for kind in files}
            row["time_ratio"] = medians["adjoint"] / medians["stored"]
            row["memory_ratio"] = row["adjoint"]["peak_bytes"] / row["stored"]["peak_bytes"]
    return row


def main() -> None:
    """Measure all rows of a scale and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=tuple(SCALES), default="smoke")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "meta_gradient.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        asked = json.loads(options.measure)
        asked["work"] = Work(**asked["work"])
        print(json.dumps(measure(**asked, out=options.output)))
        return
    rows = []
    for work in SCALES[options.scale]:
        rows.append(compare(work, options.repeats, options.threads))
        ratios = {name: round(rows[-1][name], 3) for name in ("time_ratio", "memory_ratio") if name in rows[-1]}
        print(f"{work.name}: {ratios}", file=sys.stderr, flush=True)
    command = shlex.join(
        ["python", "-m", "benchmarks.meta_gradient", "--scale", options.scale, "--threads", str(options.threads)]
    )
    write_json(
        options.output,
        {"command": command, "hardware": hardware(), "versions": versions(), "load": os.getloadavg()[0], "rows": rows},
    )


if __name__ == "__main__":
    main()
