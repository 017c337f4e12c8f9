"""Scale-free weights, dropout of the smallest residuals, weights by inverse variance, and shuffled weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medidistill.config import METHODS, AugmentConfig, ImportanceConfig, NetworkConfig, RunConfig
from medidistill.distillation import InnerStep, adjoint_gradient, draw_plan
from medidistill.distillation.hypergradient import Student, half_of_each_class, real_loss_slopes
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.inverse_variance import InverseVarianceWeights
from medidistill.distillation.unroll import student_end
from medidistill.distillation.weights import make_weights
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout, make_network
from medidistill.seeding import stream

LAYOUT = ParameterLayout.of(nn.Linear(4, 2))
P = len(LAYOUT)
ALL = torch.ones(P, dtype=torch.bool)
GENERATOR = stream(0, "weightings")
RESIDUAL = torch.rand(P, generator=GENERATOR, dtype=torch.float64) + 0.1
MOVEMENT = torch.rand(P, generator=GENERATOR, dtype=torch.float64) + 0.1
ZERO = torch.zeros(P, dtype=torch.float64)
KINDS = ["learned", "scale_free", "hypergradient", "residual_drop", "inverse_variance", "shuffled"]


def made(
    moving: Tensor = ALL, seed: int = 0, layout: ParameterLayout = LAYOUT, **settings: object
) -> ImportanceWeights:
    return make_weights(layout, ImportanceConfig(**settings), moving, seed)


def uneven(**settings: object) -> ImportanceWeights:
    """W that differs from 1."""
    weights = made(**settings)
    weights.s = 0.5 * torch.randn(len(weights.s), generator=stream(1), dtype=torch.float64)
    return weights


# scale-free


def test_scale_free_at_one_is_mtt() -> None:
    loss, gradient, _ = made(kind="scale_free").matching_loss(RESIDUAL, ZERO, MOVEMENT)
    plain, slope, _ = made(enabled=False).matching_loss(RESIDUAL, ZERO, MOVEMENT)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(gradient, slope)


@pytest.mark.parametrize("direction", ["ascend", "descend"])
def test_scale_free_weights_rest_where_all_are_matched_equally_well(direction: str) -> None:
    weights = uneven(kind="scale_free", direction=direction, lr=0.1)
    weights._project(weights.count > 0)
    before = weights.state().clone()
    loss, _, parts = weights.matching_loss(0.3 * MOVEMENT, ZERO, MOVEMENT)
    assert float(loss) == pytest.approx(0.09)
    assert float(parts.abs().max()) < 1e-15
    weights.update(parts)
    torch.testing.assert_close(weights.state(), before, rtol=0, atol=1e-9)
    weights.update(weights.matching_loss(RESIDUAL, ZERO, MOVEMENT)[2])
    assert float((weights.state() - before).abs().max()) > 1e-3


@pytest.mark.parametrize("keep_scale", [True, False])
def test_a_factor_on_all_weights_changes_nothing(keep_scale: bool) -> None:
    one = uneven(kind="scale_free", keep_scale=keep_scale)
    other = uneven(kind="scale_free", keep_scale=keep_scale)
    other.s = one.s + 0.7
    for ours, theirs in zip(*(w.matching_loss(RESIDUAL, ZERO, MOVEMENT) for w in (one, other)), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert float(one.matching_loss(RESIDUAL, ZERO, MOVEMENT)[2].sum()) == pytest.approx(0, abs=1e-12)
    plain = uneven(kind="learned"), uneven(kind="learned")
    plain[1].s = plain[0].s + 0.7
    assert float(plain[1].matching_loss(RESIDUAL, ZERO, MOVEMENT)[0]) > 3 * float(
        plain[0].matching_loss(RESIDUAL, ZERO, MOVEMENT)[0]
    )


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_scale_free_parts_are_half_the_gradient_of_the_loss(granularity: str) -> None:
    weights = uneven(kind="scale_free", granularity=granularity)
    s = weights.s.clone().requires_grad_()
    square = torch.exp(2 * s)[weights.group]
    loss = (square * RESIDUAL.square()).sum() / (square * MOVEMENT.square()).sum()
    (expected,) = torch.autograd.grad(loss, s)
    found, _, parts = weights.matching_loss(RESIDUAL, ZERO, MOVEMENT)
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(torch.zeros_like(expected).index_add_(0, weights.group, 2 * parts), expected)


@pytest.mark.parametrize(("direction", "sign"), [("ascend", 1), ("descend", -1)])
def test_scale_free_weights_move_with_the_relative_residual(direction: str, sign: int) -> None:
    weights = made(kind="scale_free", direction=direction, lr=0.01)
    residual, movement = MOVEMENT.clone(), MOVEMENT.clone()
    movement[3], residual[3] = 0.01, 0.05  # small in itself, large for its movement
    movement[7], residual[7] = 2.0, 0.5  # the other way round
    weights.update(weights.matching_loss(residual, ZERO, movement)[2])
    w = weights.vector()
    others = torch.tensor([j for j in range(P) if j not in (3, 7)])
    assert sign * float(w[7] - w[others].mean()) < 0
    assert sign * float(w[3] - w[7]) > 0


def test_scale_free_terms_have_no_shares_to_balance() -> None:
    with pytest.raises(ConfigError, match="its terms have both signs"):
        ImportanceConfig(kind="scale_free", constraint="balanced", direction="descend")


# dropout of the smallest residuals


def test_the_smallest_residuals_are_dropped_from_both_sums() -> None:
    residual = torch.arange(1.0, P + 1, dtype=torch.float64)
    weights = made(kind="residual_drop", drop_share=0.25)  # 2 of 10
    loss, gradient, parts = weights.matching_loss(residual, ZERO, MOVEMENT)
    movement = float(MOVEMENT[2:].square().sum())
    assert float(loss) == pytest.approx(sum(j**2 for j in range(3, P + 1)) / movement)
    assert gradient.tolist() == pytest.approx([0.0, 0.0] + [2 * j / movement for j in range(3, P + 1)])
    assert weights.vector().tolist() == [0.0, 0.0] + [1.0] * 8
    weights.update(parts)
    weights.matching_loss(residual.flip(0), ZERO, MOVEMENT)  # anew in each sample
    assert weights.vector().tolist() == [1.0] * 8 + [0.0, 0.0]


def test_dropping_nothing_is_mtt_and_what_never_moves_is_not_dropped() -> None:
    loss, gradient, _ = made(kind="residual_drop", drop_share=0.0).matching_loss(RESIDUAL, ZERO, MOVEMENT)
    plain, slope, _ = made(enabled=False).matching_loss(RESIDUAL, ZERO, MOVEMENT)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(gradient, slope)
    moving, residual = ALL.clone(), torch.arange(1.0, P + 1, dtype=torch.float64)
    moving[0] = False  # the smallest residual
    weights = made(moving, kind="residual_drop", drop_share=0.12)
    weights.matching_loss(residual, ZERO, MOVEMENT)
    assert torch.nonzero(weights.vector() == 0).flatten().tolist() == [1]


def test_equal_relative_residuals_give_the_loss_of_mtt_whatever_is_dropped() -> None:
    for share in (0.125, 0.5):
        loss, _, _ = made(kind="residual_drop", drop_share=share).matching_loss(0.3 * MOVEMENT, ZERO, MOVEMENT)
        assert float(loss) == pytest.approx(0.09)


# inverse variance


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_inverse_variance_by_hand(granularity: str) -> None:
    weights = made(kind="inverse_variance", granularity=granularity, variance_floor=0.5)
    assert isinstance(weights, InverseVarianceWeights)
    variance = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, 0, 14], dtype=torch.float64)
    weights.init_from_variance(variance)
    spread = variance if granularity == "element" else torch.tensor([4.5] * 8 + [7.0] * 2, dtype=torch.float64)
    square = 1 / (spread + 0.5 * 5.0)
    torch.testing.assert_close(weights.vector().square(), square / square.mean())
    before = weights.vector()
    weights.update(weights.matching_loss(RESIDUAL, ZERO, MOVEMENT)[2])
    assert torch.equal(weights.vector(), before)
    other = made(kind="inverse_variance", granularity=granularity, variance_floor=0.5)
    assert isinstance(other, InverseVarianceWeights)
    other.init_from_variance(1e6 * variance)  # whatever the unit
    torch.testing.assert_close(other.vector(), before)


def test_equal_variance_is_mtt_and_bounds_hold() -> None:
    weights = made(kind="inverse_variance")
    assert isinstance(weights, InverseVarianceWeights)
    weights.init_from_variance(torch.full((P,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(weights.vector(), torch.ones(P, dtype=torch.float64))
    extreme = torch.full((P,), 1.0, dtype=torch.float64)
    extreme[0] = 0.0
    wild = made(kind="inverse_variance", variance_floor=1e-9, w_max=2.0)
    assert isinstance(wild, InverseVarianceWeights)
    wild.init_from_variance(extreme)
    assert float(wild.vector().max()) <= 2.0 + 1e-9
    assert float(wild.vector().square().mean()) == pytest.approx(1, abs=1e-9)


def test_what_does_not_move_counts_in_no_variance() -> None:
    moving = ALL.clone()
    moving[0] = False
    variance = torch.arange(P, dtype=torch.float64) + 1
    found = []
    for still in (0.0, 1e9):
        variance[0] = still
        weights = made(moving, kind="inverse_variance")
        assert isinstance(weights, InverseVarianceWeights)
        weights.init_from_variance(variance)
        found.append(weights.vector())
    torch.testing.assert_close(found[0], found[1])
    assert float(found[0][0]) == 1.0


# the same weights on other parameters


def test_shuffled_weights_learn_as_learned_ones_do_and_act_elsewhere() -> None:
    moving = ALL.clone()
    moving[4] = False
    learned, shuffled = (made(moving, kind=kind, lr=0.05) for kind in ("learned", "shuffled"))
    for _ in range(5):
        for weights in (learned, shuffled):
            weights.update(weights.matching_loss(RESIDUAL, ZERO, MOVEMENT)[2])
    assert torch.equal(learned.state(), shuffled.state())
    w, acting = learned.vector(), shuffled.vector()
    assert not torch.equal(w, acting)
    torch.testing.assert_close(w.sort().values, acting.sort().values)
    assert float(acting[4]) == 1.0
    loss, gradient, _ = shuffled.matching_loss(RESIDUAL, ZERO, MOVEMENT)
    expected = (acting.square() * RESIDUAL.square()).sum() / MOVEMENT.square().sum()
    assert float(loss) == pytest.approx(float(expected))
    assert float((gradient / RESIDUAL / acting.square()).std()) < 1e-12
    shipped = torch.cat([shuffled.by_name()[name].flatten() for name in LAYOUT.names])
    torch.testing.assert_close(shipped, acting.float())
    again = made(moving, kind="shuffled")
    again.set_weights(shuffled.by_name())
    torch.testing.assert_close(again.vector(), acting, rtol=1e-6, atol=1e-6)
    assert not torch.equal(made(moving, seed=1, kind="shuffled").source, again.source)


def test_shuffled_weights_of_whole_tensors_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be element"):
        ImportanceConfig(kind="shuffled", granularity="tensor")


# the loss of real images


def test_slopes_of_the_real_loss_are_those_of_a_step_of_the_images() -> None:
    network = make_network(
        NetworkConfig(width=2, depth=1), channels=1, image_size=8, num_classes=3, generator=stream(0, "n")
    ).double()
    layout, generator = ParameterLayout.of(network), stream(4)
    begin = layout.flatten(network)
    size = len(begin)
    target = begin + 0.1 * torch.randn(size, generator=generator, dtype=torch.float64)
    images = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    real = torch.randn(9, 1, 8, 8, generator=generator, dtype=torch.float64), torch.arange(9) % 3
    loop = (torch.eye(3, dtype=torch.float64).repeat(2, 1), torch.tensor(0.3, dtype=torch.float64))
    plan, step = draw_plan(6, 3, 4, AugmentConfig(shift=0.1), generator), InnerStep(network)
    diagonal = torch.rand(images.shape, generator=generator, dtype=torch.float64) + 0.5
    s = 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)

    def end_loss(square: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        return lambda end: ((square * (end - target).square()).sum(), 2 * square * (end - target))

    def real_loss(s: Tensor) -> float:
        """F after one small step of the images under the weights exp(s)."""
        made = adjoint_gradient(step, begin, images, *loop, plan, end_loss(torch.exp(2 * s)))
        moved = images - 1e-4 * diagonal * made.images
        return float(step.gradient(adjoint_gradient(step, begin, moved, *loop, plan, end_loss(s)).end, *real)[0])

    h = 1e-3
    units = torch.eye(size, dtype=torch.float64)
    differences = [(real_loss(s + h * one) - real_loss(s - h * one)) / (2 * h) for one in units]
    expected = torch.tensor(differences, dtype=torch.float64)
    end, moved = student_end(step, begin, images, *loop, plan, diagonal)
    torch.testing.assert_close(end, adjoint_gradient(step, begin, images, *loop, plan, end_loss(s)).end)
    # < J v, c > = < v, J^T c >
    made = adjoint_gradient(step, begin, images, *loop, plan, lambda end: (end.sum(), target))
    assert float(moved @ target) == pytest.approx(float((made.images * diagonal).sum()), rel=1e-9)
    student = Student(step, begin, images, *loop, plan, end)
    found = real_loss_slopes(student, target, torch.exp(2 * s), real, lambda g: diagonal * g, adjoint_gradient)
    torch.testing.assert_close(found, expected / expected.abs().sum(), rtol=2e-2, atol=2e-4)
    assert bool((found > 0).any())
    assert bool((found < 0).any())


def test_weights_descend_the_real_loss_whatever_the_direction() -> None:
    slopes = torch.tensor([0.5, -0.5] + [0.0] * 8, dtype=torch.float64)
    for direction in ("ascend", "descend"):
        weights = made(kind="hypergradient", direction=direction, lr=0.01)
        weights.update(slopes)
        w = weights.vector()
        assert float(w[0]) < float(w[2]) < float(w[1])
        assert weights.config.direction == "descend"


def test_the_half_is_fixed_and_holds_every_class() -> None:
    images, labels = torch.arange(20.0).view(-1, 1, 1, 1), torch.arange(20) % 3
    kept = [half_of_each_class(images, labels, 3, seed, torch.device("cpu")) for seed in (0, 0, 1)]
    assert [len(members) for members in kept[0].members] == [4, 4, 3]  # of 7, 7 and 6
    assert torch.equal(kept[0].images, kept[1].images)
    assert not torch.equal(kept[0].images, kept[2].images)
    drawn = kept[0].draw(1, 50, stream(0))
    assert set(drawn.flatten().long().tolist()) <= {int(i) for i in kept[0].images.flatten() if int(i) % 3 == 1}


# all of them


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_images_agrees_with_finite_differences(kind: str) -> None:
    network = make_network(
        NetworkConfig(width=3, depth=2), channels=1, image_size=8, num_classes=3, generator=stream(0, "n")
    ).double()
    layout, generator = ParameterLayout.of(network), stream(0, kind)
    begin = layout.flatten(network)
    target = begin + 0.1 * torch.randn(len(begin), generator=generator, dtype=torch.float64)
    images = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    plan = draw_plan(6, 3, 4, AugmentConfig(shift=0.1), generator)
    alpha, step = torch.tensor(0.3, dtype=torch.float64), InnerStep(network)
    weights = made(torch.ones(len(begin), dtype=torch.bool), layout=layout, kind=kind, keep_scale=False)
    if kind != "residual_drop":
        weights.s = 0.5 * torch.randn(len(weights.s), generator=generator, dtype=torch.float64)

    def solve(images: Tensor) -> tuple[float, Tensor]:
        found = adjoint_gradient(
            step, begin, images, labels, alpha, plan, lambda end: weights.matching_loss(end, target, begin)[:2]
        )
        return found.loss, found.images

    direction, h = torch.randn(images.shape, generator=generator, dtype=torch.float64), 1e-6
    slope = (solve(images + h * direction)[0] - solve(images - h * direction)[0]) / (2 * h)
    assert float((solve(images)[1] * direction).sum()) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_has_the_same_weights(kind: str) -> None:
    one = uneven(kind=kind) if kind != "residual_drop" else made(kind=kind)
    one.matching_loss(RESIDUAL, ZERO, MOVEMENT)
    other = made(kind=kind)
    other.load_state(one.state())
    assert torch.equal(one.vector(), other.vector())


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("iadd_scale_free", "scale_free"),
        ("residual_drop", "residual_drop"),
        ("variance_w", "inverse_variance"),
        ("shuffled_w", "shuffled"),
    ],
)
def test_each_has_a_method(method: str, kind: str) -> None:
    settings = RunConfig().distill_by(method)
    assert (settings.importance.enabled, settings.importance.kind) == (True, kind)
    assert settings.importance.ascends == (kind in ("scale_free", "shuffled"))
    assert settings.continues_experts == (method == "variance_w")
    assert METHODS[method].reads == ("once, for labels, targets or weights" if method == "variance_w" else "nothing")
