"""Snapshot matching: the loss by hand, its gradient by finite differences, no real image in the loop."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from medidistill.config import AugmentConfig, DistillConfig
from medidistill.distillation import Experts
from medidistill.distillation.outer_step import OuterStep
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.snapshots import SnapshotMatching, snapshot_epochs
from medidistill.distillation.state import DistillState
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout, penultimate
from medidistill.seeding import stream

from .feature_example import CPU, IMAGES, LABELS, MILD, PLAIN, make_experts, make_state

CONFIG = DistillConfig(objective="snapshots", importance=PLAIN, ipc=2, factor=2, max_snapshot=2, lr_images=0.05)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Experts:
    return Experts(make_experts(tmp_path_factory.mktemp("experts")))


def parts(
    experts: Experts, config: DistillConfig = CONFIG, real: tuple[Tensor, Tensor] = (IMAGES, LABELS)
) -> tuple[SnapshotMatching, DistillState]:
    return SnapshotMatching(experts, config, real, 0, CPU), make_state(experts, config)


def features_at(experts: Experts, expert: int, epoch: int, images: Tensor) -> tuple[Tensor, Tensor]:
    network = experts.architecture.make_network(stream(0, "n"))
    ParameterLayout.of(network).load(network, experts.members[expert].snapshot(epoch))
    with torch.no_grad():
        return penultimate(network, images)


def test_loss_equals_scaled_mean_distance_plus_cross_entropy_under_a_later_snapshot(experts: Experts) -> None:
    config = dataclasses.replace(CONFIG, class_weight=0.7, spread_weight=0.3)
    objective, state = parts(experts, config)
    generator = stream(3, "draw")
    found = objective(state, stream(3, "draw"))
    expert, other = (int(torch.randint(2, (), generator=generator)) for _ in range(2))
    epoch = objective.epochs[int(torch.randint(3, (), generator=generator))]
    after = int(torch.randint(epoch + 1, 6, (), generator=generator))
    real, made = (features_at(experts, expert, epoch, images)[0] for images in (IMAGES, state.images))
    means, gaps, spreads = [], [], []
    for name in range(2):
        mine, theirs = made[8 * name : 8 * name + 8], real[name == LABELS]
        means.append(theirs.mean(0))
        gaps.append((mine.mean(0) - theirs.mean(0)).square().sum())
        deviations = [(one.var(0, correction=0) + 1e-4).sqrt() for one in (mine, theirs)]
        spreads.append((deviations[0] - deviations[1]).square().sum())
    centre = sum(means) / 2
    scale = sum((mean - centre).square().sum() for mean in means) / 2
    logits = features_at(experts, other, after, state.images)[1]
    entropy = torch.nn.functional.cross_entropy(logits, torch.arange(2).repeat_interleave(8))
    expected = (sum(gaps) / 2 + 0.3 * sum(spreads) / 2) / scale + 0.7 * entropy
    assert found.loss == pytest.approx(float(expected), rel=1e-4)
    assert float(found.alpha) == 0


@pytest.mark.parametrize("match_batch", [0, 3])
def test_gradient_under_augmentation_is_the_finite_difference(experts: Experts, match_batch: int) -> None:
    config = dataclasses.replace(CONFIG, augment=MILD, match_batch=match_batch, spread_weight=0.5)
    objective, state = parts(experts, config)
    found = objective(state, stream(0, "draw")).images
    direction = torch.sign(found)
    assert (found != 0).flatten(1).any(1).sum() == 2 * (match_batch or 8)
    start, h, losses = state.images.clone(), 1e-3, []
    for sign in (1, -1):
        state.images = start + sign * h * direction
        losses.append(objective(state, stream(0, "draw")).loss)
    assert float((found * direction).sum()) == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=0.02)


def test_real_images_are_read_once_for_each_snapshot_and_not_in_the_loop(experts: Experts) -> None:
    objective, state = parts(experts)
    for seed in range(40):  # two experts at three snapshots: all drawn by then
        objective(state, stream(seed, "draw"))
    objective.real = (torch.full_like(IMAGES, torch.nan), LABELS)
    assert torch.isfinite(objective(state, stream(99, "draw")).images).all()


def test_outer_steps_lower_the_loss(experts: Experts) -> None:
    objective, state = parts(experts)
    step = OuterStep(objective, CONFIG, 0, Ranks())

    def level() -> float:
        return sum(objective(state, stream(seed, "check")).loss for seed in range(8)) / 8

    before = level()
    for _ in range(40):
        assert step(state)[1] is None
        state.progress.step += 1
    assert level() < 0.5 * before


@pytest.mark.parametrize(
    ("largest", "epochs", "expected"), [(0, 5, (0,)), (2, 5, (0, 1, 2)), (16, 5, (0, 1, 2, 4)), (16, 1, (0,))]
)
def test_snapshots_are_powers_of_two_below_the_last_epoch(largest: int, epochs: int, expected: tuple[int, ...]) -> None:
    assert snapshot_epochs(largest, epochs) == expected


def test_rejects_a_class_without_images(experts: Experts) -> None:
    with pytest.raises(ConfigError, match="class 1 has no real images"):
        parts(experts, real=(IMAGES, torch.zeros_like(LABELS)))


def test_compiled_gradient_equals_the_eager_one(experts: Experts) -> None:
    config = dataclasses.replace(CONFIG, augment=AugmentConfig(brightness=0.1))
    objective, state = parts(experts, config)
    compiled = SnapshotMatching(experts, config, (IMAGES, LABELS), 0, CPU, compile=True)
    torch.testing.assert_close(
        compiled(state, stream(0, "draw")).images, objective(state, stream(0, "draw")).images, rtol=1e-3, atol=1e-5
    )
