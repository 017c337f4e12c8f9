"""Kernel regression: the loss in closed form, gradients by finite differences, the pool, stops, the loss falls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from medidistill.config import DistillConfig
from medidistill.distillation import Callbacks, Experts, distill
from medidistill.distillation.kernel_regression import KernelRegression
from medidistill.distillation.outer_step import OuterStep
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.state import DistillState
from medidistill.errors import ConfigError, StoppedError
from medidistill.networks import ParameterLayout, penultimate
from medidistill.seeding import stream

from .feature_example import CPU, IMAGES, LABELS, MILD, NETWORK, PLAIN, make_experts, make_problem, make_state

CONFIG = DistillConfig(
    objective="kernel",
    importance=PLAIN,
    ipc=3,
    soft_labels=True,
    real_batch=16,
    pool_networks=2,
    pool_steps=5,
    ridge=1e-3,
    lr_images=0.02,
    compile="off",
    validate_every=0,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_experts(tmp_path_factory.mktemp("experts"))


def parts(files: list[Path], config: DistillConfig = CONFIG) -> tuple[KernelRegression, DistillState]:
    objective = KernelRegression(
        NETWORK,
        config,
        RealBatches(IMAGES, LABELS, 2, CPU),
        num_classes=2,
        shape=(1, 16, 16),
        seed=0,
        device=CPU,
    )
    return objective, make_state(Experts(files), config)


@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_loss_equals_a_ridge_regression_in_numpy(files: list[Path], kind: str) -> None:
    objective, state = parts(files, dataclasses.replace(CONFIG, kernel_loss=kind))
    generator = stream(0, "draw")
    member = int(torch.randint(2, (), generator=generator))
    network = objective._fresh(0, 0)
    ParameterLayout.of(network).load(network, objective.theta[member])
    real = torch.cat([objective.real.draw(name, 8, generator) for name in range(2)])
    with torch.no_grad():
        own, others = (penultimate(network, images)[0].double().numpy() for images in (state.images, real))
    own, others = (np.column_stack([found, np.ones(len(found))]) for found in (own, others))
    wanted = np.eye(2)[np.repeat([0, 1], 8)]
    ridge = CONFIG.ridge * np.trace(own @ own.T) / len(own)
    # the primal form of what the objective solves in the dual
    normal = own.T @ own + ridge * np.eye(own.shape[1])
    outputs = others @ np.linalg.solve(normal, own.T @ (state.targets().double().numpy() - 0.5))
    if kind == "squared":
        expected = ((outputs - (wanted - 0.5)) ** 2).sum(1).mean()
    else:
        scaled = outputs / 0.2
        expected = -(wanted * (scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))).sum(1).mean()
    assert objective(state, stream(0, "draw")).loss == pytest.approx(expected, rel=2e-3)


def test_gradients_by_images_and_labels_are_finite_differences(files: list[Path]) -> None:
    objective, state = parts(files, dataclasses.replace(CONFIG, augment=MILD, ridge=0.1))
    kept = objective.save()
    found = objective(state, stream(0, "draw"))
    h = 1e-3
    for name, gradient in (("images", found.images), ("logits", found.targets)):
        value = getattr(state, name)
        start = value.detach().clone()
        losses = []
        for sign in (1, -1):
            objective.load(kept)
            if name == "images":
                state.images = start + sign * h * torch.sign(gradient)
                losses.append(objective(state, stream(0, "draw")).loss)
            else:
                targets = torch.softmax(start, 1) + sign * h * torch.sign(gradient)
                state.targets = lambda targets=targets: targets  # type: ignore[method-assign]
                losses.append(objective(state, stream(0, "draw")).loss)
        state.images = found.images * 0 + start if name == "images" else state.images
        assert float(gradient.abs().sum()) == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=0.02), name


def test_networks_of_the_pool_begin_anew_after_their_steps(files: list[Path]) -> None:
    objective, state = parts(files)
    for seed in range(30):
        objective(state, stream(seed, "draw"))
    assert (objective.generation >= 1).all()
    assert (objective.age <= CONFIG.pool_steps).all()
    fresh = ParameterLayout.of(objective._fresh(0, 0)).flatten(objective._fresh(0, int(objective.generation[0])))
    assert not torch.equal(fresh, objective.layout.flatten(objective._fresh(0, 0)))


def test_a_run_stopped_anywhere_goes_on_to_the_same_bytes(files: list[Path], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, outer_steps=12, checkpoint_every=4)

    def run(folder: Path, stop_at: int = 0, resume: bool = False) -> None:
        def on_step(entry: dict[str, object]) -> None:
            if entry["step"] == stop_at:
                raise StoppedError("stopped", 15)

        distill(
            make_problem(files, seed=0),
            config,
            callbacks=Callbacks(on_step=on_step),
            folder=folder,
            resume=resume,
        )

    run(tmp_path / "whole")
    for stop_at in (1, 6, 11):
        folder = tmp_path / str(stop_at)
        with pytest.raises(StoppedError):
            run(folder, stop_at)
        run(folder, resume=True)
        whole, again = (path / "distilled.safetensors" for path in (tmp_path / "whole", folder))
        assert whole.read_bytes() == again.read_bytes()


def test_several_ranks_are_refused_as_each_would_train_a_pool_of_its_own(files: list[Path]) -> None:
    config = dataclasses.replace(CONFIG, segments=2)
    with pytest.raises(ConfigError, match=r"objective='kernel'.* on 2 ranks: .*use one process"):
        distill(make_problem(files, seed=0), config, ranks=Ranks(0, 2))


def test_outer_steps_lower_the_loss(files: list[Path]) -> None:
    objective, state = parts(files)
    step = OuterStep(objective, CONFIG, 0, Ranks())
    losses = []
    for _ in range(60):
        entry, problem = step(state)
        assert problem is None
        losses.append(entry["loss"])
        state.progress.step += 1
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
