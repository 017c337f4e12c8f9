"""Trajectory matching: match the student's final parameters to the expert's later snapshot.

One sample draws an expert, a start epoch i and an inner loop, and compares theta_J with theta_{i+K}, or with another
target (`targets.py`):

    L = || W * (theta_J - theta_{i+K}) ||^2 / || theta_i - theta_{i+K} ||^2

Li et al. 2024 (arXiv 2401.15863); with W = 1 it is the loss of Cazenavette et al. 2022 (arXiv 2203.11932).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.hypergradient import Student, real_loss_slopes
from medidistill.distillation.objective import Sample
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState
from medidistill.distillation.targets import Targets
from medidistill.distillation.trajectory import Experts
from medidistill.distillation.unroll import InnerStep, draw_plan, unroll_by

__all__ = ["TrajectoryMatching", "max_start_epoch"]


def max_start_epoch(config: DistillConfig, step: int) -> int:
    """Return the number that start epochs are drawn below at outer step `step` (from 0).

    With `start_growth` the range grows linearly from `first_max_start` to `max_start` and then stays: easy, early
    segments first (Guo et al. 2024, arXiv 2310.05773).
    """
    growing = round(config.start_growth * config.outer_steps)
    if step >= growing:
        return config.max_start
    first = config.first_max_start or config.min_start + 1
    return first + (config.max_start - first) * step // growing


class TrajectoryMatching:
    """The matching loss of one drawn segment.

    Args:
        experts: pool that segments are drawn from.
        targets: where students begin and what their ends are compared with.
        config: J, K, start epochs, batch, augmentation, kind of unroll.
        step: derivatives of the student's loss.
        device: where to compute.
        held_out: real images whose loss W descends; None: W learns from the residual.
    """

    def __init__(
        self,
        experts: Experts,
        targets: Targets,
        config: DistillConfig,
        step: InnerStep,
        device: torch.device,
        held_out: RealBatches | None = None,
    ) -> None:
        self.experts, self.targets, self.config, self.step, self.device = experts, targets, config, step, device
        self.held_out = held_out

    def __call__(self, state: DistillState, generator: torch.Generator) -> Sample:
        """Return loss and gradients of one drawn segment."""
        config = self.config
        number = int(torch.randint(len(self.experts), (), generator=generator))
        last = max_start_epoch(config, state.progress.step)
        start = int(torch.randint(config.min_start, last, (), generator=generator))
        begin, target = (theta.to(self.device) for theta in self.targets(number, start))
        plan = draw_plan(
            len(state.images), config.inner_steps, config.batch_size, config.augment, generator, self.device
        )
        kept: list[Tensor] = []

        def end_loss(end: Tensor) -> tuple[Tensor, Tensor]:
            loss, gradient, parts = state.weights.matching_loss(end, target, begin)
            kept.append(parts)
            return loss, gradient

        unroll, loop = unroll_by(config.gradient), (state.images, state.targets(), state.alpha, plan)
        found = unroll(self.step, begin, *loop, end_loss)
        parts: Tensor | None = kept[0]
        if self.held_out is not None and state.progress.step % config.importance.hypergradient_every:
            parts = None  # W rests
        elif self.held_out is not None:
            parts = real_loss_slopes(
                Student(self.step, begin, *loop, found.end),
                target,
                state.weights.vector().square().to(found.end),
                self.held_out.draw_balanced(self.config.real_batch, generator),
                lambda gradient: state.parameterization.images(state.parameterization.vjp(gradient)),
                unroll,
            )
        return Sample(found.loss, found.images, found.targets, found.alpha, parts)
