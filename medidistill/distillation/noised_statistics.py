"""The release behind dp_stats: noised moments of public features, and the classifier that follows from them.

For small epsilon many noisy steps leave nothing; one release of fixed statistics leaves more. It has two parts, which
share the budget. First the centre c, because X-rays look alike and most of a feature's length tells only that:

    c = sum_p mean over p's images of phi(x), over the number of patients

then, of the features psi(x) = (phi(x) - c) / ||phi(x) - c||, for each patient the mean over their images of

    [ sqrt(a) e_y (x) psi,  sqrt(b) e_y,  sqrt(1 - a - b) psi (x) psi ],   whose length is at most 1.

Both are sums over patients, to which each contributes a vector of L2 norm at most 1, plus Gaussian noise. Gaussian
mechanisms that follow one another, with multipliers s_1 and s_2, are together one with 1 / s^2 = 1 / s_1^2 + 1 / s_2^2,
also where the second one uses what the first one gave (Dong, Roth, Su 2019, arXiv 1905.02383): `noise_multiplier` is
that s. All that is computed from the release is post-processing: class means, shrunk by what noise adds to their
length, and a linear discriminant whose ridge is the size of the noise in the second moments.

Shares, ridge and shrinkage were chosen on grey photographs with the number of classes, patients and images of a
collection of X-rays, not on X-rays.

Source: the release of moments instead of steps: Wang 2018 (AdaSSP, arXiv 1803.02596); of mean embeddings for images:
Harder, Adamczewski, Park 2021 (arXiv 2002.11603); the shrinkage: James and Stein 1961.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.errors import ConfigError
from medidistill.networks import patient_weights

__all__ = ["FeatureStatistics", "noised_statistics"]

# of 1 / sigma^2; what is left is the class means'
_CENTRE, _COUNTS, _SECOND = 0.05, 0.10, 0.10
_MEANS = 1 - _CENTRE - _COUNTS - _SECOND
_SMALLEST_RIDGE, _SHORTEST = 1e-3, 0.1


@dataclass(frozen=True)
class FeatureStatistics:
    """What was released; touches no patient any more.

    Args:
        centre: (D,), c above.
        sums: (K, D), of psi by class, over patients.
        counts: (K,), patients by class; one with images of two classes counts in both by share.
        second: (D, D), symmetric, of psi (x) psi.
        noise_multiplier: sigma of the whole release over sensitivity 1.
    """

    centre: Tensor
    sums: Tensor
    counts: Tensor
    second: Tensor
    noise_multiplier: float

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, to be kept in a file."""
        return {"centre": self.centre, "sums": self.sums, "counts": self.counts, "second": self.second}

    def is_finite(self) -> bool:
        """Whether every number is one."""
        return all(bool(torch.isfinite(part).all()) for part in self.tensors().values())

    def centred(self, features: Tensor) -> Tensor:
        """Return psi (N, D) of features phi (N, D); differentiable."""
        return F.normalize(features - self.centre, dim=1)

    def class_means(self) -> Tensor:
        """Return the mean psi of each class, (K, D), shrunk by the length that the noise is expected to add."""
        counts = self.counts.clamp_min(1.0).unsqueeze(1)
        means = self.sums / counts
        added = means.shape[1] * self.noise_multiplier**2 / _MEANS / counts**2
        return means * (1 - added / means.square().sum(1, keepdim=True)).clamp_min(_SHORTEST)

    def discriminant(self) -> tuple[Tensor, Tensor]:
        """Return weight (K, D) and bias (K,) of a linear discriminant on psi, all classes held to be equally likely."""
        patients = float(self.counts.sum().clamp_min(1.0))
        means, wide = self.class_means(), self.centre.shape[0]
        # the noise's largest eigenvalue is about this: directions below it are not told from noise
        ridge = max(_SMALLEST_RIDGE, self.noise_multiplier * (2 * wide / _SECOND) ** 0.5 / patients)
        values, vectors = torch.linalg.eigh(self.second.double() / patients)
        inverse = ((vectors / (values.clamp_min(0) + ridge)) @ vectors.T).to(means)
        middle = means.mean(0)
        weight = (means - middle) @ inverse
        return weight, -0.5 * ((means + middle) * weight).sum(1)


def noised_statistics(
    features: Tensor,
    labels: Tensor,
    patients: Sequence[str],
    *,
    num_classes: int,
    noise_multiplier: float,
    generator: torch.Generator,
) -> FeatureStatistics:
    """Release the statistics of features that nothing private decided.

    Args:
        features: (N, D), for example `medidistill.distillation.public_features` of the images.
        labels: (N,) int64.
        patients: N identifiers.
        num_classes: K, public.
        noise_multiplier: sigma over sensitivity 1, of the whole release.
        generator: secret, see `medidistill.networks.secret_generator`.

    Raises:
        ConfigError: no noise, or identifiers that do not fit.
    """
    if not noise_multiplier > 0 or len(patients) != len(features):
        raise ConfigError(
            f"dp_stats: noise_multiplier={noise_multiplier}, {len(features)} images, {len(patients)} names of "
            "patients: must be > 0, with one name for each image"
        )
    weights, wide = patient_weights(patients), features.shape[1]

    def noised(total: Tensor, share: float) -> Tensor:
        sigma: float = noise_multiplier / share**0.5
        return total + sigma * torch.randn(total.shape, generator=generator)

    first = noised(_centre_sums(features, weights), _CENTRE) * 2**0.5
    centre = first[:-1] / first[-1].clamp_min(1.0)
    later = noised(_moments(features, centre, labels, weights, num_classes), 1 - _CENTRE)
    sums, counts, second = torch.split(later, [num_classes * wide, num_classes, wide * wide])
    second = second.view(wide, wide) / _part(_SECOND)
    return FeatureStatistics(
        centre=centre,
        sums=sums.view(num_classes, wide) / _part(_MEANS),
        counts=counts / _part(_COUNTS),
        second=(second + second.T) / 2,
        noise_multiplier=noise_multiplier,
    )


def _part(share: float) -> float:
    """Return the factor by which a part of the second vector is scaled: the squares of all add up to 1."""
    return float((share / (1 - _CENTRE)) ** 0.5)


def _centre_sums(features: Tensor, weights: Tensor) -> Tensor:
    """Return the first sum over patients, (D + 1,): [phi, 1] / sqrt(2)."""
    features = features / features.norm(dim=1, keepdim=True).clamp_min(1.0)
    return torch.cat([weights @ features, weights.sum().view(1)]) / 2**0.5


def _moments(features: Tensor, centre: Tensor, labels: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """Return the second sum over patients, (K D + K + D D,)."""
    psi = F.normalize(features - centre, dim=1)
    of_class = F.one_hot(labels, num_classes).to(psi) * weights.unsqueeze(1)
    parts = ((of_class.T @ psi, _MEANS), (of_class.sum(0), _COUNTS), ((psi * weights.unsqueeze(1)).T @ psi, _SECOND))
    return torch.cat([_part(share) * part.flatten() for part, share in parts])
