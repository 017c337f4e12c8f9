"""A step of the snapshot objective, and networks trained several at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.scale import Scale, keep, or_error, seconds_of, wait
from benchmarks.plain import PlainConvNet
from medidistill.config import AugmentConfig, DistillConfig, ExpertConfig, NetworkConfig
from medidistill.distillation import (
    train_experts,
)
from medidistill.distillation.snapshots import SnapshotMatching
from medidistill.distillation.trajectory import Architecture, Experts, expert_file, write_expert
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream
from tests.support.peak_memory import Peak


def made_up_images(count: int, classes: int, side: int, channels: int = 1) -> tuple[Tensor, Tensor]:
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


def snapshots(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """A step of the snapshot objective, against plain modules that compute the same loss."""
    from medidistill.networks.convnet import default_depth

    classes, side, width = 3, scale.large, scale.large_width
    config = DistillConfig(objective="snapshots", ipc=scale.ipc, augment=AugmentConfig(), max_snapshot=2)
    images, labels = made_up_images(scale.images, classes, side)
    found: dict[str, Any] = {"side": side, "width": width, "images": classes * scale.ipc, "kinds": {}}
    with tempfile.TemporaryDirectory() as place:
        experts = Experts(_pool(scale, side, width, classes, Path(place)))
        distilled = torch.randn(classes * scale.ipc, 1, side, side, generator=stream(0, "start")).to(device)
        where = torch.arange(classes, device=device).repeat_interleave(scale.ipc)
        objective = SnapshotMatching(experts, config, (images, labels), 0, device)
        real = objective.statistics(0, 1)
        thetas = [experts.members[0].snapshot(1).to(device), experts.members[1].snapshot(3).to(device)]
        models = [PlainConvNet(side, width, default_depth(side), classes).to(device) for _ in thetas]
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
                wait(device)
                first = time.perf_counter() - begun
                peak = Peak(device)
                seconds = seconds_of(call, device, 5 * scale.repeats)
                off = float((gradient - plain()).norm() / plain().norm())
                return {"first": first, "seconds": seconds, "peak_bytes": peak.bytes(), "off": off}

            found["kinds"][kind] = or_error(one)
            keep(found)
    return found


def stacked(scale: Scale, device: torch.device, data: str) -> dict[str, Any]:
    """Experts a minute by how many are trained at once."""
    images, labels = (part.to(device) for part in made_up_images(scale.images // 2, 3, scale.side))
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
                        wait(device)
                        taken.append(time.perf_counter() - begun)
                return {"first": taken[0], "seconds": taken[1], "networks_a_minute": 60 * count / taken[1]}

            row["eager" if compile == "off" else "compiled"] = or_error(one)
            keep(result)
    return result
