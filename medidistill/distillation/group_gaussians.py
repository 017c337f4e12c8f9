"""Draws of a Gaussian for each group of alike patients: nearer to the patients than one Gaussian a class.

The patients of a class are divided into groups of k to 2k - 1, and an image of a group, with n_p images of each of its
P patients, is drawn as

    x = m + sum_i sqrt(a_i) z_i (x_i - m),     a_i = 1 / (P n_p(i)),     m = sum_i a_i x_i,     z_i ~ N(0, 1),

the Gaussian of the group's mean and covariance, each patient counting alike, in all frequencies. Groups come from
halving at the median along the axis of largest variance (a k-d tree on principal axes) of the patients' mean
low-frequency amplitudes. Publishing groups of at least k records by their moments is microaggregation (Domingo-Ferrer
and Mateo-Sanz 2002, IEEE TKDE 14, 189). It guarantees no privacy: whoever holds all but one patient of a group can work
out the last one, and every draw is a mixture of its group's images. docs/value.md has what it is worth, and what
attacks find.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medidistill.distillation.class_gaussian import low_frequencies
from medidistill.errors import ConfigError
from medidistill.networks import patient_numbers, patient_weights
from medidistill.packed_images import dct_amplitudes

__all__ = ["alike_groups", "draw_group_gaussians", "require_patients"]


def alike_groups(points: Tensor, patients: Sequence[str], least: int) -> list[Tensor]:
    """Return the images of each group, int64 indices: all of a patient in one, `least` to 2 * `least` - 1 patients.

    Args:
        points: (N, F), alike where images are.
        patients: N identifiers, of at least `least` patients.
        least: k.
    """
    number_of = patient_numbers(patients)
    counts = torch.bincount(number_of)
    means = torch.zeros(len(counts), points.shape[1]).index_add_(0, number_of, points) / counts.unsqueeze(1)
    done: list[Tensor] = []
    open_groups = [torch.arange(len(counts))]
    while open_groups:
        group = open_groups.pop()
        if len(group) < 2 * least:
            done.append(torch.isin(number_of, group).nonzero().flatten())
            continue
        centred = means[group] - means[group].mean(0)
        axis = torch.linalg.svd(centred, full_matrices=False)[2][0]
        order = group[(centred @ axis).argsort(stable=True)]
        open_groups += [order[: len(order) // 2], order[len(order) // 2 :]]
    return done


def require_patients(labels: Tensor, patients: Sequence[str], num_classes: int, least: int) -> None:
    """Refuse to draw from fewer than `least` patients of a class: their mean would show them.

    Args:
        labels: (N,) int64.
        patients: N identifiers.
        num_classes: K.
        least: fewest patients behind a Gaussian.

    Raises:
        ConfigError: a class has fewer.
    """
    for name in range(num_classes):
        found = len({patients[number] for number in (labels == name).nonzero().flatten().tolist()})
        if found < least:
            raise ConfigError(
                f"distill.group_patients={least}: class {name} has {found} patients, and a Gaussian needs {least} for "
                "its mean to show none of them; give more patients or leave the class out, use distill.init=noise, or "
                "lower distill.group_patients"
            )


def draw_group_gaussians(
    images: Tensor,
    labels: Tensor,
    patients: Sequence[str],
    num_classes: int,
    count: int,
    least: int,
    generator: torch.Generator,
) -> Tensor:
    """Return `count` draws of each class, (K * count, C, H, W) float32, class by class, in random order within it.

    Each group has draws in proportion to its patients, rounded up or down by one start drawn for the class.

    Args:
        images: (N, C, H, W) square real images, normalised.
        labels: (N,) int64.
        patients: N identifiers.
        num_classes: K.
        count: draws of each class.
        least: k, patients of a group, >= 2.
        generator: on the CPU, as the images.

    Raises:
        ConfigError: a class has fewer than `least` patients.
    """
    require_patients(labels, patients, num_classes, least)
    side, channels = images.shape[-1], images.shape[1]
    low = low_frequencies(side, channels)
    drawn = []
    for name in range(num_classes):
        members = (labels == name).nonzero().flatten()
        names = [patients[number] for number in members.tolist()]
        groups = alike_groups(dct_amplitudes(images[members]).flatten(1)[:, low], names, least)
        alike = patient_weights(names)  # the images of a patient lie in one group
        sizes = torch.stack([alike[group].sum() for group in groups]).round()
        places = (torch.arange(count) + torch.rand(1, generator=generator)) / count * sizes.sum()
        chosen = torch.searchsorted(sizes.cumsum(0), places).clamp_max(len(groups) - 1)
        of_class = torch.empty(count, images[0].numel())
        for number, group in enumerate(groups):
            wanted = (chosen == number).nonzero().flatten()
            weight = alike[group] / sizes[number]
            inside = images[members[group]].float().flatten(1)
            mean = weight @ inside
            white = torch.randn(len(wanted), len(group), generator=generator)
            of_class[wanted] = mean + (white * weight.sqrt()) @ (inside - mean)
        drawn.append(of_class[torch.randperm(count, generator=generator)])
    return torch.cat(drawn).view(-1, *images.shape[1:])
