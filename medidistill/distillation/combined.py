"""Trajectory matching with feature matching beside it: L = L_trajectory + beta L_snapshots.

L_trajectory (`matching.py`) asks that a student of the images ends where an expert went; L_snapshots (`snapshots.py`)
that the images have the real class means of features on the way there. Both are 1 where nothing has been learned, so
that beta = 1 gives them about equal weight. W and alpha take part in the first alone. Each outer step draws both with
one generator, the segment first: beta = 0 draws the segments of plain trajectory matching.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from medidistill.distillation.objective import LearningObjective, Objective, Sample
from medidistill.distillation.state import DistillState

__all__ = ["CombinedMatching"]


class CombinedMatching:
    """The sum of an objective and another one, which is weighted.

    Args:
        first: gives targets, alpha and the parts that W learns from.
        second: adds to loss and images.
        weight: beta, >= 0.
    """

    def __init__(self, first: Objective, second: Objective, weight: float) -> None:
        self.first, self.second, self.weight = first, second, weight
        named = {"first.": first, "second.": second}
        self._learning = {name: part for name, part in named.items() if isinstance(part, LearningObjective)}

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients of one draw of each."""
        found, beside = self.first(state, generator), self.second(state, generator)
        return dataclasses.replace(
            found,
            loss=found.loss + self.weight * beside.loss,
            images=found.images + self.weight * beside.images,
        )

    @property
    def learns(self) -> bool:
        """Whether one of the two learns for itself."""
        return any(part.learns for part in self._learning.values())

    def save(self) -> dict[str, Tensor]:
        """Return what both have learned, each name with its part before it."""
        return {name + key: value for name, part in self._learning.items() for key, value in part.save().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `save` returned."""
        for name, part in self._learning.items():
            part.load({key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)})
