from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distillation.noised_statistics import (
    _COUNTS,
    _MEANS,
    _SECOND,
    FeatureStatistics,
    _centre_sums,
    _moments,
    _part,
    noised_statistics,
)
from medidistill.distillation.public_features import features_of, public_features
from medidistill.distillation.statistics_images import distil_statistics
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError
from medidistill.networks import patient_weights, predict, train_on_distilled


def striped(count: int, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    labels = torch.arange(count) % 2
    waves = torch.stack([torch.sin(phase * 0.9) for phase in (rows, columns)])[labels].unsqueeze(1)
    noise = 0.3 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    return Normalisation().apply(waves + noise), labels, [f"p{i // 2}" for i in range(count)]


def statistics(images: Tensor, labels: Tensor, patients: list[str], sigma: float, seed: int = 0) -> FeatureStatistics:
    generator = torch.Generator().manual_seed(seed)
    features = features_of(images)
    return noised_statistics(features, labels, patients, num_classes=2, noise_multiplier=sigma, generator=generator)


def test_one_patient_more_moves_either_sum_by_at_most_one() -> None:
    images, labels, patients = striped(12, 0)
    patients = ["many"] * 6 + patients[6:11] + ["alone"]  # all but the last have images of both classes
    features, centre = 3.0 * features_of(images), torch.linspace(-0.2, 0.2, 144)

    def sums(rows: list[int]) -> tuple[Tensor, Tensor]:
        weights = patient_weights([patients[i] for i in rows])
        return _centre_sums(features[rows], weights), _moments(features[rows], centre, labels[rows], weights, 2)

    whole = sums(list(range(12)))
    for leaving in dict.fromkeys(patients):
        less = sums([i for i, name in enumerate(patients) if name != leaving])
        first, second = (float((a - b).norm()) for a, b in zip(whole, less, strict=True))
        assert 0.5 < first <= 1.0 + 1e-5
        assert 0.5 < second <= 1.0 + 1e-5
    # whose images are of one class has a vector of length 1: nothing of the budget is lost
    assert second == pytest.approx(1.0, abs=0.02)


def test_both_releases_together_spend_what_one_would() -> None:
    """Gaussian mechanisms compose by 1 / sigma squared, so that the two parts must add up to the whole's."""
    generator, people, sigma = torch.Generator().manual_seed(0), 4000, 5.0
    features = torch.nn.functional.normalize(torch.randn(people, 8, generator=generator), dim=1)
    labels, patients = torch.arange(people) % 2, [str(i) for i in range(people)]
    made = [
        noised_statistics(features, labels, patients, num_classes=2, noise_multiplier=sigma, generator=generator)
        for _ in range(200)
    ]
    of_centre = float(torch.stack([one.centre for one in made]).std(0).mean()) * people / 2**0.5
    of_counts = float(torch.stack([one.counts for one in made]).std(0).mean()) * _part(_COUNTS)
    assert 1 / of_centre**2 + 1 / of_counts**2 == pytest.approx(1 / sigma**2, rel=0.1)
    assert sum(_part(share) ** 2 for share in (_COUNTS, _MEANS, _SECOND)) == pytest.approx(1.0)
    # each part of the second sum carries the same noise before it is scaled back
    of_sums = float(torch.stack([one.sums[0] - one.sums[1] for one in made]).std(0).mean()) * _part(_MEANS)
    off = torch.stack([one.second[0, 1:] for one in made]).std(0).mean() * _part(_SECOND)
    assert of_sums == pytest.approx(2**0.5 * of_counts, rel=0.1)
    assert float(off) == pytest.approx(of_counts / 2**0.5, rel=0.1)  # the mean of two


def test_noise_is_needed_and_so_is_a_name_for_each_image() -> None:
    images, labels, patients = striped(12, 0)
    with pytest.raises(ConfigError, match="must be > 0"):
        statistics(images, labels, patients, 0.0)
    with pytest.raises(ConfigError, match="12 images, 11 names"):
        statistics(images, labels, patients[1:], 1.0)


def test_the_discriminant_finds_what_means_alone_miss() -> None:
    """The classes differ a little along one direction, both vary much along another that leans on it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4000) % 2
    wide = torch.randn(4000, generator=generator)
    narrow = 0.1 * torch.randn(4000, generator=generator) + 0.3 * wide + 0.2 * (labels * 2 - 1)
    features = torch.stack([wide, narrow, 0.1 * torch.randn(4000, generator=generator) + 3.0], dim=1) / 6
    patients = [str(i) for i in range(4000)]

    def right(sigma: float) -> tuple[float, float]:
        found = noised_statistics(
            features, labels, patients, num_classes=2, noise_multiplier=sigma, generator=generator
        )
        weight, bias = found.discriminant()
        psi, means = found.centred(features), found.class_means()
        chosen = (psi @ weight.T + bias).argmax(1), torch.cdist(psi, means).argmin(1)
        return tuple(float((one == labels).double().mean()) for one in chosen)  # type: ignore[return-value]

    discriminant, nearest = right(1e-9)
    assert discriminant > 0.95
    assert nearest < 0.85
    assert right(2.0)[0] > 0.85


def test_images_that_match_the_statistics_teach_the_classes() -> None:
    images, labels, patients = striped(200, 0)
    made = distil_statistics(
        statistics(images, labels, patients, 1.0),
        ipc=3,
        shape=(1, 16, 16),
        class_names=("rows", "columns"),
        normalisation=Normalisation(),
        network=NetworkConfig(width=8, depth=1),
        training=TrainingConfig(steps=80, batch_size=6, lr=0.05),
        seed=0,
        steps=100,
    )
    assert made.recipe["init"] == "noise"
    fresh, truth, _ = striped(100, 1)
    assert float((predict(train_on_distilled(made), fresh).argmax(1) == truth).float().mean()) > 0.8


def test_public_features_are_blind_to_contrast_and_see_directions() -> None:
    images, labels, _ = striped(40, 0)
    features = public_features(images)
    assert features.shape == (40, 144)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(40))
    rows, columns = (features[labels == k].mean(0) for k in (0, 1))
    nearest = (features @ rows < features @ columns).long()
    assert torch.equal(nearest, labels)
    # a quarter turn exchanges the classes
    turned = public_features(torch.rot90(images, 1, (2, 3)))
    assert torch.equal((turned @ rows < turned @ columns).long(), 1 - labels)


def test_noise_makes_the_class_means_no_longer() -> None:
    generator = torch.Generator().manual_seed(0)
    means = 0.3 * torch.nn.functional.normalize(torch.randn(2, 200, generator=generator), dim=1)

    def released(sigma: float) -> FeatureStatistics:
        sums = 100 * means + 3.0 * torch.randn(means.shape, generator=generator)
        return FeatureStatistics(torch.zeros(200), sums, torch.full((2,), 100.0), torch.eye(200), sigma)

    sigma = 3.0 * _MEANS**0.5
    shrunk = [released(sigma).class_means() for _ in range(50)]
    raw = [released(1e-9).class_means() for _ in range(50)]
    # 200 coordinates with noise 0.03 each add 0.18 to the squared length of 0.09
    assert float(torch.stack([one.norm(dim=1) for one in raw]).mean()) == pytest.approx(0.27**0.5, rel=0.05)
    assert float(torch.stack([one.norm(dim=1) for one in shrunk]).mean()) == pytest.approx(0.09 / 0.27**0.5, rel=0.1)
    along = torch.stack([(one * means).sum(1) / 0.09 for one in shrunk]).mean()
    assert float(along) == pytest.approx(0.09 / 0.27, rel=0.1)
