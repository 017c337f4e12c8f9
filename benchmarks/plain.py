"""The steps of a run as a plain PyTorch script takes them: modules in eager mode, fused operations, autograd.

Nothing of the package's own networks, objectives or gradients is used, so that it may be what they are compared with.
Sizes are those of the preset `covid-cxr`: packed sets of 16 tiles a stored image, the ConvNet with instance norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = [
    "PlainConvNet",
    "augmented",
    "decoded",
    "kernel_step",
    "snapshot_step",
    "training_step",
    "trajectory_step",
]


class PlainConvNet(nn.Module):
    """The same ConvNet of torch's own modules, with its fused instance norm.

    Args:
        side: rows and columns of the images.
        width: channels of every block.
        depth: blocks.
        classes: K.
    """

    def __init__(self, side: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [nn.Conv2d(width if block else 1, width, 3, padding=1, bias=False)]
            layers += [nn.InstanceNorm2d(width, affine=True), nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * (side >> depth) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (N, K)."""
        found: Tensor = self.classifier(self.features(images).flatten(1))
        return found


def augmented(images: Tensor, *, shift: float = 0.05, scale: float = 0.1, degrees: float = 5.0) -> Tensor:
    """Move, zoom and turn each image at random and change its contrast and brightness; differentiable."""
    count = len(images)
    drawn = torch.rand(6, count) * 2 - 1
    zoom, angle = torch.exp(drawn[2] * math.log1p(scale)), drawn[3] * math.radians(degrees)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = torch.stack([cos, -sin, 2 * shift * drawn[0], sin, cos, 2 * shift * drawn[1]], 1).view(count, 2, 3)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return moved * (1 + 0.1 * drawn[4]).view(-1, 1, 1, 1) + 0.1 * drawn[5].view(-1, 1, 1, 1)


def decoded(stored: Tensor, tiles: int) -> Tensor:
    """Cut (N, 1, S, S) into tiles^2 images each and enlarge them to S x S: (N tiles^2, 1, S, S)."""
    side = stored.shape[-1]
    parts = F.unfold(stored, side // tiles, stride=side // tiles).transpose(1, 2)
    small = parts.reshape(-1, 1, side // tiles, side // tiles)
    return F.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def training_step(
    side: int, width: int, depth: int, batch: int, *, adaptive: bool, augment: bool = True
) -> Callable[[], None]:
    """Return one training step of a network: SGD with momentum, or AdamW where `adaptive`."""
    model = PlainConvNet(side, width, depth, 3)
    rule: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=2e-3)
        if adaptive
        else torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    )
    images, labels = torch.randn(1000, 1, side, side), torch.randint(3, (1000,))

    def step() -> None:
        index = torch.randint(len(images), (batch,))
        rule.zero_grad(set_to_none=True)
        F.cross_entropy(model(augmented(images[index]) if augment else images[index]), labels[index]).backward()  # type: ignore[no-untyped-call]
        rule.step()

    return step


def snapshot_step(side: int, width: int, depth: int, *, ipc: int = 10, tiles: int = 4) -> Callable[[], None]:
    """Return one step that matches class means of features at one snapshot, held in place by a later one."""
    models = [PlainConvNet(side, width, depth, 3).requires_grad_(False) for _ in range(2)]
    stored = torch.randn(3 * ipc, 1, side, side, requires_grad=True)
    rule, labels = torch.optim.Adam([stored], lr=0.05), torch.arange(3).repeat_interleave(ipc * tiles**2)
    with torch.no_grad():
        means = models[0].features(torch.randn(3, 1, side, side)).flatten(1)

    def step() -> None:
        rule.zero_grad(set_to_none=True)
        images = augmented(decoded(stored, tiles))
        features = models[0].features(images).flatten(1)
        loss = (features.view(3, -1, features.shape[1]).mean(1) - means).square().sum(1).mean()
        (loss + F.cross_entropy(models[1](images), labels)).backward()
        rule.step()

    return step


def kernel_step(
    side: int, width: int, depth: int, *, ipc: int = 10, tiles: int = 4, real_batch: int = 126, batch: int = 256
) -> Callable[[], None]:
    """Return one step of kernel regression: a ridge solve on a network's features, and a training step of it."""
    model = PlainConvNet(side, width, depth, 3)
    learns = torch.optim.Adam(model.parameters(), lr=1e-3)
    stored = torch.randn(3 * ipc, 1, side, side, requires_grad=True)
    rule = torch.optim.Adam([stored], lr=0.05)
    labels = F.one_hot(torch.arange(3).repeat_interleave(ipc * tiles**2), 3).float()
    real, wanted = torch.randn(1000, 1, side, side), F.one_hot(torch.randint(3, (1000,)), 3).float()

    def step() -> None:
        index = torch.randint(len(real), (real_batch,))
        images = augmented(decoded(stored, tiles))
        model.requires_grad_(False)
        own = model.features(images).flatten(1)
        others = model.features(augmented(real[index])).flatten(1)
        gram = own @ own.T
        ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(gram))
        outputs = others @ (own.T @ torch.linalg.solve(gram + ridge, labels - 1 / 3))
        rule.zero_grad(set_to_none=True)
        (outputs - wanted[index] + 1 / 3).square().sum(1).mean().backward()
        rule.step()
        model.requires_grad_(True)
        taken = torch.randint(len(images), (batch,))
        learns.zero_grad(set_to_none=True)
        F.cross_entropy(model(images.detach()[taken]), labels[taken]).backward()  # type: ignore[no-untyped-call]
        learns.step()

    return step


def trajectory_step(
    side: int, width: int, depth: int, *, ipc: int = 10, tiles: int = 4, inner_steps: int = 10, batch: int = 15
) -> Callable[[], None]:
    """Return one outer step of trajectory matching through stored inner graphs, as it is published."""
    model = PlainConvNet(side, width, depth, 3)
    names = [name for name, _ in model.named_parameters()]
    begin = [value.detach().clone() for value in model.parameters()]
    target = [value + 0.01 * torch.randn_like(value) for value in begin]
    stored = torch.randn(3 * ipc, 1, side, side, requires_grad=True)
    rate = torch.tensor(0.05, requires_grad=True)
    rule = torch.optim.Adam([stored, rate], lr=0.05)
    labels = torch.arange(3).repeat_interleave(ipc * tiles**2)

    def step() -> None:
        images = decoded(stored, tiles)
        weights = [value.clone().requires_grad_() for value in begin]
        for _ in range(inner_steps):
            index = torch.randint(len(images), (batch,))
            given = augmented(images[index], shift=0.03, scale=0.05, degrees=3.0)
            logits = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (given,))
            gradients = torch.autograd.grad(F.cross_entropy(logits, labels[index]), weights, create_graph=True)
            weights = [value - rate * gradient for value, gradient in zip(weights, gradients, strict=True)]
        far = sum(((a - b).square().sum() for a, b in zip(begin, target, strict=True)), torch.tensor(0.0))
        near = sum(((a - b).square().sum() for a, b in zip(weights, target, strict=True)), torch.tensor(0.0))
        rule.zero_grad(set_to_none=True)
        (near / far).backward()  # type: ignore[no-untyped-call]
        rule.step()

    return step
