"""What an outer step lowers. Every objective answers with one sample of its loss and its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from medidistill.distillation.state import DistillState

__all__ = ["LearningObjective", "Objective", "Sample"]


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


@runtime_checkable
class LearningObjective(Protocol):
    """An objective with tensors of its own that its calls change; a checkpoint holds them."""

    @property
    def learns(self) -> bool:
        """Whether the tensors depend on the steps taken so far, and not on the snapshots alone."""
        ...

    def save(self) -> dict[str, Tensor]:
        """Return copies of the tensors, by name."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `save` returned."""
        ...
