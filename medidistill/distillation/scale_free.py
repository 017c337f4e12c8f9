"""Learned weights in a loss that does not change when all of them grow: W on residual and movement alike.

    L = sum_j w_j^2 d_j^2 / M,    M = sum_j w_j^2 m_j^2,    dL/ds_k = 2 sum_{j in k} w_j^2 (d_j^2 - L m_j^2) / M

with residual d = theta_J - theta_{i+K}, movement m = theta_i - theta_{i+K} and w = exp(s). A weight answers to the
*relative* residual of its parameters: it rises (ascending) where d^2 / m^2 is above the loss and falls where it is
below, and rests where every parameter is matched equally well. The numerator alone, as in `importance.py`, only ever
shrinks W when it descends. Masks of published work stand in both sums too (Dong et al. 2025, arXiv 2509.24177); weights
between 0 and 1 in both are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.distillation.importance import ImportanceWeights

__all__ = ["ScaleFreeWeights"]


class ScaleFreeWeights(ImportanceWeights):
    """W learned from relative residuals. Its steps, bounds and start are those of `ImportanceWeights`."""

    def matching_loss(self, end: Tensor, target: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (L, dL/d end, w^2 (d^2 - L m^2) / sum(w^2 m^2)) at theta_J = `end`; the last is half of dL/ds.

        With `keep_scale` the middle value is divided by the detached ratio of L and its value at w = 1.

        Args:
            end: theta_J, (P,).
            target: theta_{i+K}, (P,).
            start: theta_i, (P,).
        """
        difference, movement = end - target, (start - target).square()
        square = self.vector().square().to(end.dtype).to(end.device)
        scale = (square * movement).sum()
        residual = square * difference.square()
        loss = residual.sum() / scale
        gradient = 2 * square * difference / scale
        if self.config.keep_scale:
            plain = difference.square().sum() / movement.sum()
            gradient = gradient * (plain / loss.clamp_min(torch.finfo(end.dtype).tiny))
        return loss, gradient, (residual - loss * square * movement) / scale
