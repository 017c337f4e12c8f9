"""Where W may begin: how much each parameter matters to the predictions.

Matching weighs every parameter alike, and a network does not: a change d of theta changes its predictions by
KL = d^T F d / 2 to second order, F the Fisher information. With

    w_j^2 proportional to F_jj,        F_jj = mean over images (d log p(y | x) / d theta_j)^2,

the matching loss is that divergence on its diagonal: two networks are near when their predictions nearly agree. Such
weights hold old parameters in continual learning (Kirkpatrick et al. 2017, arXiv 1612.00796); on a student's distance
to an expert they are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medidistill.distillation.trajectory import Experts
from medidistill.networks import ParameterLayout, loss_function

__all__ = ["fisher_information", "mean_diagonal_fisher"]

_SNAPSHOTS, _IMAGES, _AT_ONCE = 16, 64, 16


def fisher_information(network: nn.Module, theta: Tensor, images: Tensor, targets: Tensor) -> Tensor:
    """Return the diagonal of the empirical Fisher information: mean_n (d log p(y_n | x_n) / d theta)^2.

    Args:
        network: gives the architecture.
        theta: (P,) parameters.
        images: (N, C, H, W), normalised.
        targets: (N, K) probabilities.

    Returns:
        (P,) float64, on the CPU.
    """
    gradient = torch.func.grad(loss_function(network))
    each = torch.func.vmap(lambda x, y: gradient(theta, x[None], y[None]))
    total = torch.zeros(len(theta), dtype=torch.float64)
    for x, y in zip(torch.split(images, _AT_ONCE), torch.split(targets, _AT_ONCE), strict=True):
        total += each(x, y).double().square().sum(0).cpu()
    return total / len(images)


def mean_diagonal_fisher(
    experts: Experts,
    network: nn.Module,
    epochs: range,
    real: tuple[Tensor, Tensor],
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Return the mean Fisher information of 16 drawn snapshots of a pool, each on 64 drawn images.

    Args:
        experts: the pool.
        network: of its architecture, on `device`.
        epochs: snapshots that may be drawn.
        real: normalised training images (N, C, H, W) and labels (N,) int64.
        generator: draws snapshots and images.
        device: where to compute.

    Returns:
        (P,) float64.
    """
    images, labels = real
    total = torch.zeros(len(ParameterLayout.of(network)), dtype=torch.float64)
    for _ in range(_SNAPSHOTS):
        number = int(torch.randint(len(experts), (), generator=generator))
        epoch = epochs[int(torch.randint(len(epochs), (), generator=generator))]
        chosen = torch.randperm(len(images), generator=generator)[:_IMAGES].to(images.device)
        targets = F.one_hot(labels[chosen], experts.architecture.num_classes).to(images.dtype)
        theta = experts.members[number].snapshot(epoch).to(device)
        total += fisher_information(network, theta, images[chosen].to(device), targets.to(device))
    return total / _SNAPSHOTS
