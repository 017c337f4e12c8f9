"""Draws of a Gaussian for each class: images with the real images' means and low-frequency covariance, and no more.

With y = D x D^T the amplitudes of an image's orthonormal DCT-II, mu_c their mean over class c, and L the frequencies
u + v < 9, an image of class c is drawn as

    y_L ~ N(mu_c, S_L),        y_k ~ N(mu_c, s_k^2) for all other k,

S_L the covariance of y_L within classes, s_k the standard deviation within classes, both over the images of all
classes: K means, a covariance of 45 amplitudes (for one channel) and one spectrum are all that is read of the images,
once. The Gaussian is the model behind linear discriminant analysis (Fisher 1936). Such draws look like blurred chests;
what each is worth to a student comes from the experts' labels (`distillation/expert_labels.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.packed_images import dct_amplitudes, dct_matrix

__all__ = ["draw_class_gaussians", "low_frequencies"]

_DIAGONALS = 9  # frequencies u + v below it vary together
_FLOOR = 1e-6  # of the covariance's diagonal, relative to its mean: no direction of it is without variance


def draw_class_gaussians(
    images: Tensor, labels: Tensor, num_classes: int, count: int, generator: torch.Generator
) -> Tensor:
    """Return `count` draws of each class, (K * count, C, H, W) float32, class by class.

    Args:
        images: (N, C, H, W) square real images, normalised. The mean of a class with few patients shows these patients:
            the caller checks how many there are, see `require_patients`.
        labels: (N,) int64.
        num_classes: K.
        count: draws of each class.
        generator: on the CPU, as the images.
    """
    side, channels = images.shape[-1], images.shape[1]
    matrix, low = dct_matrix(side).float(), low_frequencies(side, channels)
    amplitudes = dct_amplitudes(images).flatten(1)
    means = torch.stack([amplitudes[labels == name].mean(0) for name in range(num_classes)])
    within = amplitudes - means[labels]
    covariance = within[:, low].T @ within[:, low] / len(within)
    covariance += torch.eye(len(covariance)) * _FLOOR * covariance.diagonal().mean().clamp_min(_FLOOR)
    drawn = torch.randn(num_classes * count, amplitudes.shape[1], generator=generator) * within.square().mean(0).sqrt()
    white = torch.randn(len(drawn), int(low.sum()), generator=generator)
    drawn[:, low] = white @ _square_root(covariance).T
    drawn += means.repeat_interleave(count, dim=0)
    whole: Tensor = matrix.T @ drawn.view(-1, channels, side, side) @ matrix
    return whole


def _square_root(covariance: Tensor) -> Tensor:
    """Return R with R R^T = `covariance`, (F, F) float32.

    The Cholesky factor, or where rounding leaves none, as for three equal channels, the factor by eigenvectors.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        values, vectors = torch.linalg.eigh(covariance.double())
        factor = (vectors * values.clamp_min(0).sqrt()).float()
    return factor


def low_frequencies(side: int, channels: int) -> Tensor:
    """Return which amplitudes, (C * side * side,), are of frequencies u + v < 9."""
    place = torch.arange(side)
    return (place[:, None] + place < _DIAGONALS).flatten().repeat(channels)
