"""Coreset baselines of a distilled set: the same number of real images, drawn at random, by k-means or by herding.

They bound what distillation is worth in accuracy. They are real images and never leave the hospital.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medidistill.errors import ConfigError
from medidistill.seeding import derive_seed

__all__ = ["herding_subset", "kmeans_subset", "random_subset"]


def _members(labels: Tensor, ipc: int, class_names: Sequence[str] | None) -> list[Tensor]:
    """Return the indices of each class's images, refusing an `ipc` that some class cannot fill."""
    if ipc < 1:
        raise ConfigError(f"ipc={ipc}: must be >= 1")
    if labels.ndim != 1 or len(labels) == 0:
        raise ConfigError(f"labels {tuple(labels.shape)}: must be (N,) class indices with N >= 1")
    members = [torch.nonzero(labels == k).flatten() for k in range(int(labels.max()) + 1)]
    for k, rows in enumerate(members):
        if len(rows) < ipc:
            name = class_names[k] if class_names else str(k)
            raise ConfigError(f"ipc={ipc}: class {name} has only {len(rows)} training images; lower ipc or add images")
    return members


def random_subset(
    labels: Tensor, ipc: int, generator: torch.Generator, class_names: Sequence[str] | None = None
) -> Tensor:
    """Draw `ipc` images of each class without replacement.

    Args:
        labels: (N,) int64 class indices.
        ipc: images per class, >= 1.
        generator: decides which.
        class_names: names for the messages.

    Returns:
        (K * ipc,) int64 indices into `labels`, class by class.

    Raises:
        ConfigError: `ipc` is larger than a class, which the message names.
    """
    drawn = [rows[torch.randperm(len(rows), generator=generator)[:ipc]] for rows in _members(labels, ipc, class_names)]
    return torch.cat(drawn)


def kmeans_subset(
    images: Tensor, labels: Tensor, ipc: int, seed: int, class_names: Sequence[str] | None = None
) -> Tensor:
    """Choose `ipc` real images of each class near the centres of a k-means clustering of its pixels.

    Each centre gets its own image: the assignment of distinct images to centres with the smallest sum of
    squared distances. Time and memory: one k-means with `ipc` centres for each class on N_k x (C H W) floats.

    Args:
        images: (N, C, H, W) float, normalised as the network sees them.
        labels: (N,) int64 class indices.
        ipc: images per class, >= 1.
        seed: decides the starting centres.
        class_names: names for the messages.

    Returns:
        (K * ipc,) int64 indices, class by class.

    Raises:
        ConfigError: `ipc` is larger than a class, which the message names.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist
    from sklearn.cluster import KMeans

    chosen = []
    for k, rows in enumerate(_members(labels, ipc, class_names)):
        pixels = images[rows].reshape(len(rows), math.prod(images.shape[1:])).double().cpu().numpy()
        clusters = KMeans(n_clusters=ipc, n_init=4, random_state=derive_seed(seed, "kmeans", k) % 2**32).fit(pixels)
        _, nearest = linear_sum_assignment(cdist(clusters.cluster_centers_, pixels, "sqeuclidean"))
        chosen.append(rows[torch.as_tensor(nearest, device=rows.device)])
    return torch.cat(chosen)


def herding_subset(images: Tensor, labels: Tensor, ipc: int, class_names: Sequence[str] | None = None) -> Tensor:
    """Choose `ipc` real images of each class one by one, so that their mean stays close to the class mean.

    With class mean m, the t-th image is the one, not taken before, that brings the mean of t images nearest to m:

        argmin_i || m - (x_i + sum of the t - 1 before) / t ||

    Source: Welling 2009 (herding), in the greedy form of Rebuffi et al. 2017 (iCaRL), here on pixels, as
    `kmeans_subset`, so that no trained network decides. Nothing is drawn at random. Time: `ipc` passes over each class.

    Args:
        images: (N, C, H, W) float, normalised as the network sees them.
        labels: (N,) int64 class indices.
        ipc: images per class, >= 1.
        class_names: names for the messages.

    Returns:
        (K * ipc,) int64 indices, class by class, in the order in which they were taken.

    Raises:
        ConfigError: `ipc` is larger than a class, which the message names.
    """
    chosen = []
    for rows in _members(labels, ipc, class_names):
        pixels = images[rows].flatten(1).double()
        mean, total = pixels.mean(dim=0), torch.zeros_like(pixels[0])
        free = torch.ones(len(rows), dtype=torch.bool, device=pixels.device)
        for count in range(1, ipc + 1):
            distance = ((pixels + total) / count - mean).norm(dim=1)
            best = distance.masked_fill(~free, math.inf).argmin()
            free[best] = False
            total += pixels[best]
            chosen.append(rows[best])
    return torch.stack(chosen)
