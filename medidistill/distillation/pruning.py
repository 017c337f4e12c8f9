"""Parameter pruning: a hard mask in place of learned weights.

With residual d = theta_J - theta_{i+K} and movement m = theta_i - theta_{i+K}, each sample leaves out the share of
the moving parameters that has the largest d^2, or the smallest m^2, from numerator and denominator alike:

    L = sum_j v_j d_j^2 / sum_j v_j m_j^2,        v_j in {0, 1}, constant in the gradient.

After Li et al. 2022 (arXiv 2209.14609), who prune what is difficult to match. How they measure that is not in the
abstract that is available to us, so the two measures are choices of ours.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.networks import ParameterLayout

__all__ = ["HardMask", "ParameterPruning"]


class HardMask(ImportanceWeights, ABC):
    """Weights that are 0 or 1, one for each parameter. `s` holds the mask of the last sample itself."""

    def __init__(self, layout: ParameterLayout, config: ImportanceConfig, moving: Tensor) -> None:
        super().__init__(layout, dataclasses.replace(config, granularity="element"), moving)
        self.s = torch.ones(len(moving), dtype=torch.float64)

    def vector(self) -> Tensor:
        """Return the mask, (P,) float64; 1 where nothing moves."""
        return torch.where(self.moving, self.s, 1.0)

    @abstractmethod
    def select(self, residual: Tensor, movement: Tensor) -> Tensor:
        """Return which parameters count, (P,) bool, from d^2 and m^2, both (P,)."""

    def all_but_largest(self, values: Tensor, share: float) -> Tensor:
        """Return (P,) bool, False for the share of the moving parameters with the largest of `values`, (P,)."""
        moving = self.moving.to(values.device)
        dropped = torch.topk(values.masked_fill(~moving, -torch.inf), int(share * int(self.moving.sum()))).indices
        counts = torch.ones_like(moving)
        counts[dropped] = False
        return counts

    def matching_loss(self, end: Tensor, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (L, dL/d end, v d^2 / sum(v m^2)) at theta_J = `end`; 0 while no parameter counts."""
        difference, movement = end - target, (start - target).square()
        counts = self.select(difference.square(), movement)
        self.s = counts.double().cpu()
        mask = counts.to(end.dtype)
        scale = (mask * movement).sum().clamp_min(torch.finfo(end.dtype).tiny)
        parts = mask * difference.square() / scale
        return parts.sum(), 2 * mask * difference / scale, parts

    def update(self, parts: Tensor, scale: float = 1.0) -> None:
        """Learn nothing."""


class ParameterPruning(HardMask):
    """Leave out `prune_share` of the moving parameters, anew in each sample."""

    def select(self, residual: Tensor, movement: Tensor) -> Tensor:
        """Drop the largest residuals, or the smallest movements."""
        return self.all_but_largest(
            residual if self.config.prune_by == "residual" else -movement, self.config.prune_share
        )
