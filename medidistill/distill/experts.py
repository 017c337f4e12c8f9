"""Expert training: many networks on the real data, each leaving one snapshot an epoch.

With `rho` > 0 each step takes the gradient at the worst point of a ball around theta, to first order:

    theta <- theta - lr * grad L(theta + rho * grad L(theta) / || grad L(theta) ||)

Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412), which FTD (Du et al. 2023, arXiv 2211.11004) trains
flat experts with; their variant also weighs the surrogate gap, which is not here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medidistill.config import ExpertConfig, NetworkConfig, digest
from medidistill.distill.trajectory import Architecture, Expert, expert_file, write_expert
from medidistill.errors import ConfigError, DivergedError, IngestError
from medidistill.files import load_tensors
from medidistill.networks import (
    ParameterLayout,
    PatientGradient,
    augment,
    check_deterministic,
    draw,
    gradient_function,
    secret_generator,
    should_compile,
)
from medidistill.seeding import stream

__all__ = ["expert_digest", "finished_experts", "train_experts"]

_TINY = 1e-12


def expert_digest(images: Tensor, labels: Tensor, architecture: Architecture, config: ExpertConfig, seed: int) -> str:
    """Name what an expert is a function of; the number of experts is left out, so that more can be added."""
    left_out = ("count", "augment", "dp", "flat_rho", *(() if config.rho else ("rho",)))
    settings = {name: value for name, value in vars(config).items() if name not in left_out}
    private = [config.dp] if config.dp.enabled else []
    # bytes, not sums: a sum depends on the number of threads, and normalised images all have the same ones
    content = [hashlib.sha256(part.cpu().contiguous().numpy().tobytes()).hexdigest() for part in (images, labels)]
    return digest(architecture.as_dict(), settings, config.augment, seed, content, *private)


def train_experts(
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    network: NetworkConfig,
    config: ExpertConfig,
    seed: int,
    folder: Path,
    on_epoch: Callable[[int, int], None] | None = None,
    compile: str = "auto",
    shard: tuple[int, int] = (0, 1),
    patients: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Train `config.count` experts and return their files, in order.

    Files that are there already and were made from the same data, settings and seed are kept, so that a
    stopped training goes on with the expert it was at.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64.
        num_classes: number of classes.
        network: architecture; must have no running statistics and no dropout.
        config: count, epochs and SGD settings.
        seed: expert k depends on (seed, k) and on nothing else.
        folder: receives expert-0000.safetensors, ...
        on_epoch: called with (epochs done, epochs in all) over all experts; may raise to stop.
        compile: "auto", "on" or "off".
        shard: (i, n): train only the experts whose number is i modulo n, and return only theirs; n processes
            that share `folder` train the pool together.
        patients: N identifiers; needed for `config.dp`, whose unit is the patient. With it an expert's sampling and
            noise are secret, so that no seed repeats it.
        facts: what else each file shall say about its data, for example class names and normalisation.

    Raises:
        DivergedError: an expert's loss is not finite.
        ConfigError: no images, labels that do not fit them, or a network that is not a function of its parameters.
    """
    if len(images) == 0:
        raise ConfigError("no training images for the experts")
    if labels.shape != (len(images),) or not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ConfigError(
            f"labels of shape {tuple(labels.shape)} for {len(images)} images: must be one class index each, "
            f"in 0..{num_classes - 1}"
        )
    architecture = Architecture(network, images.shape[1], images.shape[2], num_classes)
    name = expert_digest(images, labels, architecture, config, seed)
    if not 0 <= shard[0] < shard[1]:
        raise ConfigError(f"shard={shard}: must be (i, n) with 0 <= i < n")
    numbers = range(shard[0], config.count, shard[1])
    total = len(numbers) * config.epochs
    steps = total * math.ceil(len(images) / config.batch_size)
    compiled = should_compile(compile, steps * config.batch_size * network.width * images[0, 0].numel())
    paths = []
    for place, number in enumerate(numbers):
        path = expert_file(folder, number)
        paths.append(path)

        def report(epoch: int, done: int = place * config.epochs) -> None:
            if on_epoch is not None:
                on_epoch(done + epoch, total)

        if _is_finished(path, name, config.epochs):
            report(config.epochs)
            continue

        if config.dp.enabled:
            if config.rho:
                raise ConfigError(
                    f"experts.rho={config.rho:g}: not with experts.dp; its inner step would be a second touch"
                )
            snapshots = _train_private(images, labels, patients, architecture, config, seed, number, report)
            final_loss = None  # of the patients' images: not covered by the mechanism
        else:
            snapshots, final_loss = _train_one(images, labels, architecture, config, seed, number, report, compiled)
        header = {
            **(facts or {}),
            "architecture": architecture.as_dict(),
            "digest": name,
            "expert": number,
            "seed": seed,
            "final_loss": final_loss,
            "parameters": snapshots.shape[1],
        }
        write_expert(path, snapshots, header)
    return paths


def finished_experts(
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    network: NetworkConfig,
    config: ExpertConfig,
    seed: int,
    folder: Path,
) -> int:
    """Return how many of the `config.count` experts are in `folder` already; arguments as in `train_experts`."""
    architecture = Architecture(network, images.shape[1], images.shape[2], num_classes)
    name = expert_digest(images, labels, architecture, config, seed)
    files = [expert_file(folder, number) for number in range(config.count)]
    return sum(_is_finished(file, name, config.epochs) for file in files)


def _is_finished(path: Path, name: str, epochs: int) -> bool:
    try:
        expert = Expert.open(path)
        if expert.header.get("digest") == name:
            load_tensors(path)  # reads all of it and compares its checksum
    except IngestError:
        return False
    return expert.header.get("digest") == name and expert.epochs == epochs


def _train_private(
    images: Tensor,
    labels: Tensor,
    patients: Sequence[str],
    architecture: Architecture,
    config: ExpertConfig,
    seed: int,
    number: int,
    report: Callable[[int], None],
) -> Tensor:
    """Return the snapshots (E + 1, P) of expert `number` by DP-SGD; the start is public, the rest is noise's."""
    network = _fresh(architecture, seed, number).to(images.device)
    gradient = PatientGradient(network, images, labels, patients, config.dp, config.augment, secret_generator())
    theta = ParameterLayout.of(network).flatten(network)
    velocity = torch.zeros_like(theta)
    snapshots = [theta.cpu().clone()]
    for epoch in range(config.epochs):
        for _ in range(config.dp.steps_per_epoch):
            velocity.mul_(config.momentum).add_(gradient(theta))
            theta.sub_(velocity, alpha=config.lr)
        if not bool(torch.isfinite(theta).all()):
            raise DivergedError(f"expert {number}: not finite in epoch {epoch + 1}; lower experts.lr ({config.lr:g})")
        snapshots.append(theta.cpu().clone())
        report(epoch + 1)
    return torch.stack(snapshots)


def _fresh(architecture: Architecture, seed: int, number: int) -> torch.nn.Module:
    return architecture.make_network(stream(seed, "expert", number, "init"))


def _train_one(
    images: Tensor,
    labels: Tensor,
    architecture: Architecture,
    config: ExpertConfig,
    seed: int,
    number: int,
    report: Callable[[int], None],
    compiled: bool,
) -> tuple[Tensor, float]:
    """Return the snapshots (E + 1, P) of expert `number` and its last epoch's mean loss."""
    network = _fresh(architecture, seed, number).to(images.device)
    check_deterministic(network)
    generator = stream(seed, "expert", number, "batches")
    gradient = gradient_function(network, compile=compiled)
    theta = ParameterLayout.of(network).flatten(network)
    velocity = torch.zeros_like(theta)
    snapshots = [theta.cpu().clone()]
    batch = min(config.batch_size, len(images))
    mean_loss = math.nan
    for epoch in range(config.epochs):
        order = torch.randperm(len(images), generator=generator)
        losses = []
        for start in range(0, len(order) - batch + 1, batch):
            index = order[start : start + batch]
            x = augment(images[index], config.augment, draw(batch, generator).to(images.device))
            value, slope = gradient(theta, x, labels[index])
            if config.rho:
                _, slope = gradient(theta + config.rho * slope / slope.norm().clamp_min(_TINY), x, labels[index])
            velocity.mul_(config.momentum).add_(slope)
            theta.sub_(velocity, alpha=config.lr)
            losses.append(value)
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss) or not bool(torch.isfinite(theta).all()):
            raise DivergedError(
                f"expert {number}: loss {mean_loss} in epoch {epoch + 1}; lower experts.lr (now {config.lr:g})"
            )
        snapshots.append(theta.cpu().clone())
        report(epoch + 1)
    return torch.stack(snapshots), mean_loss
