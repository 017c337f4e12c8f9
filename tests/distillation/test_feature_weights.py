"""Weights on features: the loss by hand, their fixed points, the control that shuffles them, checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation import Experts
from medidistill.distillation.feature_weights import FeatureWeights, WeightedSnapshotMatching
from medidistill.distillation.objective import LearningObjective
from medidistill.distillation.outer_step import OuterStep
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.snapshots import ClassStatistics, SnapshotMatching
from medidistill.distillation.state import DistillState
from medidistill.errors import ConfigError
from medidistill.seeding import stream

from .feature_example import CPU, IMAGES, LABELS, MILD, PLAIN, make_experts, make_state

CONFIG = DistillConfig(
    objective="snapshots", importance=PLAIN, ipc=2, factor=2, max_snapshot=2, feature_weights="fisher_ratio"
)
KINDS = ("inverse_variance", "fisher_ratio", "ascend", "descend")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Experts:
    return Experts(make_experts(tmp_path_factory.mktemp("experts")))


def objective_of(experts: Experts, **settings: Any) -> tuple[WeightedSnapshotMatching, DistillState]:
    config = dataclasses.replace(CONFIG, **settings)
    return WeightedSnapshotMatching(experts, config, (IMAGES, LABELS), 0, CPU), make_state(experts, config)


def statistics(within: list[float], between: list[float]) -> ClassStatistics:
    """Two classes whose means differ by so much, with these variances within them."""
    half = torch.tensor(between).sqrt()
    return ClassStatistics(torch.stack([half, -half]), torch.tensor([within, within]).sqrt(), torch.tensor(1.0))


def weights_of(kind: str, features: int, **settings: Any) -> FeatureWeights:
    return FeatureWeights(dataclasses.replace(CONFIG, feature_weights=kind, **settings), 2, features, 0)


def test_inverse_variance_is_one_over_variance_and_floor() -> None:
    real = statistics([1.0, 3.0, 8.0], [1.0, 1.0, 1.0])
    square = weights_of("inverse_variance", 3, feature_floor=0.5).square(0, real).double()
    wanted = 1 / (torch.tensor([1.0, 3.0, 8.0]).double() + 0.5 * 4)
    torch.testing.assert_close(square, wanted / wanted.mean(), rtol=1e-5, atol=0)


def test_fisher_ratio_is_the_variance_over_classes_by_that_within_them() -> None:
    real = statistics([1.0, 1.0, 4.0], [2.0, 1.0, 4.0])
    square = weights_of("fisher_ratio", 3, feature_floor=1e-9).square(1, real)
    torch.testing.assert_close(square, torch.tensor([2.0, 1.0, 1.0]) * 3 / 4, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_bounded_and_their_squares_have_mean_one(kind: str) -> None:
    weights = weights_of(kind, 50, feature_lr=3.0)
    generator = stream(0, "gaps")
    wide = torch.rand(50, generator=generator).exp().pow(8).tolist()
    real = statistics(wide, wide[::-1])
    for _ in range(5):
        square = weights.square(0, real)
        weights.learn(0, torch.rand(50, generator=generator).pow(9))
    bounds = CONFIG.importance
    assert float(square.mean()) == pytest.approx(1.0, rel=1e-5)
    assert bounds.w_min**2 * 0.999 <= float(square.min()) < float(square.max()) <= bounds.w_max**2 * 1.001


def test_learned_weights_rest_where_all_weighted_gaps_are_equal() -> None:
    weights = weights_of("ascend", 3)
    weights.log_w[0] = torch.tensor([1.0, 1.0, 1.0]).double().log()
    weights.learn(0, torch.full((3,), 7.0))
    torch.testing.assert_close(weights.log_w[0], torch.zeros(3).double(), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("kind", "sign"), [("ascend", 1), ("descend", -1)])
def test_learned_weights_move_towards_large_gaps_or_away_and_at_their_own_snapshot_alone(kind: str, sign: int) -> None:
    weights = weights_of(kind, 3)
    weights.learn(1, torch.tensor([4.0, 1.0, 1.0]))
    assert sign * float(weights.log_w[1, 0] - weights.log_w[1, 1]) == pytest.approx(0.1 * (2.0 - 0.5), rel=1e-5)
    assert not weights.log_w[0].any()


@pytest.mark.parametrize("kind", ["fisher_ratio", "ascend"])
def test_shuffled_weights_are_the_same_ones_at_other_features(kind: str) -> None:
    real = statistics([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [6.0, 2.0, 9.0, 1.0, 1.0, 7.0])
    plain, shuffled = weights_of(kind, 6), weights_of(kind, 6, feature_shuffle=True)
    gaps = torch.tensor([1.0, 5.0, 2.0, 8.0, 3.0, 1.0])
    for weights in (plain, shuffled):
        weights.learn(0, gaps)
    own, acting = plain.square(0, real), shuffled.square(0, real)
    assert not torch.equal(own, acting)
    assert torch.equal(own[shuffled.places[0]], acting)
    assert sorted(shuffled.places[0].tolist()) == list(range(6))
    assert not torch.equal(shuffled.places[0], shuffled.places[1])


def test_loss_has_the_weights_in_distance_and_scale(experts: Experts) -> None:
    objective, state = objective_of(experts, class_weight=0.0)
    plain = SnapshotMatching(experts, objective.config, (IMAGES, LABELS), 0, CPU)
    found = objective(state, stream(3, "draw"))
    drawn = stream(3, "draw")
    expert, _ = (int(torch.randint(2, (), generator=drawn)) for _ in range(2))
    epoch = plain.epochs[int(torch.randint(3, (), generator=drawn))]
    real = plain.statistics(expert, epoch)
    theta = experts.members[expert].snapshot(epoch)
    with torch.no_grad():
        means = plain.features(theta, state.images)[0].view(2, 8, -1).mean(1)
    square = objective.weights.square(expert * 3 + plain.epochs.index(epoch), real)
    distance = (square * (means - real.mean).square()).sum(1).mean()
    scale = (square * (real.mean - real.mean.mean(0)).square()).sum(1).mean()
    assert found.loss == pytest.approx(float(distance / scale), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_finite_difference_at_fixed_weights(experts: Experts, kind: str) -> None:
    objective, state = objective_of(
        experts, feature_weights=kind, augment=MILD, spread_weight=0.5, feature_lr=0.0, feature_shuffle=True
    )
    found = objective(state, stream(0, "draw")).images
    direction, h, losses = torch.sign(found), 1e-3, []
    start = state.images.clone()
    for sign in (1, -1):
        state.images = start + sign * h * direction
        losses.append(objective(state, stream(0, "draw")).loss)
    assert float((found * direction).sum()) == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=0.02)


def steps(objective: WeightedSnapshotMatching, state: DistillState, count: int) -> Tensor:
    step = OuterStep(objective, objective.config, 0, Ranks())
    for _ in range(count):
        assert step(state)[1] is None
        state.progress.step += 1
    return state.images


def test_learned_weights_go_on_from_a_checkpoint(experts: Experts) -> None:
    whole, state = objective_of(experts, feature_weights="ascend")
    wanted = steps(whole, state, 6)
    first, state = objective_of(experts, feature_weights="ascend")
    assert isinstance(first, LearningObjective)
    steps(first, state, 3)
    kept = first.save()
    assert float(kept["feature_log_w"].abs().max()) > 0
    second, _ = objective_of(experts, feature_weights="ascend")
    second.load(kept)
    assert torch.equal(steps(second, state, 3), wanted)


def test_a_shuffle_of_no_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature_shuffle=True with feature_weights='off'"):
        DistillConfig(objective="snapshots", feature_shuffle=True)
