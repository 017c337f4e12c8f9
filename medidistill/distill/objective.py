"""What an outer step lowers. Every objective answers with one sample of its loss and its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medidistill.distill.state import DistillState

__all__ = ["Objective", "Sample"]


@dataclass(frozen=True)
class Sample:
    """One sample of an objective.

    Args:
        loss: its value, a float.
        images: dL/d images, (S, C, H, W).
        targets: dL/d targets, (S, K); zeros where labels are not learned.
        alpha: dL/d alpha, scalar tensor; zero where alpha takes no part.
        parts: w^2 d^2 / Z of each network parameter, (P,), that W learns from; None where W takes no part.
    """

    loss: float
    images: Tensor
    targets: Tensor
    alpha: Tensor
    parts: Tensor | None = None


class Objective(Protocol):
    """Draws a sample with the random numbers of one outer step."""

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return one sample at `state`, which stays as it is."""
        ...
