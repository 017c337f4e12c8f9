"""How large each part of the GPU benchmark is, and how its parts are timed."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        side: of the meta-gradient's images.
        width: channels of its network.
        batch: its images in an inner step.
        steps: its J.
        graph_steps: J of the recorded graph.
        large: side of the snapshot objective's images.
        large_width: channels of its network.
        ipc: its images a class.
        stacks: networks at once.
        training: steps of a network that is trained from a small set.
        images: made-up real images.
        epochs: of the experts in `core_run`.
        outer: outer steps of its distillation.
        repeats: of what is timed.
        compile: measure what is compiled, too.
    """

    side: int
    width: int
    batch: int
    steps: tuple[int, ...]
    graph_steps: int
    large: int
    large_width: int
    ipc: int
    stacks: tuple[int, ...]
    training: int
    images: int
    epochs: int
    outer: int
    repeats: int
    compile: bool


SCALES = {
    "full": Scale(32, 128, 256, (10, 30, 80), 30, 112, 128, 10, (1, 4, 16), 300, 1024, 12, 300, 5, True),
    "tiny": Scale(16, 4, 4, (2, 3), 2, 16, 4, 2, (1, 2), 4, 24, 4, 4, 1, False),
}


def keep(found: Mapping[str, Any]) -> None:
    """Say what is known so far: it stays where the part is ended early."""
    print(json.dumps(found), flush=True)


def seconds_of(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the median of some calls after a first one; a GPU is waited for."""
    found = []
    for _ in range(repeats):
        wait(device)
        begun = time.perf_counter()
        call()
        wait(device)
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def wait(device: torch.device) -> None:
    """Wait for what a GPU was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Give memory back that nothing holds."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def or_error(measure: Callable[[], Any]) -> Any:
    """Return what was measured, or the error in its place: a kind that fails does not hide the others."""
    try:
        return measure()
    except (RuntimeError, MemoryError, ImportError, AssertionError) as error:  # torch's own are RuntimeErrors
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def name_of(scale: Scale) -> str:
    """Return the word of `--scale`."""
    return next(name for name, one in SCALES.items() if one is scale)
