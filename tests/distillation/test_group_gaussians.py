"""Draws of Gaussians of patient groups: who is in a group, the moments of its draws, and what is refused."""

from __future__ import annotations

import pytest
import torch

from medidistill.config import DistillConfig
from medidistill.distillation.group_gaussians import alike_groups, draw_group_gaussians
from medidistill.distillation.state import initial_images
from medidistill.errors import ConfigError
from medidistill.seeding import stream

from .feature_example import IMAGES, LABELS
from .test_class_gaussian import SIDE, smooth


def test_groups_keep_patients_whole_and_hold_between_k_and_twice_k() -> None:
    points = torch.randn(70, 5, generator=stream(0, "points"))
    patients = [f"PHANTOM^{number % 31}" for number in range(70)]
    groups = alike_groups(points, patients, 4)
    assert torch.equal(torch.cat(groups).sort().values, torch.arange(70))
    held = [{patients[number] for number in group.tolist()} for group in groups]
    assert sum(map(len, held)) == 31
    assert all(4 <= len(group) < 8 for group in held)
    assert len(alike_groups(points, patients, 16)) == 1


def test_groups_are_of_alike_patients() -> None:
    points = torch.cat([torch.randn(8, 3, generator=stream(0, "near")), torch.full((8, 3), 40.0)])
    order = torch.randperm(16, generator=stream(0, "order"))
    groups = alike_groups(points[order], [str(number) for number in range(16)], 8)
    assert {frozenset(order[group].tolist()) for group in groups} == {frozenset(range(8)), frozenset(range(8, 16))}


def test_draws_of_a_group_have_its_moments_with_each_patient_counted_alike() -> None:
    images = smooth(6)
    patients = ["a", "a", "a", "b", "c", "d"]
    drawn = draw_group_gaussians(images, torch.zeros(6, dtype=torch.long), patients, 1, 40_000, 3, stream(0, "draw"))
    assert drawn.shape == (40_000, 1, SIDE, SIDE)
    weight = torch.tensor([1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 4, 1 / 4]).view(-1, 1)
    flat, found = images.flatten(1), drawn.flatten(1)
    mean = (weight * flat).sum(0)
    covariance = (weight * (flat - mean)).T @ (flat - mean)
    torch.testing.assert_close(found.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(found.T, correction=0), covariance, atol=0.06, rtol=0.05)


def test_each_group_has_draws_by_its_patients_and_a_class_by_its_own() -> None:
    images = torch.zeros(30, 1, SIDE, SIDE)
    images[:, 0] += torch.cat([torch.zeros(5), torch.ones(5), torch.full((20,), 9.0)]).view(-1, 1, 1)
    labels = (torch.arange(30) >= 10).long()
    names = [str(number) for number in range(30)]
    drawn = draw_group_gaussians(images, labels, names, 2, 7, 5, stream(0, "draw")).mean((1, 2, 3))
    assert drawn[7:].tolist() == [9.0] * 7
    assert sorted(drawn[:7].tolist()) in ([0.0] * 3 + [1.0] * 4, [0.0] * 4 + [1.0] * 3)


def test_a_class_of_too_few_patients_and_missing_patients_are_refused() -> None:
    config = DistillConfig(ipc=1, init="mixture", group_patients=5)
    few = [f"PHANTOM^{number}" if label else f"PHANTOM^{number % 8}" for number, label in enumerate(LABELS.tolist())]
    with pytest.raises(ConfigError, match=r"group_patients=5: class 0 has 4 patients, and a Gaussian needs 5 "):
        initial_images(config, (1, SIDE, SIDE), 2, (IMAGES, LABELS), 0, few)
    with pytest.raises(ConfigError, match="init='mixture' needs the patient of each real image"):
        initial_images(config, (1, SIDE, SIDE), 2, (IMAGES, LABELS), 0)
