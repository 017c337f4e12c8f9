"""Random, k-means and herding subsets of real images."""

from __future__ import annotations

import pytest
import torch

from medidistill.errors import ConfigError
from medidistill.evaluate.selection import herding_subset, kmeans_subset, random_subset
from medidistill.seeding import stream

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 1])


def test_random_subset_draws_ipc_distinct_images_of_each_class():
    chosen = random_subset(LABELS, 3, stream(0, "draw"))
    assert LABELS[chosen].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(chosen.tolist())) == 9


def test_random_subset_depends_on_the_generator_alone():
    draws = [tuple(random_subset(LABELS, 2, stream(seed, "draw")).tolist()) for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def _clouds(per_cloud: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two classes of three well separated clouds; returns images, labels and the cloud of each image."""
    generator = stream(0, "clouds")
    centres = 10 * torch.randn(6, 1, 4, 4, generator=generator)
    cloud = torch.arange(6).repeat_interleave(per_cloud)
    images = centres[cloud] + torch.randn(6 * per_cloud, 1, 4, 4, generator=generator)
    order = torch.randperm(len(cloud), generator=generator)
    return images[order], cloud[order] // 3, cloud[order]


def test_kmeans_takes_the_image_nearest_to_the_mean_of_each_cloud():
    images, labels, cloud = _clouds()
    chosen = kmeans_subset(images, labels, 3, seed=0)
    assert labels[chosen].tolist() == [0, 0, 0, 1, 1, 1]
    for c in range(6):
        rows = torch.nonzero(cloud == c).flatten()
        distance = (images[rows] - images[rows].mean(0)).flatten(1).norm(dim=1)
        assert int(rows[distance.argmin()]) in chosen.tolist()
    assert torch.equal(chosen, kmeans_subset(images, labels, 3, seed=0))


def test_kmeans_images_are_distinct_when_many_are_equal():
    images = torch.zeros(6, 1, 4, 4)
    images[5] = 1
    chosen = kmeans_subset(images, torch.zeros(6, dtype=torch.int64), 2, seed=1)
    assert len(set(chosen.tolist())) == 2
    assert 5 in chosen.tolist()


def test_ipc_beyond_a_class_names_class_and_count():
    names = ["Pneumonia", "Normal", "COVID"]
    with pytest.raises(ConfigError, match="ipc=4: class COVID has only 3 training images"):
        random_subset(LABELS, 4, stream(0, "draw"), names)
    with pytest.raises(ConfigError, match="ipc=4: class 2 has only 3 training images"):
        kmeans_subset(torch.zeros(12, 1, 4, 4), LABELS, 4, seed=0)
    with pytest.raises(ConfigError, match="ipc=0"):
        random_subset(LABELS, 0, stream(0, "draw"))


def test_a_class_without_images_is_not_skipped():
    with pytest.raises(ConfigError, match="class 1 has only 0"):
        random_subset(torch.tensor([0, 0, 2, 2]), 1, stream(0, "draw"))


def test_herding_follows_the_class_mean_step_by_step():
    # one pixel; class 0 has mean 2: first 3 (|3 - 2| = 1 beats the rest), then 0 ((3 + 0) / 2 is nearer than
    # (3 + 5) / 2), then 5 ((3 + 0 + 5) / 3 is nearer than with the second 0)
    values = torch.tensor([0.0, 7.0, 5.0, 3.0, 7.0, 0.0]).view(-1, 1, 1, 1)
    labels = torch.tensor([0, 1, 0, 0, 1, 0])
    assert herding_subset(values, labels, 1).tolist() == [3, 1]
    assert herding_subset(values[[0, 2, 3, 5]], torch.zeros(4, dtype=torch.int64), 3).tolist() == [2, 0, 1]


def test_herding_means_are_nearer_than_random_ones_and_images_are_distinct():
    images, labels, _ = _clouds()
    chosen = herding_subset(images, labels, 6)
    assert labels[chosen].tolist() == [0] * 6 + [1] * 6
    assert len(set(chosen.tolist())) == 12

    def gap(index: torch.Tensor) -> float:
        return sum(
            float((images[index[labels[index] == k]].mean(0) - images[labels == k].mean(0)).norm()) for k in (0, 1)
        )

    assert gap(chosen) < min(gap(random_subset(labels, 6, stream(seed, "draw"))) for seed in range(20))


def test_herding_refuses_what_a_class_cannot_fill():
    with pytest.raises(ConfigError, match="ipc=4: class b has only 3"):
        herding_subset(torch.zeros(7, 1, 2, 2), torch.tensor([0, 0, 0, 0, 1, 1, 1]), 4, ["a", "b"])
