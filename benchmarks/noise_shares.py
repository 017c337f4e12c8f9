"""Definitions of `benchmarks.matching_limits`: which part of a squared distance is the order of the training images.

A student is compared with a target t = mu + n, where mu is what training from the start gives on average over orders of
the images and n, E n = 0, is the draw. For a student's end e that does not depend on the order,

    E (e_j - t_j)^2 = b_j^2 + v_j,        b = e - mu,  v_j = Var n_j

v_j stays whatever is distilled. `noise share` is sum v / sum (b^2 + v).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = [
    "Residual",
    "by_tensor",
    "coverage_share",
    "left_over",
    "left_over_at_best_length",
    "rank_correlation",
    "residual",
    "total_variance",
]


def total_variance(ends: Tensor) -> float:
    """Return the variance summed over parameters, without bias, of independent ends (R, P)."""
    return float(ends.double().var(0, correction=1).sum())


def left_over(begin: Tensor, target: Tensor, end: Tensor) -> float:
    """Return ||end - target||^2 / ||begin - target||^2, the matching loss."""
    return float((end - target).double().square().sum() / (begin - target).double().square().sum())


def left_over_at_best_length(begin: Tensor, target: Tensor, end: Tensor) -> float:
    """Return the smallest matching loss on the line through begin and end: 1 - cos^2 of the two movements."""
    ours, wanted = (end - begin).double(), (target - begin).double()
    return 1 - float((ours @ wanted).square() / (ours.square().sum() * wanted.square().sum()))


class Residual:
    """Squared residuals of students' ends, and the part of them that is noise, summed over segments.

    Args:
        square: (P,) float64, mean over targets of d^2 / Z, summed over segments.
        noise: (P,) float64, the variance of targets over Z, summed over the same.
        segments: how many were summed.
    """

    def __init__(self, square: Tensor, noise: Tensor, segments: int = 1) -> None:
        self.square, self.noise, self.segments = square, noise, segments

    def __add__(self, other: Residual) -> Residual:
        return Residual(self.square + other.square, self.noise + other.noise, self.segments + other.segments)

    @property
    def loss(self) -> float:
        """Mean matching loss."""
        return float(self.square.sum()) / self.segments

    @property
    def share(self) -> float:
        """The noise share of the matching loss at w = 1."""
        return float(self.noise.sum() / self.square.sum())


def residual(begin: Tensor, targets: Tensor, end: Tensor) -> Residual:
    """Return the residual of one segment.

    Args:
        begin: theta_i, (P,).
        targets: (R, P) independent draws of the target, R >= 2.
        end: theta_J, (P,), the same whatever the targets.
    """
    movement = (targets - begin).double().square().sum(1).mean()
    square = (end - targets).double().square().mean(0) / movement
    return Residual(square, targets.double().var(0, correction=1) / movement)


def coverage_share(chosen_on: Residual, scored_on: Residual, keep: float, group: Tensor | None = None) -> float:
    """Return the noise share of the parameters with the lowest one, which together hold `keep` of the loss.

    No weights in [0, 1] that keep this much of the loss have a lower share on `chosen_on`: by ratio, the best ones are
    0 or 1 with a threshold on v_j / d_j^2 (a fractional knapsack). Scored on other segments it is what a choice made
    beforehand gives.

    Args:
        chosen_on: residuals that rank the parameters.
        scored_on: residuals whose share is returned; `chosen_on` itself: the best in hindsight.
        keep: share of the loss on `chosen_on`, in (0, 1].
        group: (P,) int64 group of each parameter, which is kept or left out as a whole; None: single parameters.
    """
    places = torch.arange(len(chosen_on.square)) if group is None else group
    count = int(places.max()) + 1

    def grouped(values: Tensor) -> Tensor:
        return torch.zeros(count, dtype=torch.float64).index_add_(0, places, values)

    square, noise = grouped(chosen_on.square), grouped(chosen_on.noise)
    order = (noise / square.clamp_min(1e-300)).argsort()
    before = square[order].cumsum(0) - square[order]
    left = keep * square.sum() - before  # what is still to be kept when a group's turn comes
    taken = (left / square[order].clamp_min(1e-300)).clamp(0, 1)
    found = {name: grouped(values)[order] for name, values in (("d", scored_on.square), ("v", scored_on.noise))}
    return float((taken * found["v"]).sum() / (taken * found["d"]).sum())


def rank_correlation(one: Residual, other: Residual) -> float:
    """Return Spearman's correlation of v / d^2 of single parameters between two halves of the segments."""
    ranks = [(part.noise / part.square.clamp_min(1e-300)).argsort().argsort().double() for part in (one, other)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def by_tensor(found: Residual, places: Mapping[str, slice]) -> list[dict[str, float | str]]:
    """Return the size, share of the loss and noise share of every tensor."""
    return [
        {
            "tensor": name,
            "parameters": place.stop - place.start,
            "of_loss": float(found.square[place].sum() / found.square.sum()),
            "noise_share": float(found.noise[place].sum() / found.square[place].sum().clamp_min(1e-300)),
        }
        for name, place in places.items()
    ]
