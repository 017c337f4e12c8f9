"""The meta-gradient on a GPU: time and memory against the stored graph, and as one CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.scale import Scale, forget, keep, or_error, seconds_of, wait
from benchmarks.meta_gradient import STORED_BYTES
from medidistill.config import AugmentConfig, NetworkConfig
from medidistill.distillation import (
    InnerStep,
    MetaGradient,
    adjoint_gradient,
    draw_plan,
    stored_gradient,
)
from medidistill.networks import ParameterLayout, make_network
from medidistill.seeding import stream
from tests.support.peak_memory import Peak


def _network(scale: Scale, channels: int, side: int, width: int, classes: int) -> nn.Module:
    return make_network(
        NetworkConfig(width=width),
        channels=channels,
        image_size=side,
        num_classes=classes,
        generator=stream(0, "network"),
    )


def _meta(scale: Scale, kind: str, steps: int, device: torch.device, *, fixed: bool = False) -> Callable[[], Any]:
    """Return a function that computes one meta-gradient; what is drawn is the same for every kind.

    Args:
        scale: sizes.
        kind: stored, eager, compiled or bfloat16.
        steps: J.
        device: where.
        fixed: make the gradients alone, and nothing that waits for the GPU, so that it can be recorded.
    """
    network = _network(scale, 3, scale.side, scale.width, 10).to(device)
    generator = stream(0, "inputs")
    images = torch.randn(scale.batch, 3, scale.side, scale.side, generator=generator).to(device)
    targets = torch.eye(10)[torch.arange(scale.batch) % 10].to(device)
    theta = ParameterLayout.of(network).flatten(network)
    goal = theta + 0.01 * torch.randn(len(theta), generator=generator).to(device)
    plan = draw_plan(scale.batch, steps, 0, AugmentConfig(), generator, device)
    alpha = torch.tensor(0.001, device=device)
    compiled = kind in ("compiled", "bfloat16")
    step = InnerStep(network, compile=compiled, adjoint_dtype=torch.bfloat16 if kind == "bfloat16" else None)
    unroll = stored_gradient if kind == "stored" else adjoint_gradient

    def end_loss(end: Tensor) -> tuple[Any, Tensor]:
        return 0.0 if fixed else (end - goal).square().sum(), 2 * (end - goal)

    return lambda: unroll(step, theta, images, targets, alpha, plan, end_loss)


def meta_gradient(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Time and peak memory by J."""
    rows: list[dict[str, Any]] = []
    result = {"rows": rows, "batch": scale.batch, "side": scale.side, "width": scale.width}
    ours = ("eager", *(("compiled", "bfloat16") if scale.compile else ()))
    for steps, kinds in _settings(scale, device, ours):
        row: dict[str, Any] = {"steps": steps, "kinds": {}}
        rows.append(row)
        reference: MetaGradient | None = None
        for kind in kinds:
            forget(device)

            def one(kind: str = kind, steps: int = steps) -> tuple[dict[str, Any], MetaGradient]:
                call = _meta(scale, kind, steps, device)
                begun = time.perf_counter()
                first = call()
                wait(device)
                first_seconds = time.perf_counter() - begun
                forget(device)
                peak = Peak(device)
                return {
                    "seconds": seconds_of(call, device, scale.repeats),
                    "peak_bytes": peak.bytes(),
                    "first": first_seconds,
                }, first

            found = or_error(one)
            if isinstance(found, dict):
                row["kinds"][kind] = found
                keep(result)
                continue
            row["kinds"][kind], gradient = found
            reference = reference or gradient
            off = (gradient.images - reference.images).norm() / reference.images.norm()
            row["kinds"][kind]["off"] = float(off)  # from the first kind that worked, which is the stored graph's
            keep(result)
        seconds = {kind: one["seconds"] for kind, one in row["kinds"].items() if "seconds" in one}
        if "stored" in seconds:
            peaks = {kind: row["kinds"][kind]["peak_bytes"] for kind in seconds}
            row["time_ratio"] = {kind: value / seconds["stored"] for kind, value in seconds.items()}
            row["memory_ratio"] = {kind: value / max(1, peaks["stored"]) for kind, value in peaks.items()}
    return result


def _settings(scale: Scale, device: torch.device, ours: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """Return J and the kinds of each row; the stored graph is left out where it does not fit."""
    maps = sum(scale.batch * scale.width * (scale.side >> block) ** 2 for block in range(3))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 4e9
    fitting = int(0.85 * free / (4 * STORED_BYTES * maps))
    found: list[tuple[int, tuple[str, ...]]] = []
    for steps in scale.steps:
        if steps > fitting:
            found += [(fitting, ("stored", *ours))] if fitting and all(one != fitting for one, _ in found) else []
            found.append((steps, ours))
        else:
            found.append((steps, ("stored", *ours)))
    return found


def cuda_graph(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """One graph over a whole meta-gradient, and the compiler's graphs over its steps."""
    if device.type != "cuda":
        return {"skipped": "CUDA graphs need a GPU"}
    steps = scale.graph_steps
    found: dict[str, Any] = {"steps": steps}
    for kind in ("eager", "compiled"):
        call = _meta(scale, kind, steps, device, fixed=True)
        call()
        found[kind] = {"seconds": seconds_of(call, device, scale.repeats)}

        def recorded(call: Callable[[], Any] = call) -> dict[str, float]:
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # warm-up off the default stream, as recording asks for
                for _ in range(3):
                    call()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            begun = time.perf_counter()
            with torch.cuda.graph(graph):
                result = call()
            record = time.perf_counter() - begun
            replayed = seconds_of(graph.replay, device, scale.repeats)
            exact = call()
            off = (result.images - exact.images).norm() / exact.images.norm()
            return {"record": record, "seconds": replayed, "off": float(off)}

        found[f"{kind}, recorded"] = or_error(recorded)

    def by_compiler() -> dict[str, float]:
        from torch._inductor import config as inductor

        with inductor.patch("triton.cudagraphs", True):
            torch._dynamo.reset()
            from medidistill.networks import compiling

            compiling._SHARED.clear()  # what the kinds above compiled without graphs
            call = _meta(scale, "compiled", steps, device)
            call()
            call()
            return {"seconds": seconds_of(call, device, scale.repeats)}

    found["compiled, the compiler's graphs"] = or_error(by_compiler)
    return found
