"""DC and DSA: row distances by hand, gradients by finite differences, the loss falls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medidistill.config import AugmentConfig, DistillConfig, ExpertConfig, ImportanceConfig, NetworkConfig
from medidistill.distillation import Experts, train_experts
from medidistill.distillation.gradient_matching import GradientMatching, row_distance
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.outer_step import OuterStep
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState, initial_images
from medidistill.distillation.unroll import InnerStep
from medidistill.networks import ParameterLayout, make_network
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=3, depth=1)
CONFIG = DistillConfig(
    objective="gradient",
    importance=ImportanceConfig(enabled=False),
    ipc=2,
    max_start=2,
    expert_epochs=1,
    real_batch=8,
    soft_labels=True,
    lr_images=0.05,
)
LABELS = torch.arange(12) % 2
IMAGES = torch.randn(12, 1, 8, 8, generator=stream(0, "real")) + LABELS.view(-1, 1, 1, 1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Experts:
    config = ExpertConfig(count=2, epochs=2, batch_size=4, lr=0.05)
    folder: Path = tmp_path_factory.mktemp("experts")
    return Experts(train_experts(IMAGES, LABELS, num_classes=2, network=NETWORK, config=config, seed=0, folder=folder))


class _Double(Experts):
    """The same pool in float64, for finite differences."""

    def __init__(self, pool: Experts) -> None:
        self.members = [_DoubleExpert(m.path, m.header, m.epochs) for m in pool.members]


class _DoubleExpert:
    def __init__(self, path: Path, header: dict, epochs: int) -> None:
        from medidistill.distillation import Expert

        self.inner = Expert(path, header, epochs)

    def snapshot(self, epoch: int) -> Tensor:
        return self.inner.snapshot(epoch).double()


def parts(pool: Experts, config: DistillConfig, dtype: torch.dtype) -> tuple[GradientMatching, DistillState]:
    network = make_network(NETWORK, channels=1, image_size=8, num_classes=2, generator=stream(0, "n")).to(dtype)
    layout = ParameterLayout.of(network)
    weights = ImportanceWeights(layout, config.importance, torch.ones(len(layout), dtype=torch.bool))
    start = initial_images(config, (1, 8, 8), 2, None, 0).to(dtype)
    state = DistillState(config, start, 8, torch.arange(2).repeat_interleave(config.ipc), 2, weights)
    real = RealBatches(IMAGES.to(dtype), LABELS, 2, CPU)
    return GradientMatching(pool, config, InnerStep(network), layout, real, CPU), state


def test_rows_of_weights_are_compared_by_angle_and_biases_not_at_all() -> None:
    layout = ParameterLayout.of(nn.Linear(2, 3))
    real = torch.tensor([1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 9.0, 9.0, 9.0])
    other = torch.tensor([5.0, 0.0, 0.0, -1.0, -4.0, 3.0, -9.0, 0.0, 1.0])
    # the same direction, the opposite one, a right angle
    assert float(row_distance(real, other, layout)) == pytest.approx((0 + 2 + 1) / 3, abs=1e-5)
    assert float(row_distance(real, real * torch.cat([torch.ones(6), torch.zeros(3)]), layout)) == pytest.approx(
        0, abs=1e-5
    )


@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(shift=0.1, contrast=0.2, cutout=0.2)])
def test_gradients_of_images_and_labels_are_finite_differences(experts: Experts, augment: AugmentConfig) -> None:
    objective, state = parts(_Double(experts), dataclasses.replace(CONFIG, augment=augment), torch.float64)
    found = objective(state, stream(0, "draw"))
    assert float(found.alpha) == 0

    def loss() -> float:
        return objective(state, stream(0, "draw")).loss

    h = 1e-6
    for value, gradient, place in (
        (state.images, found.images, (1, 0, 3, 4)),
        (state.images, found.images, (3, 0, 6, 1)),
    ):
        old = float(value[place])
        value[place] = old + h
        up = loss()
        value[place] = old - h
        assert float(gradient[place]) == pytest.approx((up - loss()) / (2 * h), rel=1e-4, abs=1e-9)
        value[place] = old
    logits = state.logits.detach().requires_grad_()
    (by_logit,) = torch.autograd.grad(torch.softmax(logits, 1), logits, found.targets)
    old = float(state.logits[0, 1])
    state.logits[0, 1] = old + h
    up = loss()
    state.logits[0, 1] = old - h
    assert float(by_logit[0, 1]) == pytest.approx((up - loss()) / (2 * h), rel=1e-4, abs=1e-9)


def test_real_images_as_distilled_ones_leave_nothing_to_match(experts: Experts) -> None:
    one_each = RealBatches(IMAGES[:2], LABELS[:2], 2, CPU)
    objective, state = parts(experts, dataclasses.replace(CONFIG, ipc=1, soft_labels=False), torch.float32)
    objective.real = one_each
    assert objective(state, stream(0, "draw")).loss > 0.05
    state.images.copy_(IMAGES[:2])
    for seed in range(3):
        assert objective(state, stream(seed, "draw")).loss == pytest.approx(0, abs=1e-4)


def test_siamese_both_sides_share_one_drawn_augmentation(experts: Experts) -> None:
    strong = AugmentConfig(shift=0.3, rotate=40, contrast=0.5, cutout=0.3)
    config = dataclasses.replace(CONFIG, ipc=1, soft_labels=False, augment=strong)
    objective, state = parts(experts, config, torch.float32)
    objective.real = RealBatches(IMAGES[:2], LABELS[:2], 2, CPU)
    state.images.copy_(IMAGES[:2])
    assert objective(state, stream(0, "draw")).loss == pytest.approx(0, abs=1e-4)


def test_outer_steps_lower_the_distance_and_leave_alpha(experts: Experts) -> None:
    objective, state = parts(experts, CONFIG, torch.float32)
    step, alpha = OuterStep(objective, CONFIG, 0, Ranks()), float(state.alpha)

    def level() -> float:
        return sum(objective(state, stream(seed, "check")).loss for seed in range(8)) / 8

    before = level()
    for _ in range(30):
        entry, problem = step(state)
        assert problem is None
        state.progress.step += 1
    assert level() < 0.7 * before
    assert entry["alpha"] == pytest.approx(alpha)
