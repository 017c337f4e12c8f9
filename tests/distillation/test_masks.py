"""In the place of learned weights: pruning, the progressive mask, frozen random weights. And the entropic pull."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medidistill.config import ImportanceConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.weights import make_weights
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

LAYOUT = ParameterLayout.of(nn.Linear(4, 2))
P = len(LAYOUT)
ALL = torch.ones(P, dtype=torch.bool)


def made(moving: Tensor = ALL, seed: int = 0, **settings: object) -> ImportanceWeights:
    return make_weights(LAYOUT, ImportanceConfig(**settings), moving, seed)


def tensors(*values: list[float]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


RESIDUAL = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
MOVEMENT = [4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 4.0, 4.0, 4.0, 2.0]


def segment() -> tuple[Tensor, Tensor, Tensor]:
    """End, target and start with the residuals and movements above."""
    residual, movement = tensors(RESIDUAL, MOVEMENT)
    target = torch.zeros(P, dtype=torch.float64)
    return residual, target, movement


@pytest.mark.parametrize(("by", "dropped"), [("residual", [8, 9]), ("movement", [5, 9])])
def test_pruning_by_hand(by: str, dropped: list[int]) -> None:
    weights = made(kind="prune", prune_by=by, prune_share=0.2)
    loss, gradient, parts = weights.matching_loss(*segment())
    kept = [j for j in range(P) if j not in dropped]
    scale = sum(MOVEMENT[j] ** 2 for j in kept)
    assert float(loss) == pytest.approx(sum(RESIDUAL[j] ** 2 for j in kept) / scale)
    assert gradient.tolist() == pytest.approx([2 * RESIDUAL[j] / scale if j in kept else 0.0 for j in range(P)])
    assert weights.vector().tolist() == [float(j in kept) for j in range(P)]
    before = weights.state().clone()
    weights.update(parts)
    assert torch.equal(weights.state(), before)
    assert weights.effective_share() == pytest.approx(0.8)


def test_pruning_nothing_is_mtt_and_what_never_moves_is_not_pruned() -> None:
    end, target, start = segment()
    loss, gradient, _ = made(kind="prune", prune_share=0.0).matching_loss(end, target, start)
    plain, plain_slope, _ = made(enabled=False).matching_loss(end, target, start)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(gradient, plain_slope)
    moving = ALL.clone()
    moving[9] = False  # the largest residual
    weights = made(moving, kind="prune", prune_share=0.2)
    weights.matching_loss(end, target, start)
    assert torch.nonzero(weights.vector() == 0).flatten().tolist() == [8]


def test_progressive_mask_grows_with_the_steps_and_never_shrinks() -> None:
    # the mean squared movement is (8 * 16 + 1 + 4) / 10 = 13.3: limits 1.33 -> d = 1; 13.3 -> d <= 3; 133 -> all
    weights = made(kind="progressive", threshold=0.1, growth=10.0, growth_every=2)
    end, target, start = segment()
    sizes = []
    for _ in range(5):
        loss, gradient, parts = weights.matching_loss(end, target, start)
        sizes.append(int(weights.vector().sum()))
        weights.update(parts)
    assert sizes == [1, 1, 3, 3, 10]
    again = made(kind="progressive")
    again.load_state(weights.state())
    assert again.steps == 5
    again.matching_loss(end + 100, target, start)  # nothing is below the threshold now
    assert int(again.vector().sum()) == 10
    assert float(loss) == pytest.approx(sum(r**2 for r in RESIDUAL) / sum(m**2 for m in MOVEMENT))
    torch.testing.assert_close(gradient, 2 * end / start.square().sum())


def test_an_empty_mask_gives_no_loss_and_no_gradient() -> None:
    loss, gradient, _ = made(kind="progressive", threshold=1e-6).matching_loss(*segment())
    assert float(loss) == 0
    assert float(gradient.abs().max()) == 0


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_random_weights_are_drawn_once_bounded_and_frozen(granularity: str) -> None:
    weights = made(kind="random", spread=3.0, granularity=granularity)
    w = weights.vector()
    assert float(w.square().mean()) == pytest.approx(1, abs=1e-6)
    assert float(w.min()) >= 0.1 - 1e-9
    assert float(w.max()) <= 10 + 1e-9
    assert float(w.std()) > 0.01
    weights.update(weights.matching_loss(*segment())[2])
    assert torch.equal(weights.vector(), w)
    assert torch.equal(made(kind="random", spread=3.0, granularity=granularity).vector(), w)
    assert not torch.equal(made(kind="random", spread=3.0, granularity=granularity, seed=1).vector(), w)
    assert bool((made(kind="random", spread=0.0).vector() == 1).all())


@pytest.mark.parametrize(("direction", "sign"), [("descend", -1), ("ascend", 1)])
def test_the_entropic_optimum_is_the_closed_form(direction: str, sign: int) -> None:
    # w_j^2 proportional to exp(-P d_j^2 / (tau Z)), mean(w^2) = 1
    generator = stream(0, "d")
    end = torch.rand(P, generator=generator, dtype=torch.float64)
    start, target = torch.ones(P, dtype=torch.float64), torch.zeros(P, dtype=torch.float64)
    weights = made(constraint="entropic", direction=direction, tau=0.7, lr=0.05, w_min=1e-3, w_max=1e3)
    for _ in range(3000):
        weights.update(weights.matching_loss(end, target, start)[2])
    expected = torch.softmax(sign * P * end.square() / (0.7 * P), dim=0) * P
    torch.testing.assert_close(weights.vector().square(), expected, rtol=1e-4, atol=1e-6)


def test_the_entropic_optimum_of_whole_tensors_is_the_closed_form_too() -> None:
    end = torch.cat([torch.full((8,), 0.9), torch.full((2,), 0.2)]).double()
    start, target = torch.ones(P, dtype=torch.float64), torch.zeros(P, dtype=torch.float64)
    weights = made(
        constraint="entropic", direction="descend", tau=0.7, lr=0.05, granularity="tensor", w_min=1e-3, w_max=1e3
    )
    for _ in range(3000):
        weights.update(weights.matching_loss(end, target, start)[2])
    square = torch.softmax(-end.square() / 0.7, dim=0) * P
    torch.testing.assert_close(weights.vector().square(), square, rtol=1e-4, atol=1e-6)


def test_a_strong_pull_keeps_all_weights_alike_where_none_lets_them_go() -> None:
    def share(**settings: object) -> float:
        weights = made(lr=0.05, direction="descend", **settings)
        for _ in range(300):
            weights.update(weights.matching_loss(*segment())[2])
        return weights.effective_share()

    strong, weak = (share(constraint="entropic", tau=tau) for tau in (5.0, 0.5))
    assert strong > 0.8
    assert strong > weak > share(constraint="unit_mean_square")


def test_a_pull_that_would_overshoot_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lr \* tau must be <= 0.25"):
        ImportanceConfig(constraint="entropic", tau=100.0, lr=0.01)
