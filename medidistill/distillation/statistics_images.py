"""dp_stats: images optimised from noise until their statistics match a noised release.

The images of each class get its mean feature, and are told apart by the release's linear discriminant:

    L = sum_k || mean_{i of k} psi(x_i) - m_k ||^2 + w CE( t (W psi(x) + b), y ) + r || grad x ||^2

Means alone put the images where a class is; the discriminant puts them on its side of the border, which small classes
and directions with little variance need. Post-processing of `medidistill.distillation.noised_statistics`: no patient is
touched, and making more images costs no privacy. Cost: seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distillation.noised_statistics import FeatureStatistics
from medidistill.distillation.public_features import public_features
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.seeding import stream

__all__ = ["distil_statistics"]

_BORDER, _LOGIT_SCALE, _TV_WEIGHT = 1.0, 2.0, 0.5


def distil_statistics(
    statistics: FeatureStatistics,
    *,
    ipc: int,
    shape: tuple[int, int, int],
    class_names: Sequence[str],
    normalisation: Normalisation,
    network: NetworkConfig,
    training: TrainingConfig,
    seed: int,
    steps: int = 300,
    on_step: Callable[[int, float], None] | None = None,
) -> DistilledSet:
    """Optimise images from noise until they match the released statistics of public features.

    Args:
        statistics: of `medidistill.distillation.public_features` of images of `shape`.
        ipc: images per class.
        shape: (C, H, W).
        class_names: K names.
        normalisation: shipped with the set.
        network: to train from it.
        training: recipe to train from it.
        seed: of the start.
        steps: of Adam.
        on_step: called with the step (from 1) and its loss; may raise to stop.
    """
    classes = len(class_names)
    means, (weight, bias) = statistics.class_means(), statistics.discriminant()
    labels = torch.arange(classes).repeat_interleave(ipc)
    images = 0.2 * torch.randn(classes * ipc, *shape, generator=stream(seed, "dp_stats", "init"))
    images.requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.05)
    for step in range(steps):
        psi = statistics.centred(public_features(_standard(images)))
        distance = (psi.view(classes, ipc, -1).mean(1) - means).square().sum()
        border = F.cross_entropy(_LOGIT_SCALE * (psi @ weight.T + bias), labels)
        # images that only match the filters drift out of what real ones can be: keep them small and smooth
        rough = (images[..., 1:, :] - images[..., :-1, :]).square().mean() + images.diff(dim=-1).square().mean()
        loss = distance + _BORDER * border + _TV_WEIGHT * rough
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    return DistilledSet(
        images=_standard(images.detach()),
        labels=labels,
        alpha=training.lr,
        class_names=tuple(class_names),
        normalisation=normalisation,
        network=network,
        training=training,
        recipe={"method": "dp_stats", "init": "noise", "seed": seed, "steps": steps},
    )


def _standard(images: Tensor) -> Tensor:
    """Return images of mean 0 and deviation 1, as a real one looks to a network."""
    return Normalisation().apply(images)
