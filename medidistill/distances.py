"""Distances between images, for the gallery, the audit and users of a set."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["correlation_distance", "nearest"]

_ROWS = 512


def correlation_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - Pearson correlation of every row of (A, ...) with every row of (B, ...), (A, B) float32."""

    def unit(x: Tensor) -> Tensor:
        x = x.flatten(1).float()
        x = x - x.mean(dim=1, keepdim=True)
        scaled: Tensor = x / x.norm(dim=1, keepdim=True).clamp_min(1e-8)
        return scaled

    right = unit(b).T
    return torch.cat([1 - part @ right for part in torch.split(unit(a), _ROWS)])


def nearest(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest distance of each row and where it is."""
    found = distances.min(dim=1)
    return found.values, found.indices
