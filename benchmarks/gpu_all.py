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
import gc
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.meta_gradient import STORED_BYTES
from medidistill.config import AugmentConfig, DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import (
    DistillProblem,
    InnerStep,
    MetaGradient,
    adjoint_gradient,
    distill,
    draw_plan,
    stored_gradient,
    train_experts,
)
from medidistill.distillation.objective import Sample
from medidistill.distillation.snapshots import SnapshotMatching
from medidistill.distillation.trajectory import Architecture, Experts, expert_file, write_expert
from medidistill.distilled_set import Normalisation
from medidistill.files import write_json
from medidistill.networks import ParameterLayout, make_network, predict, raise_malloc_thresholds, train
from medidistill.seeding import stream
from tests.support.peak_memory import Peak

RESULTS = Path(__file__).parent / "results"
_WHOLE_RUN_NEEDS = ("monai", "pydicom", "sklearn", "scipy", "pandas", "pydantic", "ruamel.yaml", "matplotlib", "jinja2")


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


def _keep(found: Mapping[str, Any]) -> None:
    """Say what is known so far: it stays where the part is ended early."""
    print(json.dumps(found), flush=True)


def _seconds(call: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Return the median of some calls after a first one; a GPU is waited for."""
    found = []
    for _ in range(repeats):
        _wait(device)
        begun = time.perf_counter()
        call()
        _wait(device)
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _or_error(measure: Callable[[], Any]) -> Any:
    """Return what was measured, or the error in its place: a kind that fails does not hide the others."""
    try:
        return measure()
    except (RuntimeError, MemoryError, ImportError, AssertionError) as error:  # torch's own are RuntimeErrors
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


# ---- meta-gradient ------------------------------------------------------------------------------------------------


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
            _forget(device)

            def one(kind: str = kind, steps: int = steps) -> tuple[dict[str, Any], MetaGradient]:
                call = _meta(scale, kind, steps, device)
                begun = time.perf_counter()
                first = call()
                _wait(device)
                first_seconds = time.perf_counter() - begun
                _forget(device)
                peak = Peak(device)
                return {
                    "seconds": _seconds(call, device, scale.repeats),
                    "peak_bytes": peak.bytes(),
                    "first": first_seconds,
                }, first

            found = _or_error(one)
            if isinstance(found, dict):
                row["kinds"][kind] = found
                _keep(result)
                continue
            row["kinds"][kind], gradient = found
            reference = reference or gradient
            off = (gradient.images - reference.images).norm() / reference.images.norm()
            row["kinds"][kind]["off"] = float(off)  # from the first kind that worked, which is the stored graph's
            _keep(result)
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
        found[kind] = {"seconds": _seconds(call, device, scale.repeats)}

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
            replayed = _seconds(graph.replay, device, scale.repeats)
            exact = call()
            off = (result.images - exact.images).norm() / exact.images.norm()
            return {"record": record, "seconds": replayed, "off": float(off)}

        found[f"{kind}, recorded"] = _or_error(recorded)

    def by_compiler() -> dict[str, float]:
        from torch._inductor import config as inductor

        with inductor.patch("triton.cudagraphs", True):
            torch._dynamo.reset()
            from medidistill.networks import compiling

            compiling._SHARED.clear()  # what the kinds above compiled without graphs
            call = _meta(scale, "compiled", steps, device)
            call()
            call()
            return {"seconds": _seconds(call, device, scale.repeats)}

    found["compiled, the compiler's graphs"] = _or_error(by_compiler)
    return found


# ---- snapshots ----------------------------------------------------------------------------------------------------


def _made_up(count: int, classes: int, side: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Return noise with a bright square whose place tells the class."""
    generator = stream(0, "images")
    labels = torch.arange(count) % classes
    images = torch.randn(count, channels, side, side, generator=generator)
    part = side // (classes + 1)
    for name in range(classes):
        at = slice(name * part, (name + 1) * part)
        images[labels == name, :, at, at] += 1.0
    return images, labels


def _pool(scale: Scale, side: int, width: int, classes: int, folder: Path) -> list[Path]:
    """Write two made-up experts: a step costs the same whatever they learned."""
    shape = Architecture(NetworkConfig(width=width), 1, side, classes)
    for number in range(2):
        generator = stream(0, "expert", number)
        begin = ParameterLayout.of(network := shape.make_network(generator)).flatten(network)
        way = torch.randn(4, len(begin), generator=generator).cumsum(0) * 1e-3
        header = {"architecture": shape.as_dict(), "digest": "made up", "expert": number, "seed": 0, "final_loss": 1.0}
        write_expert(expert_file(folder, number), torch.cat([begin[None], begin + way]), header)
    return [expert_file(folder, number) for number in range(2)]


class _PlainNet(nn.Module):
    """The same ConvNet of torch's own modules, with its fused instance norm."""

    def __init__(self, side: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [nn.Conv2d(width if block else 1, width, 3, padding=1, bias=False)]
            layers += [nn.InstanceNorm2d(width, affine=True), nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (side >> depth) ** 2, classes)


def snapshots(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """A step of the snapshot objective, against plain modules that compute the same loss."""
    from medidistill.networks.convnet import default_depth

    classes, side, width = 3, scale.large, scale.large_width
    config = DistillConfig(objective="snapshots", ipc=scale.ipc, augment=AugmentConfig(), max_snapshot=2)
    images, labels = _made_up(scale.images, classes, side)
    found: dict[str, Any] = {"side": side, "width": width, "images": classes * scale.ipc, "kinds": {}}
    with tempfile.TemporaryDirectory() as place:
        experts = Experts(_pool(scale, side, width, classes, Path(place)))
        distilled = torch.randn(classes * scale.ipc, 1, side, side, generator=stream(0, "start")).to(device)
        where = torch.arange(classes, device=device).repeat_interleave(scale.ipc)
        objective = SnapshotMatching(experts, config, (images, labels), 0, device)
        real = objective.statistics(0, 1)
        thetas = [experts.members[0].snapshot(1).to(device), experts.members[1].snapshot(3).to(device)]
        models = [_PlainNet(side, width, default_depth(side), classes).to(device) for _ in thetas]
        for model, theta in zip(models, thetas, strict=True):
            nn.utils.vector_to_parameters(theta, model.parameters())
            model.requires_grad_(False)

        def plain() -> Tensor:
            x = distilled.detach().requires_grad_()
            for theta, model in zip(thetas, models, strict=True):
                nn.utils.vector_to_parameters(theta, model.parameters())
            features = models[0].features(x).flatten(1)
            distance = (features.view(classes, -1, features.shape[1]).mean(1) - real.mean).square().sum(1).mean()
            loss = distance * real.inverse_scale
            logits = models[1].classifier(models[1].features(x).flatten(1))
            loss = loss + config.class_weight * nn.functional.cross_entropy(logits, where)
            (gradient,) = torch.autograd.grad(loss, x)
            return gradient

        targets = nn.functional.one_hot(where, classes).float()
        inputs = (distilled, *thetas, real.mean, real.deviation, real.inverse_scale, targets)

        def ours(compile: bool) -> Callable[[], Tensor]:
            made = SnapshotMatching(experts, config, (images, labels), 0, device, compile=compile)
            return lambda: made.gradient(*inputs)[0]

        calls = {"plain": plain, "eager": ours(False)} | ({"compiled": ours(True)} if scale.compile else {})
        for kind, call in calls.items():

            def one(call: Callable[[], Tensor] = call) -> dict[str, float]:
                begun = time.perf_counter()
                gradient = call()
                _wait(device)
                first = time.perf_counter() - begun
                peak = Peak(device)
                seconds = _seconds(call, device, 5 * scale.repeats)
                off = float((gradient - plain()).norm() / plain().norm())
                return {"first": first, "seconds": seconds, "peak_bytes": peak.bytes(), "off": off}

            found["kinds"][kind] = _or_error(one)
            _keep(found)
    return found


# ---- stacked networks ---------------------------------------------------------------------------------------------


def stacked(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Experts a minute by how many are trained at once."""
    images, labels = (part.to(device) for part in _made_up(scale.images // 2, 3, scale.side))
    count = max(scale.stacks)
    config = ExpertConfig(count=count, epochs=2, batch_size=64)
    rows: list[dict[str, Any]] = []
    result = {"rows": rows, "side": scale.side, "epochs": 2, "images": len(images)}
    for size in scale.stacks:
        row: dict[str, Any] = {"stack": size}
        rows.append(row)
        for compile in ("off", "on") if scale.compile else ("off",):

            def one(size: int = size, compile: str = compile) -> dict[str, float]:
                taken = []
                for turn in range(2):  # the first one compiles
                    with tempfile.TemporaryDirectory() as place:
                        begun = time.perf_counter()
                        train_experts(
                            images,
                            labels,
                            num_classes=3,
                            network=NetworkConfig(width=32),
                            config=config,
                            seed=turn,
                            folder=Path(place),
                            compile=compile,
                            stack_size=size,
                        )
                        _wait(device)
                        taken.append(time.perf_counter() - begun)
                return {"first": taken[0], "seconds": taken[1], "networks_a_minute": 60 * count / taken[1]}

            row["eager" if compile == "off" else "compiled"] = _or_error(one)
            _keep(result)
    return result


# ---- ranks --------------------------------------------------------------------------------------------------------


def ranks(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Start one rank by torchrun and return what it says."""
    launched = ["torch.distributed.run", "--standalone", "--nproc-per-node=1", "--module", "benchmarks.gpu_all"]
    given = ["--only", "_rank", "--scale", _name(scale), "--device", str(device)]
    done = subprocess.run(
        [sys.executable, "-m", *launched, *given], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-1500:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _rank(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Exchange samples as one rank of a group, although a rank alone would not."""
    import torch.distributed as dist

    from medidistill.distillation.ranks import _join

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    begun = time.perf_counter()
    group = _join(backend)
    joined = time.perf_counter() - begun
    images = torch.randn(10 * scale.ipc, 1, scale.large, scale.large, device=device)
    sample = Sample(0.5, images, torch.rand(10 * scale.ipc, 10, device=device), torch.tensor(0.1, device=device))

    def exchange() -> list[Sample]:
        return group._exchange(sample)

    (back,) = exchange()
    same = all(torch.equal(getattr(back, name), getattr(sample, name)) for name in ("images", "targets", "alpha"))
    seconds = _seconds(exchange, device, 5 * scale.repeats)
    backends = str(dist.get_backend_config())
    dist.destroy_process_group()
    return {"backend": backends, "joined": joined, "seconds": seconds, "bytes": 4 * images.numel(), "same": same}


# ---- runs ---------------------------------------------------------------------------------------------------------


def core_run(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Experts, a distillation by snapshots and one by MTT, and networks from each set; nothing but torch."""
    side, classes = (64 if scale.large > 64 else scale.large), 3
    images, labels = (part.to(device) for part in _made_up(2 * scale.images, classes, side))
    half = len(images) // 2
    real, unseen = (images[:half], labels[:half]), (images[half:], labels[half:])
    network, training = NetworkConfig(width=min(32, scale.large_width)), TrainingConfig(steps=scale.training)
    found: dict[str, Any] = {"side": side, "images": half, "outer_steps": scale.outer, "methods": {}}
    with tempfile.TemporaryDirectory() as place:
        begun = time.perf_counter()
        pool = ExpertConfig(count=4, epochs=scale.epochs, batch_size=min(64, half))
        files = train_experts(
            *real, num_classes=classes, network=network, config=pool, seed=0, folder=Path(place), stack_size=4
        )
        _wait(device)
        found["experts"] = time.perf_counter() - begun
        _keep(found)
        for objective in ("snapshots", "trajectory"):
            config = DistillConfig(
                objective=objective,
                ipc=scale.ipc,
                outer_steps=scale.outer,
                inner_steps=5,
                max_start=max(1, scale.epochs - 3),
                expert_epochs=1,
                max_snapshot=2,
                validate_every=0,
            )
            problem = DistillProblem(files, [str(k) for k in range(classes)], Normalisation(), training, 0, real)

            def one(problem: DistillProblem = problem, config: DistillConfig = config) -> dict[str, float]:
                peak, begun = Peak(device), time.perf_counter()
                made = distill(problem, config, device=device)
                _wait(device)
                took, used = time.perf_counter() - begun, peak.bytes()
                begun = time.perf_counter()
                right = []
                for number in range(2):
                    fresh = make_network(
                        network,
                        channels=1,
                        image_size=side,
                        num_classes=classes,
                        generator=stream(number, "fresh"),
                    ).to(device)
                    given = made.distilled
                    train(fresh, given.images.to(device), given.targets.to(device), training, stream(number, "batches"))
                    right.append((predict(fresh, unseen[0]).argmax(1) == unseen[1].cpu()).float().mean().item())
                return {
                    "distill": took,
                    "peak_bytes": used,
                    "networks": time.perf_counter() - begun,
                    "accuracy": statistics.fmean(right),
                }

            found["methods"][objective] = _or_error(one)
            _keep(found)
    return found


def whole_run(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """`medidistill run` from a folder of X-rays to the bundle, its stages' times."""
    missing = [name for name in _WHOLE_RUN_NEEDS if not _is_installed(name)]
    if missing:
        return {"skipped": f"not installed: {', '.join(missing)}"}
    if not data or not (Path(data) / "labels.csv").is_file():
        return {"skipped": "--data names no folder of X-rays with labels.csv"}
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "medidistill", "run", "--input", data, "--output", f"{place}/run"]
        command += ["--config", "covid-cxr", "--device", str(device), "--quiet"]
        command += [] if scale.compile else ["--until", "ingest"]  # the rehearsal
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.perf_counter() - begun
        events = map(json.loads, (Path(place) / "run" / "events.jsonl").read_text().splitlines())
        stages = {one["stage"]: one["seconds"] for one in events if one.get("event") == "stage_finished"}
    return {"seconds": took, "stages": stages, "code": done.returncode, "said": done.stderr[-500:]}


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


# ---- all of them --------------------------------------------------------------------------------------------------

_MEASURES: Mapping[str, Callable[[Scale, torch.device, str], dict[str, Any]]] = {
    "meta_gradient": meta_gradient,
    "cuda_graph": cuda_graph,
    "snapshots": snapshots,
    "stacked": stacked,
    "ranks": ranks,
    "core_run": core_run,
    "whole_run": whole_run,
    "_rank": _rank,
}


def _name(scale: Scale) -> str:
    return next(name for name, one in SCALES.items() if one is scale)


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
        _keep(found)
        return
    parts = options.parts.split(",")
    measure_all(parts, options.scale, options.device, options.data, options.budget, options.output, in_process)


if __name__ == "__main__":
    main()
