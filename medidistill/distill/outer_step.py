"""One outer step: draw expert segments, match them, and move images, labels, alpha and W together.

Every random number of outer step k comes from the stream (seed, "outer", k, roll-backs so far), so that a
run resumed from any checkpoint draws what the unbroken run drew, and two methods with one seed share their
segments, batches and augmentation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distill.state import DistillState
from medidistill.distill.trajectory import Experts
from medidistill.distill.unroll import InnerStep, MetaGradient, adjoint_gradient, draw_plan, stored_gradient
from medidistill.seeding import stream

__all__ = ["OuterStep"]

_LARGEST_LOSS = 1e3  # the matching loss of a student that stays where it started is 1
_SMALLEST_ALPHA, _LARGEST_ALPHA = 1e-8, 10.0


class OuterStep:
    """The update of one outer step.

    Args:
        experts: pool that segments are drawn from.
        config: J, K, segments, augmentation, rates.
        step: derivatives of the student's loss.
        seed: of the segments, batches and augmentation.
        device: where to compute.
    """

    def __init__(
        self, experts: Experts, config: DistillConfig, step: InnerStep, seed: int, device: torch.device
    ) -> None:
        self.experts, self.config, self.step, self.seed, self.device = experts, config, step, seed, device

    def __call__(self, state: DistillState) -> tuple[dict[str, Any], str | None]:
        """Update `state`; return the history entry, and what went wrong ("nonfinite", "diverged") or None.

        After trouble the state is not to be used: load the last good one.
        """
        config = self.config
        generator = stream(self.seed, "outer", state.progress.step, state.progress.rollbacks)
        found, parts = [], []
        for _ in range(config.segments):
            gradient, matched = self._segment(state, generator)
            found.append(gradient)
            parts.append(matched)
        loss = sum(gradient.loss for gradient in found) / len(found)
        entry: dict[str, Any] = {"step": state.progress.step + 1, "loss": loss}
        slopes = {
            "images": torch.stack([gradient.images for gradient in found]).mean(0),
            "log_alpha": torch.stack([gradient.alpha for gradient in found]).mean(0) * state.alpha,
        }
        if config.soft_labels:
            by_target = torch.stack([gradient.targets for gradient in found]).mean(0)
            (slopes["logits"],) = _through_softmax(state.logits, by_target)
        if not all(bool(torch.isfinite(value).all()) for value in (torch.tensor(loss), *slopes.values())):
            return entry, "nonfinite"
        if loss > _LARGEST_LOSS:
            return entry, "diverged"
        state.apply(slopes)
        state.weights.update(torch.stack(parts).mean(0), state.progress.rate_scale)
        if not state.is_finite():
            return entry, "nonfinite"
        if not _SMALLEST_ALPHA <= float(state.alpha) <= _LARGEST_ALPHA:
            return entry, "diverged"
        entry["alpha"] = float(state.alpha)
        if config.importance.enabled:
            entry["effective_sample_size"] = state.weights.effective_share()
            every = config.validate_every or 20
            if (state.progress.step + 1) % every == 0 or state.progress.step + 1 == config.outer_steps:
                entry["w"] = state.weights.summary()
        return entry, None

    def _segment(self, state: DistillState, generator: torch.Generator) -> tuple[MetaGradient, Tensor]:
        """Match one drawn segment; return the gradients and the terms w^2 d^2 / Z of the loss."""
        config = self.config
        number = int(torch.randint(len(self.experts), (), generator=generator))
        start = int(torch.randint(config.min_start, config.max_start, (), generator=generator))
        begin, target = (theta.to(self.device) for theta in self.experts.segment(number, start, config.expert_epochs))
        plan = draw_plan(
            len(state.images), config.inner_steps, config.batch_size, config.augment, generator, self.device
        )
        kept: list[Tensor] = []

        def end_loss(end: Tensor) -> tuple[Tensor, Tensor]:
            loss, slope, parts = state.weights.matching_loss(end, target, begin)
            kept.append(parts)
            return loss, slope

        unroll = adjoint_gradient if config.gradient == "adjoint" else stored_gradient
        gradient = unroll(self.step, begin, state.images, state.targets(), state.alpha, plan, end_loss)
        return gradient, kept[0]


def _through_softmax(logits: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(torch.softmax(leaf, dim=1), leaf, slope)
