"""One outer step: sample the objective, and move images, labels, alpha and W together.

Every random number of segment j of outer step k comes from the stream (seed, "outer", k, roll-backs so far, j), so
that a run resumed from any checkpoint draws what the unbroken run drew, two methods with one seed share their
segments, batches and augmentation, and a segment is the same whichever process samples it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.objective import Objective
from medidistill.distillation.problem import DistillStatus
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.state import DistillState
from medidistill.results.history import HistoryEntry
from medidistill.seeding import stream

__all__ = ["OuterStep"]

_LARGEST_LOSS = 1e3  # the matching loss of a student that stays where it started is 1
_SMALLEST_ALPHA, _LARGEST_ALPHA = 1e-8, 10.0


class OuterStep:
    """The update of one outer step.

    Args:
        objective: what is lowered.
        config: how many samples are averaged, and which rates.
        seed: of everything that the objective draws.
        ranks: the processes that share the segments.
    """

    def __init__(self, objective: Objective, config: DistillConfig, seed: int, ranks: Ranks) -> None:
        self.objective, self.config, self.seed, self.ranks = objective, config, seed, ranks

    def __call__(self, state: DistillState) -> tuple[HistoryEntry, DistillStatus | None]:
        """Update `state`; return the history entry, and what went wrong (`NONFINITE`, `DIVERGED`) or None.

        After trouble the state is not to be used: load the last good one.
        """
        config = self.config
        place = ("outer", state.progress.step, state.progress.rollbacks)
        mine = [
            self.objective(state, stream(self.seed, *place, *((segment,) if segment else ())))
            for segment in self.ranks.share(config.segments)
        ]
        found = self.ranks.gather(mine)
        loss = sum(sample.loss for sample in found) / len(found)
        entry: HistoryEntry = {"step": state.progress.step + 1, "loss": loss}
        gradients = {
            "images": torch.stack([sample.images for sample in found]).mean(0),
            "log_alpha": torch.stack([sample.alpha for sample in found]).mean(0) * state.alpha,
        }
        if config.soft_labels:
            by_target = torch.stack([sample.targets for sample in found]).mean(0)
            (gradients["logits"],) = _through_softmax(state.logits, by_target)
        if not all(bool(torch.isfinite(value).all()) for value in (torch.tensor(loss), *gradients.values())):
            return entry, DistillStatus.NONFINITE
        if loss > _LARGEST_LOSS:
            return entry, DistillStatus.DIVERGED
        state.apply(gradients)
        parts = [sample.parts for sample in found if sample.parts is not None]
        if parts:
            state.weights.update(torch.stack(parts).mean(0), state.progress.rate_scale)
        if not state.is_finite():
            return entry, DistillStatus.NONFINITE
        if not _SMALLEST_ALPHA <= float(state.alpha) <= _LARGEST_ALPHA:
            return entry, DistillStatus.DIVERGED
        entry["alpha"] = float(state.alpha)
        if config.importance.enabled:
            entry["effective_sample_size"] = state.weights.effective_share()
            every = config.validate_every or 20
            if (state.progress.step + 1) % every == 0 or state.progress.step + 1 == config.outer_steps:
                entry["w"] = state.weights.summary()
        return entry, None


def _through_softmax(logits: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(torch.softmax(leaf, dim=1), leaf, gradient)
