"""How close matching can come: the definitions by hand, and a whole measurement on noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import matching_limits, matching_limits_page
from benchmarks.noise_shares import (
    Residual,
    coverage_share,
    left_over,
    left_over_at_best_length,
    residual,
    total_variance,
)
from medidistill.config import NetworkConfig
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.pipeline.prepared import PreparedData
from medidistill.seeding import stream


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_what_is_left_over_by_hand() -> None:
    begin, target = vector(0, 0), vector(2, 0)
    assert left_over(begin, target, begin) == 1
    assert left_over(begin, target, vector(1, 1)) == pytest.approx(0.5)
    assert left_over_at_best_length(begin, target, vector(1, 1)) == pytest.approx(0.5)  # 45 degrees off
    assert left_over_at_best_length(begin, target, vector(9, 0)) == pytest.approx(0)
    assert left_over(begin, target, vector(4, 0)) == pytest.approx(1)


def test_noise_and_bias_are_told_apart_without_bias() -> None:
    generator = stream(0)
    spread = torch.rand(50, generator=generator, dtype=torch.float64)
    end = torch.randn(50, generator=generator, dtype=torch.float64)
    found = None
    for _ in range(2000):
        targets = spread * torch.randn(3, 50, generator=generator, dtype=torch.float64)
        one = residual(end - 1e6, targets, end)  # from far away, so that all movements are the same
        found = one if found is None else found + one
    assert found is not None
    scale = found.segments / (50 * 1e12)
    torch.testing.assert_close(found.noise / scale, spread.square(), rtol=0.1, atol=0.01)
    torch.testing.assert_close(found.square / scale, end.square() + spread.square(), rtol=0.1, atol=0.05)
    assert found.share == pytest.approx(float(spread.square().sum() / (end.square() + spread.square()).sum()), rel=0.03)
    assert total_variance(vector(1, 3)[:, None]) == pytest.approx(2)


def test_coverage_keeps_the_least_noisy_parts_of_the_loss() -> None:
    # shares .1, .5, .9 with losses 2, 1, 1
    found = Residual(vector(2, 1, 1), vector(0.2, 0.5, 0.9))
    assert found.share == pytest.approx(0.4)
    assert coverage_share(found, found, 1.0) == pytest.approx(0.4)
    assert coverage_share(found, found, 0.5) == pytest.approx(0.1)
    assert coverage_share(found, found, 0.625) == pytest.approx((0.2 + 0.25) / 2.5)  # half of the second one
    assert coverage_share(found, found, 0.5, torch.tensor([0, 0, 1])) == pytest.approx(0.7 / 3)
    other = Residual(vector(1, 1, 1), vector(0.9, 0.1, 0.1))
    assert coverage_share(found, other, 0.5) == pytest.approx(0.9)  # what was chosen elsewhere


def test_no_weights_beat_the_coverage_in_hindsight() -> None:
    generator = stream(1)
    square = torch.rand(20, generator=generator, dtype=torch.float64)
    found = Residual(square, square * torch.rand(20, generator=generator, dtype=torch.float64))
    for _ in range(500):
        u = torch.rand(20, generator=generator, dtype=torch.float64)
        kept = float((u * found.square).sum() / found.square.sum())
        share = float((u * found.noise).sum() / (u * found.square).sum())
        assert coverage_share(found, found, kept) <= share + 1e-12


def test_a_whole_measurement_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = matching_limits.FULL
    plain = dataclasses.replace(full.pools["A"].training, count=2, epochs=4, batch_size=8)
    whole = dataclasses.replace(full.pools["G"].training, count=1, epochs=4)
    scale = dataclasses.replace(
        full,
        side=16,
        network=NetworkConfig(width=4, depth=2),
        pools={
            "A": matching_limits.Pool(plain, 1, (0, 2), 2, 0),
            "B": matching_limits.Pool(plain, 1, (0, 2), 2, 1),
            "G": matching_limits.Pool(whole, 2, (0, 2), 2, 0),
        },
        distill=dataclasses.replace(
            full.distill, ipc=1, outer_steps=3, inner_steps=2, expert_epochs=1, max_start=3, compile="off"
        ),
    )
    labels = torch.arange(24) % 3
    images = (torch.rand(24, 1, 16, 16, generator=stream(0)) + labels.view(-1, 1, 1, 1)) / 4
    part = LabelledImages(images, labels, ("a", "b", "c"), tuple(str(i) for i in range(24)))
    data = PreparedData(part, part, part, Normalisation(), "made up")
    found = matching_limits.collect(scale, data, tmp_path)
    kinds = {(row["pool"], row["target"], row["start"]) for row in found["targets"]}
    assert {kind for _, kind, _ in kinds} == {"expert", "mean_continuation", "line", "whole_batches"}
    assert {start for _, _, start in kinds} == {0, 2}
    for row in found["targets"]:
        assert 0 <= row["real_best_length"] <= row["real"] + 1e-9
        assert row["order"] > 0
    for row in found["weights"]["coverage"]:
        assert 0 <= row["hindsight"] <= row["beforehand"] + 1e-9
        assert row["hindsight"] <= found["weights"]["pools"]["B"]["noise_share"] + 1e-9
    assert 0 < found["weights"]["gradient"]["ones"] < 2
    monkeypatch.setattr(matching_limits, "train_further", lambda *_: pytest.fail("trained again"))
    assert matching_limits.collect(scale, data, tmp_path) == found
    assert "| all (w = 1) |" in matching_limits_page.weights_table(found)
    assert "expert on whole batches" in matching_limits_page.targets_table({"targets": found["targets"]})
