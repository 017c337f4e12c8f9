"""The meta-gradient is exact: four independent proofs in float64, each for images, soft labels and alpha."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medidistill.config import AugmentConfig, NetworkConfig
from medidistill.distillation import InnerPlan, InnerStep, MetaGradient, adjoint_gradient, draw_plan, stored_gradient
from medidistill.distillation.unroll import student_end
from medidistill.networks import ParameterLayout, make_network
from medidistill.seeding import stream

STRONG = AugmentConfig(shift=0.1, scale=0.2, rotate=20, brightness=0.3, contrast=0.3, cutout=0.3, flip=True)


class Problem:
    """A tiny student, a tiny distilled set and an end loss that is not symmetric in anything."""

    def __init__(self, norm: str = "instance", steps: int = 4, augment: AugmentConfig = STRONG) -> None:
        config = NetworkConfig(width=3, depth=2, norm=norm)
        network = make_network(config, channels=1, image_size=8, num_classes=3, generator=stream(0, "n")).double()
        self.network = network
        generator = stream(0, "problem")
        self.step = InnerStep(network, learn_targets=True)
        self.theta = ParameterLayout.of(network).flatten(network)
        self.images = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
        self.targets = torch.softmax(torch.randn(6, 3, generator=generator, dtype=torch.float64), 1)
        self.alpha = torch.tensor(0.3, dtype=torch.float64)
        self.plan = draw_plan(6, steps, 4, augment, generator)
        self.aim = self.theta + 0.1 * torch.randn(len(self.theta), generator=generator, dtype=torch.float64)
        self.scale = torch.rand(len(self.theta), generator=generator, dtype=torch.float64)

    def end_loss(self, end: Tensor) -> tuple[Tensor, Tensor]:
        difference = end - self.aim
        return (self.scale * difference.square()).sum(), 2 * self.scale * difference

    def solve(self, unroll=adjoint_gradient, **changed: Tensor) -> MetaGradient:
        inputs = {"images": self.images, "targets": self.targets, "alpha": self.alpha} | changed
        return unroll(self.step, self.theta, plan=self.plan, end_loss=self.end_loss, **inputs)


def relative_error(value: Tensor, reference: Tensor) -> float:
    return float((value - reference).norm() / reference.norm())


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
@pytest.mark.parametrize("augment", [AugmentConfig(), STRONG], ids=["plain", "augmented"])
def test_adjoint_equals_back_propagation_through_the_stored_graph(norm: str, augment: AugmentConfig) -> None:
    problem = Problem(norm, augment=augment)
    ours, reference = problem.solve(), problem.solve(stored_gradient)
    assert ours.loss == pytest.approx(reference.loss, rel=1e-12)
    for name in ("end", "images", "targets", "alpha"):
        assert relative_error(getattr(ours, name), getattr(reference, name)) < 1e-8, name


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
def test_the_derivative_along_a_direction_is_the_transpose_of_the_adjoint(norm: str) -> None:
    problem = Problem(norm)
    generator = stream(7)
    direction = torch.randn(problem.images.shape, generator=generator, dtype=torch.float64)
    cotangent = torch.randn(len(problem.theta), generator=generator, dtype=torch.float64)
    loop = (problem.step, problem.theta, problem.images, problem.targets, problem.alpha, problem.plan)
    end, moved = student_end(*loop, direction)
    adjoint = adjoint_gradient(*loop, lambda end: (end.sum(), cotangent))
    torch.testing.assert_close(end, adjoint.end)
    assert float(moved @ cotangent) == pytest.approx(float((direction * adjoint.images).sum()), rel=1e-8)


def test_keeping_maps_changes_nothing_and_is_left_out_beyond_its_budget() -> None:
    problem = Problem()
    plain = problem.solve()
    keeping = InnerStep(problem.network, learn_targets=True, activation_budget_bytes=1e9)
    shape = torch.Size((problem.plan.batches.shape[1], *problem.images.shape[1:]))
    steps = len(problem.plan.batches)
    assert keeping.fits_budget(shape, steps)
    assert not keeping.fits_budget(shape, 10**9)
    assert not problem.step.fits_budget(shape, steps)
    problem.step = keeping
    kept = problem.solve()
    for name in ("end", "images", "targets", "alpha"):
        assert relative_error(getattr(kept, name), getattr(plain, name)) < 1e-12, name


@pytest.mark.parametrize("name", ["images", "targets", "alpha"])
def test_adjoint_agrees_with_finite_differences(name: str) -> None:
    problem = Problem()
    value = getattr(problem, name)
    direction = torch.randn(value.shape, generator=stream(3, name), dtype=torch.float64)
    h = 1e-5
    gradient = (
        problem.solve(**{name: value + h * direction}).loss - problem.solve(**{name: value - h * direction}).loss
    ) / (2 * h)
    assert float((getattr(problem.solve(), name) * direction).sum()) == pytest.approx(gradient, rel=1e-6)


def test_one_step_of_softmax_regression_by_hand() -> None:
    # z = V x, CE gradient (p - q) x^T; <g, Lambda> = (p - q)^T Lambda x
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double()
    generator = stream(1, "hand")
    v = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 1, 2, 2, generator=generator, dtype=torch.float64)
    q = torch.softmax(torch.randn(1, 3, generator=generator, dtype=torch.float64), 1)
    aim = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    alpha = torch.tensor(0.7, dtype=torch.float64)

    p = torch.softmax(v @ x.flatten(), 0)
    g = torch.outer(p - q[0], x.flatten())
    end = v - 0.7 * g
    lam = 2 * (end - aim)
    curvature = torch.diag(p) - torch.outer(p, p)
    by_x = lam.T @ (p - q[0]) + v.T @ curvature @ (lam @ x.flatten())

    plan = InnerPlan(torch.tensor([[0]]), torch.zeros(1, 1, 9), AugmentConfig())
    found = adjoint_gradient(
        InnerStep(network, learn_targets=True),
        v.flatten(),
        x,
        q,
        alpha,
        plan,
        lambda e: ((e - aim.flatten()).square().sum(), 2 * (e - aim.flatten())),
    )
    torch.testing.assert_close(found.end, end.flatten(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.images.flatten(), -0.7 * by_x, rtol=1e-12, atol=1e-12)
    # q need not sum to one: CE = -sum q log p has dCE/dz = p sum(q) - q
    by_q = (p @ lam @ x.flatten()) - lam @ x.flatten()
    torch.testing.assert_close(found.targets[0], -0.7 * by_q, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.alpha, -(g * lam).sum(), rtol=1e-12, atol=1e-12)


def test_linear_model_with_squared_loss_has_a_closed_form() -> None:
    # theta_J = theta* + (I - alpha A)^J (theta_0 - theta*), A = X^T X / n, theta* = A^-1 X^T q / n
    n, d, steps, rate = 7, 4, 6, 0.2
    generator = stream(2, "closed")
    x = torch.randn(n, 1, 2, 2, generator=generator, dtype=torch.float64)
    q = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    theta, aim = (torch.randn(d, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = x.flatten(1)
    a, identity = rows.T @ rows / n, torch.eye(d, dtype=torch.float64)
    contraction, inverse = identity - rate * a, torch.linalg.inv(a)
    best = inverse @ rows.T @ q[:, 0] / n
    power = torch.linalg.matrix_power
    end = best + power(contraction, steps) @ (theta - best)
    lam = 2 * (end - aim)
    end_by_q = (identity - power(contraction, steps)) @ inverse @ rows.T / n
    end_by_alpha = -steps * a @ power(contraction, steps - 1) @ (theta - best)

    network = nn.Sequential(nn.Flatten(), nn.Linear(d, 1, bias=False)).double()
    step = InnerStep(network, learn_targets=True, criterion=lambda z, t: 0.5 * (z - t).square().mean())
    plan = InnerPlan(torch.arange(n).repeat(steps, 1), torch.zeros(steps, n, 9), AugmentConfig())
    found = adjoint_gradient(
        step,
        theta,
        x,
        q,
        torch.tensor(rate, dtype=torch.float64),
        plan,
        lambda e: ((e - aim).square().sum(), 2 * (e - aim)),
    )
    torch.testing.assert_close(found.end, end, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.targets[:, 0], end_by_q.T @ lam, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.alpha, end_by_alpha @ lam, rtol=1e-10, atol=1e-12)

    def closed(images: Tensor) -> Tensor:
        r = images.flatten(1)
        gram = r.T @ r / n
        goal = torch.linalg.solve(gram, r.T @ q[:, 0] / n)
        return (goal + power(identity - rate * gram, steps) @ (theta - goal) - aim).square().sum()

    torch.testing.assert_close(found.images, torch.func.grad(closed)(x), rtol=1e-9, atol=1e-12)


def test_images_outside_every_batch_get_no_gradient() -> None:
    problem = Problem()
    problem.plan = InnerPlan(problem.plan.batches.clamp_max(3), problem.plan.parameters, problem.plan.augment)
    found = problem.solve()
    assert not found.images[4:].any()
    assert bool(found.images[:4].flatten(1).any(1).all())


def test_plan_uses_every_image_before_any_twice() -> None:
    plan = draw_plan(6, 3, 4, AugmentConfig(), stream(0, "plan"))
    assert sorted(plan.batches.flatten()[:6].tolist()) == list(range(6))
    assert draw_plan(6, 3, 0, AugmentConfig(), stream(0, "plan")).batches.shape == (3, 6)


class Living(TorchDispatchMode):
    """Counts the bytes of the tensors that live at once, of those that are made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for storage in (one.untyped_storage() for one in tree_leaves(made) if isinstance(one, Tensor)):
            if storage._cdata not in self._sizes:
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)
        return made

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def test_memory_of_the_adjoint_grows_by_the_batches_and_not_by_what_the_network_makes_of_them() -> None:
    network = make_network(
        NetworkConfig(width=4, depth=2), channels=1, image_size=16, num_classes=3, generator=stream(0)
    )
    theta, step = ParameterLayout.of(network).flatten(network), InnerStep(network)
    images, targets = torch.randn(6, 1, 16, 16), torch.full((6, 3), 1 / 3)

    def peak(unroll: Callable[..., MetaGradient], steps: int) -> int:
        plan = draw_plan(6, steps, 6, AugmentConfig(), stream(0))
        gc.collect()
        with Living() as living:
            unroll(step, theta, images, targets, torch.tensor(0.01), plan, lambda end: (end.square().sum(), 2 * end))
        return living.peak

    adjoint, stored = (peak(one, 15) - peak(one, 5) for one in (adjoint_gradient, stored_gradient))
    batches = 10 * images.nbytes  # of ten steps
    assert adjoint < 4 * batches
    assert stored > 20 * batches


_PEAK = """
import re, sys, torch
from pathlib import Path
from medidistill.config import AugmentConfig, NetworkConfig
from medidistill.distillation import InnerStep, adjoint_gradient, draw_plan, stored_gradient
from medidistill.networks import ParameterLayout, make_network
from medidistill.seeding import stream
torch.set_num_threads(1)
unroll = {"adjoint": adjoint_gradient, "stored": stored_gradient}[sys.argv[1]]
network = make_network(NetworkConfig(width=16), channels=1, image_size=32, num_classes=3, generator=stream(0))
theta = ParameterLayout.of(network).flatten(network)
x, q = torch.randn(24, 1, 32, 32), torch.full((24, 3), 1 / 3)
step = InnerStep(network)
def solve(steps):
    plan = draw_plan(24, steps, 24, AugmentConfig(), stream(0))
    unroll(step, theta, x, q, torch.tensor(0.01), plan, lambda e: (e.square().sum(), 2 * e))
def peak():  # getrusage would start from the parent's peak
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
solve(2)
before = peak()
solve(int(sys.argv[2]))
print(peak() - before)
"""


def _growth(method: str, steps: int) -> float:
    # every tensor a mapping of its own: the size is then that of what lives, whatever the heap's gaps
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384"}
    command = [sys.executable, "-c", _PEAK, method, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


@pytest.mark.slow
def test_memory_of_the_adjoint_does_not_grow_with_the_steps() -> None:
    # peak resident memory in MiB above that of two steps; 60 parameter vectors are under 3 MiB
    assert _growth("adjoint", 80) - _growth("adjoint", 20) < 10
    assert _growth("stored", 20) > 70
