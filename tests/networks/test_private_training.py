from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medidistill.config import AugmentConfig, DPConfig, ExpertConfig, NetworkConfig
from medidistill.distillation import Expert, finished_experts, train_experts
from medidistill.errors import ConfigError
from medidistill.networks import (
    ParameterLayout,
    PatientGradient,
    check_private,
    cross_entropy,
    make_network,
    noised_class_counts,
    train_private,
)
from medidistill.privacy.statistics import epsilon_lower

DP = DPConfig(enabled=True, clip=0.5, sampling_rate=0.5, expected_patients=4, noise_multiplier=1.0, steps_per_epoch=2)
SIZES = (1, 3, 2, 1, 5, 1)


def network(norm: str = "instance") -> nn.Module:
    return make_network(
        NetworkConfig(width=4, depth=1, norm=norm),
        channels=1,
        image_size=8,
        num_classes=2,
        generator=torch.Generator().manual_seed(1),
    )


def data(sizes: tuple[int, ...] = SIZES) -> tuple[Tensor, Tensor, list[str]]:
    patients = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    images = torch.randn(len(patients), 1, 8, 8, generator=torch.Generator().manual_seed(2))
    return images, torch.arange(len(patients)) % 2, patients


def gradient(net: nn.Module, config: DPConfig = DP, seed: int = 3, sizes: tuple[int, ...] = SIZES) -> PatientGradient:
    return PatientGradient(net, *data(sizes), config, AugmentConfig(), torch.Generator().manual_seed(seed))


def test_patients_are_averaged_then_clipped_then_summed() -> None:
    net = network()
    images, labels, patients = data()
    theta = ParameterLayout.of(net).flatten(net)
    expected = torch.zeros_like(theta)
    norms = []
    for name in dict.fromkeys(patients):
        rows = [i for i, p in enumerate(patients) if p == name]
        gradients = torch.autograd.grad(cross_entropy(net(images[rows]), labels[rows]), list(net.parameters()))
        mean = torch.cat([gradient.flatten() for gradient in gradients])
        norms.append(float(mean.norm()))
        expected += mean * min(1.0, DP.clip / float(mean.norm()))
    assert max(norms) > DP.clip  # somebody is clipped
    found = gradient(net).clipped_sum(theta, torch.arange(6))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_small_chunks_and_views_give_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    theta = ParameterLayout.of(net).flatten(net)
    whole = gradient(net).clipped_sum(theta, torch.arange(6))
    torch.testing.assert_close(
        gradient(net, dataclasses.replace(DP, views=3)).clipped_sum(theta, torch.arange(6)), whole
    )
    monkeypatch.setattr("medidistill.networks.private_training._CHUNK", 2)
    monkeypatch.setattr("medidistill.networks.private_training._FLOATS", 1)
    torch.testing.assert_close(gradient(net).clipped_sum(theta, torch.arange(6)), whole)


def test_one_patient_more_moves_the_sum_by_no_more_than_the_clip_and_no_divisor() -> None:
    net = network()
    theta = ParameterLayout.of(net).flatten(net)
    few, more = gradient(net, sizes=SIZES[:5]), gradient(net)
    step = more.clipped_sum(theta, torch.arange(6)) - few.clipped_sum(theta, torch.arange(5))
    assert 0 < step.norm() <= DP.clip + 1e-5
    # everybody sampled, the same noise: the results differ by that patient over the public divisor, not by N
    everybody = dataclasses.replace(DP, sampling_rate=1.0)
    results = []
    for sizes in (SIZES[:5], SIZES):
        one = gradient(net, everybody, sizes=sizes)
        one.generator = torch.Generator().manual_seed(7)
        torch.rand(6 - len(sizes), generator=one.generator)  # the coins of the patients who are not there
        results.append(one(theta))
    noise = (results[1] - results[0]) * DP.expected_patients
    torch.testing.assert_close(noise, step, atol=1e-4, rtol=1e-3)


def test_patients_are_sampled_by_a_coin_each() -> None:
    net = network()
    one = gradient(net, dataclasses.replace(DP, sampling_rate=0.3))
    chosen: list[Tensor] = []
    one.clipped_sum = lambda theta, people: (chosen.append(people), torch.zeros_like(theta))[1]  # type: ignore[method-assign]
    for _ in range(2000):
        one(torch.zeros(3))
    counts = torch.bincount(torch.cat(chosen), minlength=6) / 2000
    assert (counts - 0.3).abs().max() < 0.05
    assert torch.tensor([len(people) for people in chosen]).float().var() == pytest.approx(6 * 0.3 * 0.7, rel=0.15)


def test_a_step_without_patients_is_noise_alone_of_the_promised_size() -> None:
    net = network()
    one = gradient(net, dataclasses.replace(DP, sampling_rate=1e-6, noise_multiplier=3.0))
    found = torch.stack([one(torch.zeros(500)) for _ in range(50)])
    assert float(found.std()) == pytest.approx(3.0 * DP.clip / DP.expected_patients, rel=0.03)


def test_a_gradient_that_is_no_number_counts_nothing() -> None:
    net = network()
    images, labels, patients = data()
    images[0] = float("nan")
    one = PatientGradient(net, images, labels, patients, DP, AugmentConfig(), torch.Generator())
    theta = ParameterLayout.of(net).flatten(net)
    found = one.clipped_sum(theta, torch.arange(6))
    torch.testing.assert_close(found, gradient(net).clipped_sum(theta, torch.arange(1, 6)))


# what cannot be private


class _MinusBatchMean(nn.Module):
    row_by_row = True

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm2d(3), "keeps statistics"),
        (nn.BatchNorm2d(3, affine=False), "keeps statistics"),
        (nn.BatchNorm2d(3, affine=False, track_running_stats=False), "not known to process each image independently"),
        (nn.InstanceNorm2d(3, track_running_stats=True), "keeps statistics"),
        (nn.Dropout(0.5), "not known"),
        (_MinusBatchMean(), "changes with its neighbours"),
    ],
    ids=["batch", "batch-without-affine", "batch-without-statistics", "instance-with-statistics", "dropout", "lying"],
)
def test_layers_that_mix_images_or_remember_them_are_refused(layer: nn.Module, message: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), layer, nn.Flatten(), nn.Linear(3 * 36, 2))
    with pytest.raises(ConfigError, match=message):
        check_private(net, (1, 8, 8))


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
def test_our_networks_pass(norm: str) -> None:
    check_private(network(norm), (1, 8, 8))
    check_private(nn.Sequential(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3), nn.Flatten(), nn.Linear(108, 2)), (1, 8, 8))


def test_no_noise_and_unnamed_patients_are_refused() -> None:
    net = network()
    with pytest.raises(ConfigError, match="noise_multiplier=0: must be > 0"):
        gradient(net, dataclasses.replace(DP, noise_multiplier=0.0))
    with pytest.raises(ConfigError, match="one name for each image"):
        PatientGradient(net, *data()[:2], [], DP, AugmentConfig(), torch.Generator())


def test_monte_carlo_catches_a_mechanism_with_too_little_noise() -> None:
    # one step, everybody in: the Gaussian mechanism. Sigma 4 has epsilon 0.86 at delta 1e-2 (below 1.0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    theta = ParameterLayout.of(net).flatten(net)
    direction = None
    bounds = {}
    for sigma in (4.0, 0.5):
        config = dataclasses.replace(DP, clip=0.01, sampling_rate=1.0, expected_patients=1, noise_multiplier=sigma)
        scores = []
        for sizes in (SIZES, SIZES[:5]):
            one = gradient(net, config, seed=11 + len(sizes), sizes=sizes)
            if direction is None:
                few = gradient(net, config, sizes=SIZES[:5]).clipped_sum(theta, torch.arange(5))
                direction = one.clipped_sum(theta, torch.arange(6)) - few
                middle = (few + direction / 2) @ direction
            total = one.clipped_sum(theta, torch.arange(one.count))
            one.clipped_sum = lambda theta, people, total=total: total  # type: ignore[method-assign, misc]
            scores.append(np.array([float((one(theta)) @ direction - middle) for _ in range(1500)]))
        inside, outside = scores
        bounds[sigma] = epsilon_lower(int((inside > 0).sum()), 1500, int((outside > 0).sum()), 1500, delta=1e-2)
    assert bounds[4.0] <= 1.0 < bounds[0.5]


# experts


def test_private_experts_share_a_public_start_and_never_their_noise(tmp_path: Path) -> None:
    images, labels, patients = data()
    config = ExpertConfig(count=2, epochs=2, lr=0.1, dp=DP)
    settings = {"num_classes": 2, "network": NetworkConfig(width=4, depth=1), "config": config, "seed": 0}
    trained = []
    for name in ("a", "b"):
        files = train_experts(images, labels, folder=tmp_path / name, patients=patients, **settings)
        trained.append([[Expert.open(file).snapshot(epoch) for epoch in (0, 2)] for file in files])
        assert Expert.open(files[0]).header["final_loss"] is None
    assert torch.equal(trained[0][0][0], trained[1][0][0])
    assert not torch.equal(trained[0][0][1], trained[1][0][1])
    settings["patients"] = patients
    assert finished_experts(images, labels, folder=tmp_path / "a", **settings) == 2
    assert finished_experts(images, labels, folder=tmp_path / "c", **settings) == 0
    by_image = settings | {"patients": [str(number) for number in range(len(images))]}  # clipped and sampled otherwise
    assert finished_experts(images, labels, folder=tmp_path / "a", **by_image) == 0
    plain = dataclasses.replace(config, dp=DPConfig())
    assert finished_experts(images, labels, folder=tmp_path / "a", **(settings | {"config": plain})) == 0
    with pytest.raises(ConfigError, match="one name for each image"):
        train_experts(images, labels, folder=tmp_path / "d", **(settings | {"patients": ()}))


def test_the_network_gets_the_mean_of_the_second_half_of_the_path() -> None:
    net = network()
    taken = gradient(net)  # the same generator again: the same noise
    layout = ParameterLayout.of(net)
    theta, path = layout.flatten(net), []
    for _ in range(5):
        theta = theta - 0.1 * taken(theta)
        path.append(theta)
    train_private(net, gradient(net), steps=5, lr=0.1)
    torch.testing.assert_close(layout.flatten(net), torch.stack(path[2:]).mean(0))


def test_classes_are_counted_by_patient_with_the_promised_noise() -> None:
    patients = ["one"] * 4 + ["two", "two", "three"]
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    generator = torch.Generator().manual_seed(0)

    def counted(sigma: float) -> Tensor:
        return noised_class_counts(labels, patients, num_classes=3, noise_multiplier=sigma, generator=generator)

    # nobody has the third class: it gets the least that a class may have
    torch.testing.assert_close(counted(1e-9), torch.tensor([1.5, 1.5, 1.0]))
    many = [str(i) for i in range(9000)]
    made = torch.stack(
        [
            noised_class_counts(torch.arange(9000) % 3, many, num_classes=3, noise_multiplier=7.0, generator=generator)
            for _ in range(200)
        ]
    )
    assert float(made.std(0).mean()) == pytest.approx(7.0, rel=0.1)
    assert float(made.mean()) == pytest.approx(3000, abs=2)
