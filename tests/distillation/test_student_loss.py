from __future__ import annotations

import dataclasses

import pytest
import torch

from medidistill.config import AugmentConfig, DistillConfig, ImportanceConfig, NetworkConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState, initial_images
from medidistill.distillation.student_loss import StudentLoss
from medidistill.distillation.unroll import InnerStep
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout, make_network
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=3, depth=1)
CONFIG = DistillConfig(
    objective="student_loss",
    importance=ImportanceConfig(enabled=False),
    ipc=1,
    init_std=0.5,
    inner_steps=2,
    warmup_steps=3,
    real_batch=6,
    alpha=0.1,
    soft_labels=True,
)
LABELS = torch.arange(12) % 2
IMAGES = (torch.randn(12, 1, 8, 8, generator=stream(0, "real")) + LABELS.view(-1, 1, 1, 1)).double()


def parts(config: DistillConfig) -> tuple[StudentLoss, DistillState]:
    network = make_network(NETWORK, channels=1, image_size=8, num_classes=2, generator=stream(0, "n")).double()
    layout = ParameterLayout.of(network)
    weights = ImportanceWeights(layout, config.importance, torch.ones(len(layout), dtype=torch.bool))
    start = initial_images(config, (1, 8, 8), 2, None, 0).double()
    state = DistillState(config, start, 8, torch.arange(2), 2, weights)
    step = InnerStep(network, learn_targets=config.soft_labels)
    cpu = torch.device("cpu")
    objective = _Double(NETWORK, config, step, RealBatches(IMAGES, LABELS, 2, cpu), cpu)
    objective.eye = objective.eye.double()
    return objective, state


class _Double(StudentLoss):
    def _fresh(self, generator: torch.Generator) -> torch.nn.Module:
        return super()._fresh(generator).double()


@pytest.mark.parametrize("kind", ["adjoint", "stored"])
@pytest.mark.parametrize("augment", [AugmentConfig(), AugmentConfig(shift=0.1, rotate=5)])
def test_gradients_are_the_finite_differences_of_the_loss(kind, augment):
    config = dataclasses.replace(CONFIG, gradient=kind, warmup_steps=0, augment=augment)
    objective, state = parts(config)
    found = objective(state, stream(0, "draw"))

    def loss() -> float:
        return objective(state, stream(0, "draw")).loss

    step = 1e-5
    flat = state.images.view(-1)
    for pixel in (0, 17, 70, 127):
        old = flat[pixel].item()
        flat[pixel] = old + step
        up = loss()
        flat[pixel] = old - step
        gradient = (up - loss()) / (2 * step)
        flat[pixel] = old
        assert found.images.view(-1)[pixel].item() == pytest.approx(gradient, rel=1e-5, abs=1e-10)
    old = state.log_alpha.item()
    state.log_alpha.fill_(old + step)
    up = loss()
    state.log_alpha.fill_(old - step)
    gradient = (up - loss()) / (2 * step)
    state.log_alpha.fill_(old)
    assert (found.alpha * state.alpha).item() == pytest.approx(gradient, rel=1e-5)


def test_the_warm_up_trains_the_student_and_is_not_differentiated():
    # with J steps in the window and r before it, the loss is that of r + J steps but only J carry gradients
    objective, state = parts(dataclasses.replace(CONFIG, warmup_steps=40, alpha=0.3))
    torch.nn.init.zeros_(state.images)
    state.images[1] += 1.0  # two images that tell the classes apart
    losses = [objective(state, stream(seed, "draw")).loss for seed in range(12)]
    lengths = []
    for seed in range(12):
        generator = stream(seed, "draw")
        objective._fresh(generator)
        lengths.append(int(torch.randint(41, (), generator=generator)))
    order = torch.tensor(lengths).argsort()
    by_length = torch.tensor(losses)[order]
    assert by_length[-4:].mean() < by_length[:4].mean()
    assert torch.corrcoef(torch.stack([torch.tensor(lengths).double(), torch.tensor(losses).double()]))[0, 1] < -0.3


def test_real_batches_are_balanced_and_the_state_stays():
    objective, state = parts(CONFIG)
    before = state.images.clone()
    _, truth = objective._real_batch(stream(0, "b"))
    assert truth.sum(0).tolist() == [3, 3]
    sample = objective(state, stream(0, "draw"))
    assert torch.equal(state.images, before)
    assert sample.parts is None
    assert sample.targets.abs().max() > 0


def test_a_class_without_images_is_refused():
    with pytest.raises(ConfigError, match="class 2 has no real images"):
        RealBatches(IMAGES.float(), LABELS, 3, torch.device("cpu"))
