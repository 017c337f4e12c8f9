"""Importance weights on the features that snapshot matching compares: the idea of W, where the accuracy comes from.

At a snapshot with class means mu(c) of the real features, m(c) those of the distilled set, and within-class variances
v_f averaged over classes,

    L_mean = mean_c sum_f w_f^2 (m_f(c) - mu_f(c))^2 / D_w,    D_w = mean_c sum_f w_f^2 (mu_f(c) - mean_c' mu_f(c'))^2

so that no weights can lower the loss by their scale alone. At every snapshot mean(w^2) = 1 with w in [w_min, w_max].

`inverse_variance`: frozen, w_f^2 proportional to 1 / (v_f + floor * mean(v)): a feature counts as far as it is steady.

`fisher_ratio`: frozen, w_f^2 proportional to b_f / (v_f + floor * mean(v)), with b_f the variance of mu_f over classes:
a feature counts as far as it tells classes apart, the ratio of Fisher's linear discriminant.

`ascend` and `descend`: learned at each visit of a snapshot from g_f = mean_c (m_f(c) - mu_f(c))^2. log w_f moves by
+-lr (w_f^2 g_f / mean(w^2 g) - 1), towards features that are hard to match, or away from them.

`feature_shuffle` lets every weight act on another feature, by one permutation a snapshot: a control that has the spread
of the weights and not their places. Learned weights then follow the gaps of the features that they belong to.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.importance import with_unit_mean_square
from medidistill.distillation.snapshots import ClassStatistics, SnapshotMatching
from medidistill.seeding import stream

__all__ = ["FeatureWeights", "WeightedSnapshotMatching"]

_LARGEST_STEP = 1.0  # |change of log w| at one visit
_TINY = torch.finfo(torch.float64).tiny


class FeatureWeights:
    """log w of every feature at every snapshot.

    Args:
        config: feature_weights, feature_lr, feature_floor, feature_shuffle, and the importance's w_min and w_max.
        snapshots: how many there are.
        features: F.
        seed: of the permutations, streams (seed, "feature", snapshot).
    """

    def __init__(self, config: DistillConfig, snapshots: int, features: int, seed: int) -> None:
        self.config = config
        self.log_w = torch.zeros(snapshots, features, dtype=torch.float64)
        self.places = [
            torch.randperm(features, generator=stream(seed, "feature", snapshot))
            if config.feature_shuffle
            else torch.arange(features)
            for snapshot in range(snapshots)
        ]

    @property
    def learns(self) -> bool:
        """Whether the weights change while images are distilled."""
        return self.config.feature_weights in ("ascend", "descend")

    def square(self, snapshot: int, real: ClassStatistics) -> Tensor:
        """Return w^2 of the features that they act on at a snapshot, (F,) of the statistics' dtype and device."""
        if not self.learns:
            self.log_w[snapshot] = self._project(self._frozen(real))
        acting = torch.exp(2 * self.log_w[snapshot])[self.places[snapshot]]
        return acting.to(real.mean)

    def learn(self, snapshot: int, gaps: Tensor) -> None:
        """Move the weights of a snapshot; nothing where they are frozen.

        Args:
            snapshot: the one that was visited.
            gaps: (F,) squared distances of the class means, averaged over classes, unweighted.
        """
        if not self.learns:
            return
        log_w = self.log_w[snapshot]
        parts = torch.exp(2 * log_w) * gaps.double().cpu()
        step = parts / parts.mean().clamp_min(_TINY) - 1
        sign = 1.0 if self.config.feature_weights == "ascend" else -1.0
        moved = log_w + (sign * self.config.feature_lr * step).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        self.log_w[snapshot] = self._project(moved)

    def _frozen(self, real: ClassStatistics) -> Tensor:
        mean, within = real.mean.double().cpu(), real.deviation.double().cpu().square().mean(0)
        square = 1 / (within + self.config.feature_floor * within.mean())
        if self.config.feature_weights == "fisher_ratio":
            square = square * mean.var(0, correction=0)
        return 0.5 * square.clamp_min(_TINY).log()

    def _project(self, log_w: Tensor) -> Tensor:
        bounds = self.config.importance
        return with_unit_mean_square(log_w, torch.full_like(log_w, 1 / len(log_w)), bounds.w_min, bounds.w_max)


class WeightedSnapshotMatching(SnapshotMatching):
    """Snapshot matching with weights on features."""

    @functools.cached_property
    def weights(self) -> FeatureWeights:
        """The weights of all snapshots."""
        features = self.statistics(0, self.epochs[0]).mean.shape[1]
        return FeatureWeights(self.config, len(self.experts) * len(self.epochs), features, self.seed)

    def _gradient_at(
        self,
        snapshot: tuple[int, int],
        images: Tensor,
        theta: Tensor,
        later: Tensor,
        real: ClassStatistics,
        targets: Tensor,
    ) -> tuple[Tensor, Tensor]:
        expert, epoch = snapshot
        row = expert * len(self.epochs) + self.epochs.index(epoch)
        square = self.weights.square(row, real)
        scale = (square * (real.mean - real.mean.mean(0)).square()).sum(1).mean()
        inverse = 1 / scale.clamp_min(torch.finfo(scale.dtype).tiny)
        gradient, loss, gaps = self.gradient(images, theta, later, real.mean, real.deviation, inverse, targets, square)
        self.weights.learn(row, gaps)
        return gradient, loss

    @property
    def learns(self) -> bool:
        """Whether the weights change while images are distilled."""
        return self.weights.learns

    def save(self) -> dict[str, Tensor]:
        """Return a copy of log w."""
        return {"feature_log_w": self.weights.log_w.clone()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `save` returned."""
        self.weights.log_w.copy_(tensors["feature_log_w"])
