"""Procedures cheap enough to be audited in seconds: one that releases patients' images, one that releases means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, LabelledImages, Normalisation

NETWORK = NetworkConfig(width=4, depth=1)
TRAINING = TrainingConfig(steps=60, batch_size=32, lr=0.05)
FIXED = Normalisation("fixed")


def as_set(images: Tensor, labels: Tensor, init: str) -> DistilledSet:
    names = ("a", "b")
    return DistilledSet(images, labels, 0.05, names, FIXED, NETWORK, TRAINING, recipe={"method": "mtt", "init": init})


@dataclass(frozen=True)
class Copies:
    """Releases the first `count` images as they are."""

    count: int

    def __call__(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        assert len(images) == len(labels) == len(patients)
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: self.count]
        return as_set(images[chosen], labels[chosen], "real")


@dataclass(frozen=True)
class Means:
    """Releases noisy class means: the population, nobody's image."""

    copies: int

    def __call__(self, images: Tensor, labels: Tensor, patients: Sequence[str], seed: int) -> DistilledSet:
        generator = torch.Generator().manual_seed(seed)
        means = torch.stack([images[labels == k].mean(0) for k in (0, 1)]).repeat(self.copies, 1, 1, 1)
        noise = torch.randn(means.shape, generator=generator)
        return as_set(means + noise, torch.tensor([0, 1] * self.copies), "noise")


def people(patients: int, seed: int, *, prefix: str = "p") -> LabelledImages:
    """Two classes; each patient has a face of his own, and two images."""
    generator = torch.Generator().manual_seed(seed)
    face = torch.rand(patients, 1, 8, 8, generator=generator)
    labels = torch.arange(patients) % 2
    face[labels == 1, :, :4] += 0.05  # hard to tell apart: a network has to remember
    images = face.repeat_interleave(2, 0) + 0.03 * torch.randn(2 * patients, 1, 8, 8, generator=generator)
    names = tuple(f"{prefix}{i // 2}" for i in range(2 * patients))
    sites = tuple(("north", "south")[(i // 2) % 3 == 0] for i in range(2 * patients))
    images = torch.nn.functional.interpolate(images, size=(16, 16)).clamp(0, 1)
    return LabelledImages(images, labels.repeat_interleave(2), ("a", "b"), names, sites=sites)
