"""DM: the features and the loss by hand, the gradient by finite differences, the loss falls."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from medidistill.config import AugmentConfig, DistillConfig, ImportanceConfig, NetworkConfig
from medidistill.distillation.distribution_matching import DistributionMatching
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.outer_step import OuterStep
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState, initial_images
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout, make_network, penultimate
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=4, depth=1)
CONFIG = DistillConfig(
    objective="distribution", importance=ImportanceConfig(enabled=False), ipc=2, real_batch=16, lr_images=0.05
)
LABELS = torch.arange(12) % 2
IMAGES = torch.randn(12, 1, 8, 8, generator=stream(0, "real")) + LABELS.view(-1, 1, 1, 1)
CPU = torch.device("cpu")


def parts(config: DistillConfig = CONFIG) -> tuple[DistributionMatching, DistillState]:
    network = make_network(NETWORK, channels=1, image_size=8, num_classes=2, generator=stream(0, "n"))
    layout = ParameterLayout.of(network)
    weights = ImportanceWeights(layout, config.importance, torch.ones(len(layout), dtype=torch.bool))
    labels = torch.arange(2).repeat_interleave(config.ipc)
    state = DistillState(config, initial_images(config, (1, 8, 8), 2, None, 0), 8, labels, 2, weights)
    return DistributionMatching(NETWORK, config, RealBatches(IMAGES, LABELS, 2, CPU), CPU), state


def test_features_are_what_the_last_linear_layer_sees() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(5, 1, 2, 2)
    torch.testing.assert_close(penultimate(network, x)[0], network[:3](x))
    torch.testing.assert_close(penultimate(network, x)[0], network[:3](x))  # no hook is left behind
    with pytest.raises(ConfigError, match="linear layer"):
        penultimate(nn.Conv2d(1, 1, 1), x)


def test_loss_and_gradient_of_a_linear_embedding_in_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    # psi(x) = x: the loss is the squared distance of mean images, its gradient 2 (mean_s - mean_r) / (F ipc K)
    monkeypatch.setattr(
        "medidistill.distillation.distribution_matching.make_network",
        lambda *a, **k: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)),
    )
    objective, state = parts()
    sample = objective(state, stream(0, "draw"))
    generator, expected = stream(0, "draw"), 0.0
    for name in range(2):
        real = objective.real.draw(name, 8, generator).mean(0)
        torch.rand(1, 9, generator=generator)
        own = slice(2 * name, 2 * name + 2)
        gap = state.images[own].mean(0) - real
        expected += float(gap.square().mean()) / 2
        torch.testing.assert_close(sample.images[own], (2 * gap / 64 / 2 / 2).expand(2, -1, -1, -1))
    assert sample.loss == pytest.approx(expected, rel=1e-5)
    assert float(sample.alpha) == 0


def test_gradient_under_augmentation_is_the_finite_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "medidistill.distillation.distribution_matching.make_network", lambda *a, **k: make_network(*a, **k).double()
    )
    objective, state = parts(dataclasses.replace(CONFIG, augment=AugmentConfig(shift=0.1, contrast=0.2)))
    objective.real = RealBatches(IMAGES.double(), LABELS, 2, CPU)
    state.images = state.images.double()
    found = objective(state, stream(0, "draw")).images
    direction = torch.randn(state.images.shape, generator=stream(1), dtype=torch.float64)
    start, h = state.images.clone(), 1e-6
    losses = []
    for sign in (1, -1):
        state.images.copy_(start + sign * h * direction)
        losses.append(objective(state, stream(0, "draw")).loss)
    assert float((found * direction).sum()) == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-5)


def test_networks_are_fresh_in_every_sample_and_outer_steps_lower_the_distance() -> None:
    objective, state = parts()
    assert objective(state, stream(0, "a")).loss != objective(state, stream(1, "a")).loss
    step = OuterStep(objective, CONFIG, 0, Ranks())

    def level() -> float:
        return sum(objective(state, stream(seed, "check")).loss for seed in range(8)) / 8

    before = level()
    for _ in range(40):
        assert step(state)[1] is None
        state.progress.step += 1
    assert level() < 0.5 * before
