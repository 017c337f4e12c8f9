"""A control for learned weights: the same spread of weights, drawn at random and frozen.

    log w ~ N(0, spread^2), cut to [w_min, w_max] and rescaled to mean(w^2) = 1 over what moves

If learned weights help, they must help more than these.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.networks import ParameterLayout

__all__ = ["RandomWeights"]


class RandomWeights(ImportanceWeights):
    """W drawn once from `generator`, at the configured granularity."""

    def __init__(
        self, layout: ParameterLayout, config: ImportanceConfig, moving: Tensor, generator: torch.Generator
    ) -> None:
        super().__init__(layout, config, moving)
        self.s = config.spread * torch.randn(len(self.s), generator=generator, dtype=torch.float64)
        self._project(self.count > 0)

    def update(self, parts: Tensor, scale: float = 1.0) -> None:
        """Learn nothing."""
