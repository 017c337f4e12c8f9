"""The easy-to-complex mask of HoP-TM: a parameter counts once it was matched well enough, and then for good.

    v_j <- 1 where d_j^2 < threshold * growth^floor(step / growth_every) * mean(m^2);  v never falls back to 0
    L = sum_j v_j d_j^2 / sum_j v_j m_j^2

After Dong et al. 2025 (arXiv 2509.24177). Their threshold is absolute; ours is in units of the mean squared
movement of the drawn segment, so that it means the same for every network and rate. Their second part, a
potential on the shape of the trajectory's middle, is not here: the adjoint has its loss at the student's end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.distillation.pruning import HardMask
from medidistill.networks import ParameterLayout

__all__ = ["ProgressiveMask"]


class ProgressiveMask(HardMask):
    """A mask that starts empty and only grows."""

    def __init__(self, layout: ParameterLayout, config: ImportanceConfig, moving: Tensor) -> None:
        super().__init__(layout, config, moving)
        self.s = torch.zeros(len(moving), dtype=torch.float64)
        self.steps = 0

    def select(self, residual: Tensor, movement: Tensor) -> Tensor:
        """Add what lies below today's threshold."""
        config = self.config
        moving = self.moving.to(residual.device)
        limit = config.threshold * config.growth ** (self.steps // config.growth_every)
        return (self.s.to(residual.device) > 0) | (residual < limit * movement[moving].mean())

    def update(self, parts: Tensor, scale: float = 1.0) -> None:
        """Count the outer step, which the threshold grows with."""
        self.steps += 1

    def state(self) -> Tensor:
        """Return mask and step count in one vector, (P + 1,)."""
        return torch.cat([self.s, torch.tensor([self.steps], dtype=self.s.dtype)])

    def load_state(self, s: Tensor) -> None:
        """Continue from `state`."""
        self.s, self.steps = s[:-1].cpu().clone(), int(s[-1])
