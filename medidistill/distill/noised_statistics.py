"""dp_stats: one noised release of feature means, and images that reproduce it.

For small epsilon many noisy steps leave nothing; one release of a fixed statistic leaves more. Every patient p gives

    v_p = clip_1( mean over his images of  e_y (x) [ phi(x) / sqrt(2), 1 / sqrt(2) ] ),   ||phi(x)|| <= 1,

and what leaves is  S = sum_p v_p + sigma N(0, I): the Gaussian mechanism with sensitivity 1 for adding or removing one
patient. Class means S_k / count_k follow from S, shrunk by what the noise adds to their length, and images are learned
from noise until their mean features match: both are post-processing. phi is public, see
`medidistill.distill.public_features`.

Cost: one pass over the images, then seconds. Source: the mean embedding release of Harder, Adamczewski, Park 2021
(arXiv 2002.11603), with other features; the shrinkage is James and Stein's (1961).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distill.public_features import public_features
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError
from medidistill.seeding import stream

__all__ = ["distil_statistics", "noised_statistics"]


def noised_statistics(
    images: Tensor,
    labels: Tensor,
    patients: Sequence[str],
    *,
    num_classes: int,
    noise_multiplier: float,
    generator: torch.Generator,
) -> Tensor:
    """Return S, (num_classes, D + 1): noised sums of features and counts by class.

    Args:
        images: (N, C, H, W) normalised without statistics of the data set.
        labels: (N,) int64.
        patients: N identifiers.
        num_classes: K, public.
        noise_multiplier: sigma over sensitivity 1.
        generator: secret, see `medidistill.networks.secret_generator`.

    Raises:
        ConfigError: no noise, or identifiers that do not fit.
    """
    if not noise_multiplier > 0 or len(patients) != len(images):
        raise ConfigError(
            f"dp_stats: noise_multiplier={noise_multiplier}, {len(images)} images, {len(patients)} names of patients: "
            "must be > 0, with one name for each image"
        )
    with torch.no_grad():
        features = torch.cat([public_features(part) for part in torch.split(images, 256)])
        features = torch.cat([features, torch.ones(len(features), 1)], dim=1) / 2**0.5
        number = {name: i for i, name in enumerate(dict.fromkeys(patients))}
        owner = torch.tensor([number[name] for name in patients])
        vectors = torch.zeros(len(number), num_classes, features.shape[1])
        vectors.index_put_((owner, labels), features, accumulate=True)
        vectors = vectors.flatten(1) / torch.bincount(owner).view(-1, 1)
        vectors /= vectors.norm(dim=1, keepdim=True).clamp_min(1.0)
        total = vectors.sum(dim=0)
        noised: Tensor = total + noise_multiplier * torch.randn(total.shape, generator=generator)
    return noised.view(num_classes, -1)


def distil_statistics(
    statistics: Tensor,
    *,
    noise_multiplier: float,
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
    """Optimise images from noise until the mean features of each class are those released; touches no patient.

    Args:
        statistics: from `noised_statistics`.
        noise_multiplier: with which they were released.
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
    target = _class_means(statistics, noise_multiplier)
    images = 0.2 * torch.randn(classes * ipc, *shape, generator=stream(seed, "dp_stats", "init"))
    images.requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.05)
    for step in range(steps):
        means = public_features(_standard(images)).view(classes, ipc, -1).mean(1)
        # images that only match the filters drift out of what real ones can be: keep them small and smooth
        rough = (images[..., 1:, :] - images[..., :-1, :]).square().mean() + images.diff(dim=-1).square().mean()
        loss = (means - target).square().sum() + 0.02 * rough
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    return DistilledSet(
        images=_standard(images.detach()),
        labels=torch.arange(classes).repeat_interleave(ipc),
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


def _class_means(statistics: Tensor, noise_multiplier: float) -> Tensor:
    """Return the mean feature of each class, (K, D), shorter by what the noise is expected to add."""
    counts = statistics[:, -1:].clamp_min(1.0)
    means = statistics[:, :-1] / counts
    added = means.shape[1] * (noise_multiplier / counts) ** 2
    return means * (1 - added / means.square().sum(1, keepdim=True)).clamp_min(0.1)
