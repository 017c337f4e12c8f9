"""What a student's end is compared with: the expert's snapshot, a mean of continuations, or a point of a line.

A student begins at theta_i; K is how many expert epochs it is to go.

| `distill.target` | target | source |
|---|---|---|
| `expert` | theta_{i+K} | Cazenavette et al. 2022, arXiv 2203.11932 |
| `mean_continuation` | mean of R networks trained on from theta_i on the real images (`continuations.py`) | ours |
| `line` | theta_i + K / (e - i) * (theta_e - theta_i) | after Zhong et al. 2024, arXiv 2406.19827 |

On the line e is the expert's last epoch, or `line_epochs` after the start where that is earlier: what gradient noise
moved to and fro between the two is not in their difference. The cited work makes the students begin on the line too;
here they begin at the expert's snapshots.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.continuations import Continuations
from medidistill.distillation.trajectory import Experts, check_movement
from medidistill.errors import ConfigError

__all__ = ["ExpertSnapshots", "MeanContinuations", "StraightLine", "Targets", "make_targets"]


class Targets(Protocol):
    """Where a student begins and what its end is compared with."""

    def __call__(self, number: int, start: int) -> tuple[Tensor, Tensor]:
        """Return theta_start of expert `number` and the target, both (P,) on the CPU.

        Raises:
            IngestError: the two are equal or not finite; the matching loss would divide by zero.
        """
        ...


class ExpertSnapshots:
    """The expert's snapshot `length` epochs after the start."""

    def __init__(self, experts: Experts, length: int) -> None:
        self.experts, self.length = experts, length

    def __call__(self, number: int, start: int) -> tuple[Tensor, Tensor]:
        """Return begin and target; see `Targets`."""
        return self.experts.segment(number, start, self.length)


class MeanContinuations:
    """The mean of networks that were trained on from the start."""

    def __init__(self, experts: Experts, continuations: Continuations) -> None:
        self.experts, self.continuations = experts, continuations

    def __call__(self, number: int, start: int) -> tuple[Tensor, Tensor]:
        """Return begin and target; see `Targets`."""
        member = self.experts.members[number]
        begin, target = member.snapshot(start), self.continuations(number, start).mean
        check_movement(begin, target, f"{member.path}: ||theta_{start} - mean of its continuations||^2")
        return begin, target


class StraightLine:
    """The point of the straight path to a later snapshot that `length` epochs of even speed reach.

    Args:
        experts: the pool.
        length: K.
        span: epochs from the start to the far snapshot; 0: to the pool's last epoch.
    """

    def __init__(self, experts: Experts, length: int, span: int) -> None:
        self.experts, self.length, self.span = experts, length, span

    def __call__(self, number: int, start: int) -> tuple[Tensor, Tensor]:
        """Return begin and target; see `Targets`."""
        last = self.experts.epochs
        span = min(self.span or last, last - start)
        begin, end = self.experts.segment(number, start, span)
        return begin, torch.lerp(begin, end, self.length / span)


def make_targets(experts: Experts, config: DistillConfig, continuations: Continuations | None) -> Targets:
    """Return what `config.target` names.

    Args:
        experts: the pool.
        config: the target and K.
        continuations: of the pool; needed for `mean_continuation`.

    Raises:
        ConfigError: no continuations where they are needed.
    """
    if config.target == "line":
        return StraightLine(experts, config.expert_epochs, config.line_epochs)
    if config.target == "mean_continuation":
        if continuations is None:
            raise ConfigError("distill.target='mean_continuation' needs the real images; use target='expert'")
        return MeanContinuations(experts, continuations)
    return ExpertSnapshots(experts, config.expert_epochs)
