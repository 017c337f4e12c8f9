"""A control for learned weights: learned in the same way, but acting on other parameters.

    L = sum_j w_{pi(j)}^2 d_j^2 / Z,        pi a permutation of the moving parameters, drawn once

s_j follows the residual of its own parameter j, by the rule of `importance.py`, so that the weights have the spread
that this rule gives to these residuals at every step; which parameter a weight acts on is random. If it is the
parameters that matter and not the spread, learned weights must do better than these.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.networks import ParameterLayout

__all__ = ["ShuffledWeights"]


class ShuffledWeights(ImportanceWeights):
    """W by elements, permuted by one permutation from `generator`."""

    def __init__(
        self, layout: ParameterLayout, config: ImportanceConfig, moving: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__(layout, config, moving)
        places = torch.nonzero(moving).flatten()
        self.source = torch.arange(len(moving))
        self.source[places] = places[torch.randperm(len(places), generator=generator)]

    def vector(self) -> Tensor:
        """Return the w that acts on every element, (P,) float64; 1 where nothing moves."""
        return super().vector()[self.source]

    def matching_loss(self, end: Tensor, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (L, dL/d end, w^2 d^2 / Z); the last by each parameter's own weight, which learns from it."""
        loss, gradient, _ = super().matching_loss(end, target, start)
        own = super().vector().square().to(end)
        return loss, gradient, own * (end - target).square() / (start - target).square().sum()

    def set_weights(self, values: Mapping[str, Tensor]) -> None:
        """Begin with weights that act as `by_name` returns them."""
        super().set_weights(values)
        acting = self.s.clone()
        self.s[self.source] = acting
