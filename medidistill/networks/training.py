"""Supervised training and prediction, for experts, evaluation and users of a distilled set alike.

A network without running statistics is trained as one flat parameter vector: the loss is then a pure
function that can be compiled once and shared by every network of that architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from medidistill.config import TrainingConfig
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.networks.augment import augment, draw, is_identity
from medidistill.networks.compiling import compiled_once
from medidistill.networks.convnet_derivatives import ConvNetDerivatives
from medidistill.networks.functional import Criterion, ParameterLayout, cross_entropy, has_dropout, loss_function
from medidistill.networks.zoo import make_network
from medidistill.seeding import stream

__all__ = ["Gradient", "gradient_function", "predict", "train", "train_on_distilled"]

Gradient = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(theta, x, q) -> (loss, dloss/dtheta), nothing attached to a graph."""

_WARMUP = 0.3  # share of the steps over which a one-cycle rate rises


def gradient_function(network: nn.Module, *, compile: bool = False, criterion: Criterion = cross_entropy) -> Gradient:
    """Return the loss and its gradient at a flat parameter vector.

    Args:
        network: a network without buffers.
        compile: use `torch.compile`. The compiled function is kept for all networks of the same structure;
            networks with dropout stay eager.
        criterion: loss of the outputs.
    """
    by_hand = ConvNetDerivatives.of(network, criterion)
    function: Callable[..., Any] = by_hand.gradient if by_hand else loss_function(network, criterion)
    # a shared function runs the modules of the first network, which may be in eval mode by now, without dropout
    if compile and not has_dropout(network):
        function = compiled_once(function, "gradient", str(network), criterion)
    return function if by_hand else _differentiated(function)


def _differentiated(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Gradient:
    def gradient(theta: Tensor, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
        leaf = theta.detach().requires_grad_()
        value = loss(leaf, x, q)
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.detach(), gradient

    return gradient


def _lr_at(config: TrainingConfig, step: int) -> float:
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * step / config.steps))
    if config.schedule == "one_cycle":
        rising = max(1, round(_WARMUP * config.steps))
        if step < rising:
            return config.lr * (step + 1) / rising
        return config.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, config.steps - rising)))
    late = config.schedule == "step" and step >= config.steps / 2
    return config.lr * (0.1 if late else 1.0)


def _batches(count: int, size: int, generator: torch.Generator) -> Callable[[], Tensor]:
    """Return a function that yields the next batch of indices: epochs of permutations, the short tail dropped."""
    size = min(size, count)
    queue = torch.empty(0, dtype=torch.int64)

    def next_batch() -> Tensor:
        nonlocal queue
        if len(queue) < size:
            queue = torch.randperm(count, generator=generator)
        batch, queue = queue[:size], queue[size:]
        return batch

    return next_batch


def train(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: TrainingConfig,
    generator: torch.Generator,
    on_step: Callable[[int, float], None] | None = None,
    *,
    compile: bool = False,
) -> None:
    """Train `network` in place by SGD with momentum, or by AdamW.

    Args:
        network: any network from images to logits.
        images: (N, C, H, W) float32, normalised.
        labels: (N,) int64 classes or (N, K) float probabilities.
        config: steps, batch, rate, schedule, augmentation.
        generator: CPU generator; decides batches and augmentation.
        on_step: called with the step (from 1) and its loss, about a hundred times over the training.
        compile: compile the loss; pays off from a few hundred steps on.

    Raises:
        ConfigError: no images, or the numbers of images and labels differ.
    """
    if len(images) == 0 or len(images) != len(labels):
        raise ConfigError(f"training needs as many labels as images and at least one, got {len(images)}, {len(labels)}")
    network.train()
    network.to(images.device)
    next_batch = _batches(len(images), config.batch_size, generator)
    plain = is_identity(config.augment)
    step_function = _flat_step if not any(True for _ in network.buffers()) else _module_step
    step_once, finish = step_function(network, config, compile)
    report_every = max(1, config.steps // 100)
    for step in range(config.steps):
        index = next_batch()
        x = images[index]
        if not plain:
            x = augment(x, config.augment, draw(len(x), generator).to(x.device))
        value = step_once(x, labels[index], _lr_at(config, step))
        if on_step is not None and (step + 1) % report_every == 0:
            on_step(step + 1, float(value))
    finish()


_Step = tuple[Callable[[Tensor, Tensor, float], Tensor], Callable[[], None]]


def _flat_step(network: nn.Module, config: TrainingConfig, compile: bool) -> _Step:
    layout = ParameterLayout.of(network)
    gradient = gradient_function(network, compile=compile)
    theta = layout.flatten(network)
    if config.optimizer == "adamw":
        optimizer = _optimizer([theta], config)

        def adamw_step(x: Tensor, q: Tensor, rate: float) -> Tensor:
            value, theta.grad = gradient(theta, x, q)
            _set_rate(optimizer, rate)
            optimizer.step()
            return value

        return adamw_step, lambda: layout.load(network, theta)
    velocity = torch.zeros_like(theta)

    def step(x: Tensor, q: Tensor, rate: float) -> Tensor:
        value, direction = gradient(theta, x, q)
        velocity.mul_(config.momentum).add_(direction).add_(theta, alpha=config.weight_decay)
        theta.sub_(velocity, alpha=rate)
        return value

    return step, lambda: layout.load(network, theta)


def _module_step(network: nn.Module, config: TrainingConfig, compile: bool) -> _Step:
    # running statistics are side effects that a pure loss cannot carry; these networks train eagerly
    optimizer = _optimizer(network.parameters(), config)

    def step(x: Tensor, q: Tensor, rate: float) -> Tensor:
        _set_rate(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        value = cross_entropy(network(x), q)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return value.detach()

    return step, lambda: None


def _optimizer(parameters: Iterable[Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def predict(network: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Return softmax probabilities (N, K), float32 on the CPU.

    Args:
        network: from (N, C, H, W) to logits (N, K); put into evaluation mode.
        images: (N, C, H, W) float32, normalised, on the network's device.
        batch_size: images in one forward pass.
    """
    network.eval()
    parts = [torch.softmax(network(part).float(), dim=1).cpu() for part in torch.split(images, batch_size)]
    return torch.cat(parts)


def train_on_distilled(distilled: DistilledSet, network: nn.Module | None = None, seed: int = 0) -> nn.Module:
    """Train a network from a distilled set by the set's own recipe.

    Args:
        distilled: images that are already normalised, labels, alpha and recipe.
        network: network to train; None: a fresh one of the set's architecture.
        seed: of initial weights, batches and augmentation.

    Returns:
        The trained network. Apply `distilled.normalisation` to real images before it sees them.
    """
    if network is None:
        _, channels, side, _ = distilled.images.shape
        network = make_network(
            distilled.network,
            channels=channels,
            image_size=side,
            num_classes=distilled.num_classes,
            generator=stream(seed, "train_on_distilled", "init"),
        )
    train(
        network,
        distilled.images,
        distilled.targets,
        distilled.training,
        stream(seed, "train_on_distilled", "batches"),
    )
    return network
