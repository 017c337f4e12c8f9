"""Frozen weights that trust a parameter as far as its target is known.

    w_j^2 proportional to 1 / (v_j + floor * mean(v)),        cut to [w_min, w_max] and rescaled to mean(w^2) = 1

v_j is the variance of parameter j over networks that were trained on from one snapshot in different orders
(`continuations.py`), over the squared distance that they went, averaged over starts. Weights proportional to 1 / v give
the estimate of least variance where residuals differ by gradient noise alone. The floor keeps parameters that hardly
move, and so hardly vary, from taking all the weight. A weight that a group shares answers to the group's mean variance.
The idea of weighting by the spread of continuations is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.distillation.importance import ImportanceWeights

__all__ = ["InverseVarianceWeights"]


class InverseVarianceWeights(ImportanceWeights):
    """W from the variance of continuations; all 1 until `init_from_variance`."""

    def init_from_variance(self, variance: Tensor) -> None:
        """Set the weights.

        Args:
            variance: (P,) float64 >= 0, in any unit.
        """
        active = self.count > 0
        total = torch.zeros_like(self.s).index_add_(0, self.group, variance * self.moving)
        floor = self.config.variance_floor * total.sum() / self.count.sum()
        spread = total[active] / self.count[active] + floor
        self.s[active] = -0.5 * spread.clamp_min(torch.finfo(self.s.dtype).tiny).log()
        self._project(active)

    def update(self, parts: Tensor, scale: float = 1.0) -> None:
        """Learn nothing."""
