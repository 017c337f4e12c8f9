"""Everything that is to be measured on a GPU, in one command of at most eight minutes that leaves one JSON.

    python -m benchmarks.gpu_all --device cuda [--data DIR] [--budget 480] [--output FILE]
    python -m benchmarks.gpu_all --scale tiny --device cpu        # rehearsal, under three minutes

Needs torch, numpy and safetensors alone (`pip install --target packages safetensors` and PYTHONPATH=packages where a
node lacks it); no part but `whole_run` imports MONAI, pydicom or scikit-learn. Each part is a process of its own, in
the order below; the JSON is written after each, so that a run that is cut keeps what is done. A part that fails, or
that takes longer than its share, leaves its error, and the next one begins; where the budget is spent, the rest is
named as not begun.

| part | what |
|---|---|
| `meta_gradient` | CIFAR-10 setting (32x32x3, ConvNet-D3 width 128, batch 256), J = 10, 30, 80: seconds and peak |
| | memory of the eager stored graph, and of the adjoint in eager mode, compiled, and with bfloat16 |
| `cuda_graph` | the same adjoint, J = 30, recorded as one CUDA graph and replayed; and by the compiler's own graphs |
| `snapshots` | a step of the snapshot objective at 112 x 112: plain modules in eager mode, ours eager, ours compiled |
| `stacked` | networks trained at once from one small set, for stacks of 1, 4, 16 |
| `ranks` | torchrun with one rank, NCCL (gloo on the CPU): what an exchange costs, and that a sample comes back whole |
| `core_run` | experts, distillation, fresh networks from the set: seconds of each, and the accuracy |
| `whole_run` | `medidistill run` on the folder `--data`, to the bundle; skipped where a package or it is missing |

The rehearsal compiles nothing. Where the stored graph does not fit into memory, the largest J that does is timed, ours
at that J beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.gradients import cuda_graph, meta_gradient
from benchmarks.gpu.networks import snapshots, stacked
from benchmarks.gpu.runs import core_run, one_rank, ranks, whole_run
from benchmarks.gpu.scale import SCALES, Scale, keep
from medidistill.files import write_json
from medidistill.networks import raise_malloc_thresholds

RESULTS = Path(__file__).parent / "results"
# part -> the largest share of the budget that it may take
PARTS = {
    "meta_gradient": 0.4,
    "cuda_graph": 0.25,
    "snapshots": 0.2,
    "stacked": 0.15,
    "ranks": 0.15,
    "core_run": 0.4,
    "whole_run": 0.9,
}


_MEASURES: Mapping[str, Callable[[Scale, torch.device, str], dict[str, Any]]] = {
    "meta_gradient": meta_gradient,
    "cuda_graph": cuda_graph,
    "snapshots": snapshots,
    "stacked": stacked,
    "ranks": ranks,
    "core_run": core_run,
    "whole_run": whole_run,
    "_rank": one_rank,
}


def machine(device: torch.device) -> dict[str, Any]:
    """Return what was measured on."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "cores": os.cpu_count() or 0}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda or ""}
    return found


def in_process(part: str, scale: str, device: str, data: str, limit: float) -> dict[str, Any]:
    """Measure one part in a process of its own, which is ended after `limit` seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu_all", "--only", part, "--scale", scale, "--device", device]
    begun = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, "--data", data], capture_output=True, text=True, timeout=max(1.0, limit), check=False
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return {**_last(said), "error": f"ended after {limit:.0f} s, its share of the budget"}
    found = {**_last(done.stdout), "took": time.perf_counter() - begun}
    return {**found, "error": f"exit code {done.returncode}: {done.stderr[-1500:]}"} if done.returncode else found


def _last(said: str) -> dict[str, Any]:
    """Return what a part said last in full; a line may be cut."""
    for line in reversed(said.splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            found: dict[str, Any] = json.loads(line)
            return found
    return {}


def measure_all(
    parts: list[str], scale: str, device: str, data: str, budget: float, output: Path, measure: Callable[..., Any]
) -> dict[str, Any]:
    """Measure all parts in order within the budget, and write `output` after each of them."""
    begun = time.perf_counter()
    found: dict[str, Any] = {"scale": scale, "device": device, "machine": machine(torch.device(device)), "parts": {}}
    for part in parts:
        left = budget - (time.perf_counter() - begun)
        if left < 5:
            found["parts"][part] = {"error": "not begun: the budget is spent"}
        else:
            found["parts"][part] = measure(part, scale, device, data, min(left, PARTS[part] * budget))
        found["seconds"] = time.perf_counter() - begun
        write_json(output, found)
        state = found["parts"][part]
        told = next((f"{key}: {state[key][:100]}" for key in ("error", "skipped") if key in state), "done")
        print(f"{part}: {told} ({found['seconds']:.0f} s in all)", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure, or do one part in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=tuple(SCALES), default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", default=",".join(PARTS), help="default: all, in order")
    parser.add_argument("--budget", type=float, default=480, metavar="SECONDS", help="of the clock (default: 480)")
    parser.add_argument("--data", default="", metavar="DIR", help="X-rays with labels.csv, for whole_run")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu_all.json")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        raise_malloc_thresholds()
        found = _MEASURES[options.only](SCALES[options.scale], torch.device(options.device), options.data)
        keep(found)
        return
    parts = options.parts.split(",")
    measure_all(parts, options.scale, options.device, options.data, options.budget, options.output, in_process)


if __name__ == "__main__":
    main()
