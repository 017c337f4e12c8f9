"""Expert training: many networks on the real data, each leaving one snapshot an epoch.

With `rho` > 0 each step takes the gradient at the worst point of a ball around theta, to first order:

    theta <- theta - lr * grad L(theta + rho * grad L(theta) / || grad L(theta) ||)

Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412), which FTD (Du et al. 2023, arXiv 2211.11004) trains
flat experts with; their variant also weighs the surrogate gap, which is not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medidistill.config import ExpertConfig, NetworkConfig, digest
from medidistill.distillation.trajectory import Architecture, Expert, expert_file, write_expert
from medidistill.errors import ConfigError, DivergedError, IngestError
from medidistill.files import load_tensors
from medidistill.hashing import tensor_sha256
from medidistill.jsontypes import ReadOnlyJsonObject  # facts that a caller adds to the header
from medidistill.networks import (
    ParameterLayout,
    PatientGradient,
    Workers,
    augment,
    check_deterministic,
    compiled_once,
    draw,
    gradient_function,
    loss_function,
    patient_numbers,
    secret_generator,
    should_compile,
    tell_share,
)
from medidistill.seeding import stream

__all__ = ["expert_digest", "finished_experts", "train_experts", "train_further"]

_TINY = 1e-12


def expert_digest(
    images: Tensor,
    labels: Tensor,
    architecture: Architecture,
    config: ExpertConfig,
    seed: int,
    patients: Sequence[str] = (),
) -> str:
    """Name what an expert is a function of; the number of experts is left out, so that more can be added.

    Private experts are clipped and sampled by patient: with other `patients` they protect somebody else.
    """
    left_out = ("count", "augment", "dp", "flat_rho", *(() if config.rho else ("rho",)))
    settings = {name: value for name, value in vars(config).items() if name not in left_out}
    private = [config.dp, patient_numbers(patients).tolist()] if config.dp.enabled else []
    content = [tensor_sha256(part) for part in (images, labels)]
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
    stack_size: int = 1,
    patients: Sequence[str] = (),
    facts: ReadOnlyJsonObject | None = None,
    workers: Workers | None = None,
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
        stack_size: experts in one stack, each with its own parameters, batches and augmentation; equal to one after
            another but for rounding. What a stop costs grows with it, and so does the memory.
        patients: N identifiers; needed for `config.dp`, whose unit is the patient. With it an expert's sampling and
            noise are secret, so that no seed repeats it.
        facts: what else each file shall say about its data, for example class names and normalisation.
        workers: processes that train one expert each. None: this process. With
            `config.dp` it is always this one, which draws all the noise.

    Raises:
        DivergedError: an expert's loss is not finite.
        ConfigError: no images, labels that do not fit them, or a network that is not a function of its parameters.
    """
    _check(images, labels, num_classes, config, shard, stack_size)
    architecture = Architecture(network, images.shape[1], images.shape[2], num_classes)
    name = expert_digest(images, labels, architecture, config, seed, patients)
    numbers = range(shard[0], config.count, shard[1])
    total = len(numbers) * config.epochs
    steps = total * math.ceil(len(images) / config.batch_size)
    compiled = should_compile(compile, steps * config.batch_size * network.width * images[0, 0].numel())
    missing = [number for number in numbers if not _is_finished(expert_file(folder, number), name, config.epochs)]
    job = _Job(images, labels, tuple(patients), architecture, config, seed, compiled, folder, name, dict(facts or {}))
    before = total - len(missing) * config.epochs
    if workers is not None and not config.dp.enabled:

        def count(done: float) -> None:
            if on_epoch is not None:
                on_epoch(before + round(done * config.epochs), total)

        count(0)
        workers.run(job, [(number,) for number in missing], on_share=count)
    else:
        stack = 1 if config.dp.enabled else stack_size
        for first in range(0, len(missing), stack):
            members = tuple(missing[first : first + stack])

            def report(epoch: int, first: int = first, size: int = len(members)) -> None:
                if on_epoch is not None:
                    on_epoch(before + first * config.epochs + size * epoch, total)

            report(0)
            job(members, report)
    if on_epoch is not None and not missing:
        on_epoch(total, total)
    return [expert_file(folder, number) for number in numbers]


@dataclass(frozen=True)
class _Job:
    """Trains experts and writes their files."""

    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]
    architecture: Architecture
    config: ExpertConfig
    seed: int
    compiled: bool
    folder: Path
    name: str
    facts: ReadOnlyJsonObject

    def __call__(self, members: tuple[int, ...], report: Callable[[int], None] | None = None) -> None:
        """Train the experts `members` in one stack; `report` is called with the epochs done. None: tell the share."""
        report = report or (lambda epoch: tell_share(epoch / self.config.epochs))
        what = self.images, self.labels
        made: Sequence[tuple[Tensor, float | None]]
        if self.config.dp.enabled:  # no final loss: the mechanism would not cover it
            snapshots = _train_private(
                *what, self.patients, self.architecture, self.config, self.seed, members[0], report
            )
            made = [(snapshots, None)]
        else:
            made = _train_stack(*what, self.architecture, self.config, self.seed, members, report, self.compiled)
        for number, (path, final_loss) in zip(members, made, strict=True):
            header = {
                **self.facts,
                "architecture": self.architecture.as_dict(),
                "digest": self.name,
                "expert": number,
                "seed": self.seed,
                "final_loss": final_loss,
                "parameters": path.shape[1],
            }
            write_expert(expert_file(self.folder, number), path, header)


def _check(
    images: Tensor, labels: Tensor, num_classes: int, config: ExpertConfig, shard: tuple[int, int], stack_size: int
) -> None:
    """Raise `ConfigError` where arguments of `train_experts` do not go together."""
    if len(images) == 0:
        raise ConfigError("no training images for the experts")
    if labels.shape != (len(images),) or not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ConfigError(
            f"labels of shape {tuple(labels.shape)} for {len(images)} images: must be one class index each, "
            f"in 0..{num_classes - 1}"
        )
    if not 0 <= shard[0] < shard[1]:
        raise ConfigError(f"shard={shard}: must be (i, n) with 0 <= i < n")
    if stack_size < 1:
        raise ConfigError(f"stack_size={stack_size}: must be >= 1")
    if config.dp.enabled and config.rho:
        raise ConfigError(f"experts.rho={config.rho:g}: not with experts.dp; its inner step would be a second touch")


def finished_experts(
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    network: NetworkConfig,
    config: ExpertConfig,
    seed: int,
    folder: Path,
    patients: Sequence[str] = (),
) -> int:
    """Return how many of the `config.count` experts are in `folder` already; arguments as in `train_experts`."""
    architecture = Architecture(network, images.shape[1], images.shape[2], num_classes)
    name = expert_digest(images, labels, architecture, config, seed, patients)
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


def _train_stack(
    images: Tensor,
    labels: Tensor,
    architecture: Architecture,
    config: ExpertConfig,
    seed: int,
    members: Sequence[int],
    report: Callable[[int], None],
    compiled: bool,
) -> list[tuple[Tensor, float]]:
    """Return the snapshots (E + 1, P) and the last epoch's mean loss of each of the experts `members`."""
    networks = [_fresh(architecture, seed, number) for number in members]
    check_deterministic(networks[0])
    generators = [stream(seed, "expert", number, "batches") for number in members]
    layout = ParameterLayout.of(networks[0])
    first = torch.stack([layout.flatten(network).to(images.device) for network in networks])
    snapshots = [first.cpu().clone()]
    mean_loss = torch.tensor(math.nan)
    training = train_further(images, labels, networks[0], config, first, config.epochs, generators, compile=compiled)
    for epoch, (theta, mean_loss) in enumerate(training):
        finite = mean_loss.isfinite() & theta.isfinite().all(-1).cpu()
        if not bool(finite.all()):
            worst = int(finite.int().argmin())
            raise DivergedError(
                f"expert {members[worst]}: loss {float(mean_loss[worst])} in epoch {epoch + 1}; lower experts.lr "
                f"(now {config.lr:g})"
            )
        snapshots.append(theta.cpu().clone())
        report(epoch + 1)
    paths = torch.stack(snapshots).unbind(1)
    return [(path.contiguous(), float(loss)) for path, loss in zip(paths, mean_loss, strict=True)]


def train_further(
    images: Tensor,
    labels: Tensor,
    network: torch.nn.Module,
    config: ExpertConfig,
    theta: Tensor,
    epochs: int,
    generators: Sequence[torch.Generator],
    *,
    compile: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Train M networks side by side as experts are trained, from given parameters and with a velocity of 0.

    Args:
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64.
        network: gives the architecture.
        config: batch size, rate, momentum, augmentation and `rho`.
        theta: (M, P) parameters to begin with, on the device of the images; left as they are.
        epochs: how many.
        generators: one for each network, of its batches and their augmentation.
        compile: compile the gradient.

    Yields:
        After each epoch the parameters (M, P), which change with the next one, and the mean losses (M,) on the CPU.
    """
    count, network = len(theta), network.to(images.device)
    alone = count == 1
    gradient = gradient_function(network, compile=compile) if alone else _stacked_gradient(network, compile)
    theta = (theta[0] if alone else theta).clone()
    velocity = torch.zeros_like(theta)
    batch = min(config.batch_size, len(images))
    for _ in range(epochs):
        losses = []
        for index, strengths in _batches(len(images), batch, generators, images.device):
            x = augment(images[index], config.augment, strengths)
            q = labels[index]
            if not alone:
                x, q = x.reshape(-1, batch, *x.shape[1:]), q.view(-1, batch)
            value, direction = gradient(theta, x, q)
            if config.rho:
                length = direction.norm(dim=-1, keepdim=True).clamp_min(_TINY)
                _, direction = gradient(theta + config.rho * direction / length, x, q)
            velocity.mul_(config.momentum).add_(direction)
            theta.sub_(velocity, alpha=config.lr)
            losses.append(value)
        yield theta.view(count, -1), torch.stack(losses).mean(0).view(count).cpu()


def _stacked_gradient(network: torch.nn.Module, compiled: bool) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """Return `gradient_function` for (E, P) vectors of E networks, each with a batch of its own: losses and gradients.

    One pass over a device that one small network does not fill.
    """
    loss: Callable[..., Tensor] = torch.func.vmap(loss_function(network))
    if compiled:
        loss = compiled_once(loss, "stacked loss", str(network))

    def gradient(theta: Tensor, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        values = loss(leaf, x, q)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

    return gradient


def _batches(
    count: int, batch: int, generators: Sequence[torch.Generator], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images (E * B,) of one epoch's steps, and their augmentation (E * B, 9): each expert draws its own.

    All of an epoch's numbers go to the device at once: a GPU would wait for each copy.
    """
    drawn = []
    for generator in generators:
        order = torch.randperm(count, generator=generator)[: count - count % batch].view(-1, batch)
        drawn.append((order, torch.stack([draw(batch, generator) for _ in order])))
    orders, strengths = (torch.cat(part, 1).to(device) for part in zip(*drawn, strict=True))
    yield from zip(orders, strengths, strict=True)
