from __future__ import annotations

import pytest
import torch

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distill.noised_statistics import _class_means, distil_statistics, noised_statistics
from medidistill.distill.public_features import public_features
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError
from medidistill.networks import predict, train_on_distilled


def striped(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    labels = torch.arange(count) % 2
    waves = torch.stack([torch.sin(phase * 0.9) for phase in (rows, columns)])[labels].unsqueeze(1)
    noise = 0.3 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    return Normalisation().apply(waves + noise), labels, [f"p{i // 2}" for i in range(count)]


def statistics(
    images: torch.Tensor, labels: torch.Tensor, patients: list[str], sigma: float, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return noised_statistics(images, labels, patients, num_classes=2, noise_multiplier=sigma, generator=generator)


def test_one_patient_more_moves_the_sum_by_at_most_one() -> None:
    images, labels, patients = striped(12, 0)
    patients = ["many"] * 6 + patients[6:]
    whole = statistics(images, labels, patients, 1e-9)
    for leaving in dict.fromkeys(patients):
        kept = [i for i, name in enumerate(patients) if name != leaving]
        less = statistics(images[kept], labels[kept], [patients[i] for i in kept], 1e-9)
        assert 0.1 < float((whole - less).norm()) <= 1.0 + 1e-5


def test_the_noise_has_the_promised_size_and_is_needed() -> None:
    images, labels, patients = striped(12, 0)
    difference = statistics(images, labels, patients, 5.0) - statistics(images, labels, patients, 1e-9)
    assert float(difference.std()) == pytest.approx(5.0, rel=0.1)
    with pytest.raises(ConfigError, match="must be > 0"):
        statistics(images, labels, patients, 0.0)


def test_images_that_match_the_statistics_teach_the_classes() -> None:
    images, labels, patients = striped(200, 0)
    made = distil_statistics(
        statistics(images, labels, patients, 1.0),
        noise_multiplier=1.0,
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
    clean = 100 * torch.cat([means, torch.ones(2, 1)], dim=1)
    released = [clean + 3.0 * torch.randn(clean.shape, generator=generator) for _ in range(50)]
    shrunk = torch.stack([_class_means(one, 3.0).norm(dim=1) for one in released]).mean()
    raw = torch.stack([_class_means(one, 1e-9).norm(dim=1) for one in released]).mean()
    along = torch.stack([(_class_means(one, 3.0) * means).sum(1) / 0.09 for one in released]).mean()
    # 200 coordinates with noise 0.03 each add 0.18 to the squared length of 0.09
    assert float(raw) == pytest.approx(0.27**0.5, rel=0.05)
    assert float(shrunk) == pytest.approx(0.09 / 0.27**0.5, rel=0.1)
    assert float(along) == pytest.approx(0.09 / 0.27, rel=0.1)
