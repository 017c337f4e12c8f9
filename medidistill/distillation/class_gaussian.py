"""Draws of a Gaussian for each class: images with the real images' means and low-frequency covariance, and no more.

With y = D x D^T the amplitudes of an image's orthonormal DCT-II, mu_c their mean over class c, and L the frequencies
u + v < 9, an image of class c is drawn as

    y_L ~ N(mu_c, S_L),        y_k ~ N(mu_c, s_k^2) for all other k,

S_L the covariance of y_L within classes, s_k the standard deviation within classes, both over the images of all
classes: K means, a covariance of 45 amplitudes (for one channel) and one spectrum are all that is read of the images,
once. The Gaussian is the model behind linear discriminant analysis (Fisher 1936). Such draws look like blurred chests;
what each is worth to a student comes from the experts' labels (`distillation/expert_labels.py`).

With groups of m images, mu is the mean of one of the groups that the images of a class are divided into, drawn by its
size, and S and s are taken within groups: a mixture of Gaussians whose means are each over at least m images, as in
microaggregation (Domingo-Ferrer and Mateo-Sanz 2002, IEEE TKDE 14, 189: MDAV, fixed group size, by distance of y_L).
Groups hold images, not patients: one patient's images, being alike, may fill a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.packed_images import dct_matrix

__all__ = ["draw_class_gaussians", "microaggregate"]

_DIAGONALS = 9  # frequencies u + v below it vary together
_FLOOR = 1e-6  # of the covariance's diagonal, relative to its mean: no direction of it is without variance


def microaggregate(points: Tensor, size: int) -> Tensor:
    """Return the group of each point, (N,) int64 from 0: groups of `size` near points, the last of up to 2 size - 1.

    Args:
        points: (N, F), N >= 1.
        size: at least 1; fewer points than two groups' worth are one group.

    Cost:
        N^2 / size distances.
    """
    groups = torch.zeros(len(points), dtype=torch.int64)
    left = torch.arange(len(points))
    number = 0
    while len(left) >= 2 * size:
        inside = points[left]
        farthest = (inside - inside.mean(0)).square().sum(1).argmax()
        away = (inside - inside[farthest]).square().sum(1)
        near = away.argsort(stable=True)[:size]
        groups[left[near]] = number
        kept = torch.ones(len(left), dtype=torch.bool)
        kept[near] = False
        left, number = left[kept], number + 1
    groups[left] = number
    return groups


def draw_class_gaussians(
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    count: int,
    generator: torch.Generator,
    *,
    group_size: int = 0,
) -> Tensor:
    """Return `count` draws of each class, (K * count, C, H, W) float32, class by class.

    Args:
        images: (N, C, H, W) square real images, normalised; every class has at least one.
        labels: (N,) int64.
        num_classes: K.
        count: draws of each class.
        generator: on the CPU, as the images.
        group_size: m, images of a group; 0: each class is one.
    """
    side, channels = images.shape[-1], images.shape[1]
    matrix = dct_matrix(side).float()
    amplitudes = (matrix @ images.float() @ matrix.T).flatten(1)
    place = torch.arange(side)
    low = (place[:, None] + place < _DIAGONALS).flatten().repeat(channels)
    within, centres, number = torch.empty_like(amplitudes), [], 0
    for name in range(num_classes):
        members = amplitudes[labels == name]
        groups = microaggregate(members[:, low], group_size or len(members))
        sizes = torch.bincount(groups).float()
        means = torch.zeros(len(sizes), members.shape[1]).index_add_(0, groups, members) / sizes[:, None]
        within[labels == name] = members - means[groups]
        drawn_groups = torch.multinomial(sizes, count, replacement=True, generator=generator)
        centres.append(means[drawn_groups])
        number += len(sizes)
    freedom = max(1, len(amplitudes) - number)  # a mean takes one: groups are closer to their own means
    covariance = within[:, low].T @ within[:, low] / freedom
    covariance += torch.eye(len(covariance)) * _FLOOR * covariance.diagonal().mean().clamp_min(_FLOOR)
    spread = (within.square().sum(0) / freedom).sqrt()
    drawn = torch.randn(num_classes * count, amplitudes.shape[1], generator=generator) * spread
    white = torch.randn(len(drawn), int(low.sum()), generator=generator)
    drawn[:, low] = white @ torch.linalg.cholesky(covariance).T
    drawn += torch.cat(centres)
    whole: Tensor = matrix.T @ drawn.view(-1, channels, side, side) @ matrix
    return whole
