from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medidistill.config import ImportanceConfig
from medidistill.distillation import ImportanceWeights
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

NETWORK = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
LAYOUT = ParameterLayout.of(NETWORK)
P = len(LAYOUT)
MOVING = torch.ones(P, dtype=torch.bool)
MOVING[[0, 7, 30]] = False


def vectors() -> tuple[Tensor, Tensor, Tensor]:
    generator = stream(0, "w")
    end, target, start = (torch.randn(P, generator=generator, dtype=torch.float64) for _ in range(3))
    return end, target, start


def weights(**settings: object) -> ImportanceWeights:
    if settings.get("constraint") in ("none", "balanced"):
        settings = {"direction": "descend", **settings}
    return ImportanceWeights(LAYOUT, ImportanceConfig(**settings), MOVING)


def test_loss_starts_as_mtt_with_the_same_gradient() -> None:
    end, target, start = vectors()
    loss, gradient, _ = weights().matching_loss(end, target, start)
    expected = (end - target).square().sum() / (start - target).square().sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, 2 * (end - target) / (start - target).square().sum())


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_gradient_of_w_agrees_with_finite_differences_of_the_loss(granularity: str) -> None:
    end, target, start = vectors()
    subject = weights(granularity=granularity, constraint="none", lr=1e-6, keep_scale=False)
    subject.s += torch.randn(len(subject.s), generator=stream(1), dtype=torch.float64) * 0.3
    s, h = subject.s.clone(), 1e-6
    gradients = []
    for k in range(len(s)):
        values = []
        for sign in (1, -1):
            subject.s = s.clone()
            subject.s[k] += sign * h
            values.append(float(subject.matching_loss(end, target, start)[0]))
        gradients.append((values[0] - values[1]) / (2 * h))
    subject.s = s.clone()
    subject.update(subject.matching_loss(end, target, start)[2])
    members = subject.count.clamp_min(1)
    found = (s - subject.s) / 1e-6 * members / MOVING.sum()
    torch.testing.assert_close(found, torch.tensor(gradients, dtype=torch.float64), rtol=1e-4, atol=1e-8)


def test_gradient_at_the_end_agrees_with_autograd_when_the_scale_is_not_kept() -> None:
    end, target, start = vectors()
    subject = weights(granularity="element", keep_scale=False)
    subject.s += torch.randn(P, generator=stream(2), dtype=torch.float64) * 0.3
    leaf = end.clone().requires_grad_()
    w = subject.vector()
    ((w * leaf - w * target).square().sum() / (start - target).square().sum()).backward()
    torch.testing.assert_close(subject.matching_loss(end, target, start)[1], leaf.grad)


def test_kept_scale_redistributes_without_shrinking() -> None:
    end, target, start = vectors()
    subject = weights(granularity="element")
    subject.s -= 3.0
    loss, gradient, _ = subject.matching_loss(end, target, start)
    plain = 2 * (end - target) / (start - target).square().sum()
    assert float(loss) < 0.3 * float((end - target).square().sum() / (start - target).square().sum())
    inner = lambda a: float((a * (end - target)).sum())  # noqa: E731
    assert inner(gradient) == pytest.approx(inner(plain), rel=1e-12)


@pytest.mark.parametrize("granularity", ["element", "tensor"])
@pytest.mark.parametrize("direction", ["descend", "ascend"])
def test_constraint_holds_after_every_step_and_bounds_are_kept(granularity: str, direction: str) -> None:
    subject = weights(granularity=granularity, direction=direction, lr=0.3)
    end, target, start = vectors()
    for _ in range(50):
        subject.update(subject.matching_loss(end, target, start)[2])
        w = subject.vector()
        assert float(w[MOVING].square().mean()) == pytest.approx(1.0, abs=1e-6)
        assert float(w.min()) >= 0.1 - 1e-12
        assert float(w.max()) <= 10 + 1e-12
    assert float(w[MOVING].std()) > 0.1


@pytest.mark.parametrize(("direction", "sign"), [("descend", -1), ("ascend", 1)])
def test_direction_decides_which_way_hard_elements_go(direction: str, sign: int) -> None:
    subject = weights(granularity="element", direction=direction, lr=0.5)
    end, target, start = vectors()
    for _ in range(5):
        subject.update(subject.matching_loss(end, target, start)[2])
    residual = (end - target).square()[MOVING]
    correlation = torch.corrcoef(torch.stack([subject.vector()[MOVING].log(), residual]))[0, 1]
    assert sign * float(correlation) > 0.5


def test_elements_that_never_move_keep_weight_one() -> None:
    subject = weights(granularity="element", lr=2.0)
    end, target, start = vectors()
    for _ in range(10):
        subject.update(subject.matching_loss(end, target, start)[2])
    assert torch.equal(subject.vector()[~MOVING], torch.ones(3, dtype=torch.float64))
    assert float(subject.vector()[MOVING].std()) > 0.1


def test_literal_reading_only_ever_shrinks() -> None:
    subject = weights(constraint="none", lr=0.2)
    end, target, start = vectors()
    losses = []
    for _ in range(10):
        loss, _, parts = subject.matching_loss(end, target, start)
        losses.append(float(loss))
        before = subject.s.clone()
        subject.update(parts)
        assert bool((subject.s <= before).all())
    assert losses == sorted(losses, reverse=True)


def test_unbounded_growth_is_refused() -> None:
    with pytest.raises(ConfigError, match="grows without bound"):
        ImportanceConfig(constraint="none", direction="ascend")


def test_one_step_changes_a_weight_by_at_most_a_factor_e() -> None:
    subject = weights(granularity="element", constraint="none", lr=1e6)
    end, target, start = vectors()
    subject.update(subject.matching_loss(end, target, start)[2])
    assert float(subject.vector().min()) == pytest.approx(math.exp(-1))


def test_effective_share_falls_as_few_elements_take_the_weight() -> None:
    subject = weights(granularity="element")
    assert subject.effective_share() == pytest.approx(1.0)
    subject.s[1:3] = 3.0
    assert subject.effective_share() < 0.2


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_shipped_weights_are_named_and_shaped_like_the_parameters(granularity: str) -> None:
    shipped = weights(granularity=granularity).by_name()
    for name, parameter in NETWORK.named_parameters():
        assert shipped[name].shape == (parameter.shape if granularity == "element" else ())


def test_at_a_bound_the_projection_keeps_the_order_and_the_ratios_of_what_is_free() -> None:
    subject = weights(w_min=0.5, w_max=1.5)
    active = subject.count > 0
    subject.s = torch.linspace(-3, 3, len(subject.s), dtype=torch.float64)
    before = subject.s.clone()
    subject._project(active)
    w, old = torch.exp(subject.s[active]), torch.exp(before[active])
    assert float(w.square().mean()) == pytest.approx(1, abs=1e-9)
    assert w.min() == pytest.approx(0.5)
    assert w.max() == pytest.approx(1.5)
    free = (w > 0.5 + 1e-9) & (w < 1.5 - 1e-9)
    assert free.sum() >= 2
    ratio = w[free] / old[free]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)  # one common factor
    assert bool((old[w == w.min()] * ratio[0] <= 0.5 + 1e-9).all())
    assert bool((old[w == w.max()] * ratio[0] >= 1.5 - 1e-9).all())


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_balanced_weights_rest_where_every_group_has_its_share_of_the_loss(granularity: str) -> None:
    subject = weights(granularity=granularity, constraint="balanced", lr=0.05, w_min=1e-3, w_max=1e3)
    _, target, start = vectors()
    spread = torch.linspace(-1, 1, P, dtype=torch.float64).exp()
    noise = stream(5, "d")
    for step in range(3000):
        sign = torch.sign(torch.randn(P, generator=noise, dtype=torch.float64))
        parts = subject.matching_loss(target + spread * sign, target, start)[2]
        subject.update(parts, scale=1.0 if step < 2000 else 0.1)
    shares = torch.zeros_like(subject.s).index_add_(0, subject.group, parts * MOVING)
    expected = subject.count / subject.count.sum()
    torch.testing.assert_close(shares / shares.sum(), expected, rtol=1e-3, atol=0)
    w = subject.vector()
    assert float(w[MOVING].square().mean()) == pytest.approx(1)
    if granularity == "element":
        product = (w * spread)[MOVING]
        torch.testing.assert_close(product, product[:1].expand_as(product), rtol=1e-3, atol=0)


def test_balanced_weights_cannot_ascend() -> None:
    with pytest.raises(ConfigError, match="balanced"):
        ImportanceConfig(constraint="balanced", direction="ascend")


@pytest.mark.parametrize("granularity", ["element", "tensor"])
@pytest.mark.parametrize("constraint", ["unit_mean_square", "none"])
def test_w_begins_where_information_puts_it(granularity: str, constraint: str) -> None:
    information = torch.linspace(0.5, 2.0, P, dtype=torch.float64)
    information[[0, 7, 30]] = 1e6  # never moved: counts nowhere
    subject = weights(granularity=granularity, constraint=constraint, start="fisher")
    subject.init_from_fisher(information)
    square = subject.vector().square()
    assert float(square[MOVING].mean()) == pytest.approx(1)
    if granularity == "element":
        expected = information[MOVING]
    else:
        places = [place for _, place in LAYOUT.slices()]
        expected = torch.cat([information[p][MOVING[p]].mean().expand(int(MOVING[p].sum())) for p in places])
    torch.testing.assert_close(square[MOVING], expected / expected.mean())
    assert bool((subject.vector()[~MOVING] == 1).all())


def test_w_begins_within_its_bounds() -> None:
    information = torch.logspace(-12, 0, P, dtype=torch.float64)
    information[3] = 0.0
    subject = weights(start="fisher", w_min=0.5, w_max=3.0)
    subject.init_from_fisher(information)
    w = subject.vector()[MOVING]
    assert float(w.min()) >= 0.5 - 1e-12
    assert float(w.max()) <= 3.0 + 1e-12
    assert float(w.square().mean()) == pytest.approx(1)
