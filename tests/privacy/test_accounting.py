from __future__ import annotations

import math
from pathlib import Path

import pytest

from medidistill.errors import ConfigError, IngestError
from medidistill.privacy import Event, accounting
from medidistill.privacy.accounting import (
    SubsampledGaussian,
    calibrate_noise,
    calibrate_noise_jointly,
    epsilon_spent,
    mechanisms_of,
)
from medidistill.privacy.ledger import Ledger

from .test_statistics import gaussian_epsilon

STEP = SubsampledGaussian(1.0, 0.1, 100)


def test_both_accountants_know_the_plain_gaussian() -> None:
    for sigma in (1.0, 4.0):
        exact = gaussian_epsilon(sigma, 1e-5)
        assert exact <= epsilon_spent([SubsampledGaussian(sigma, 1.0, 1)], 1e-5) <= exact * 1.05 + 0.01


def test_everything_composes_and_sampling_helps() -> None:
    one = epsilon_spent([STEP], 1e-5)
    two = epsilon_spent([STEP, STEP], 1e-5)
    assert one < two < 2 * one
    assert two == pytest.approx(epsilon_spent([SubsampledGaussian(1.0, 0.1, 200)], 1e-5), rel=0.01)
    assert one < epsilon_spent([SubsampledGaussian(1.0, 0.2, 100)], 1e-5)


def test_an_epsilon_in_the_hundreds_is_infinite() -> None:
    with_little_noise = SubsampledGaussian(0.01, 0.5, 100)  # the accountants would need 26 GB
    assert epsilon_spent([STEP, with_little_noise], 1e-5) == math.inf
    assert 90 < epsilon_spent([SubsampledGaussian(0.1, 1.0, 1)], 1e-5) < 100


def test_the_noise_keeps_to_the_target_and_is_not_much_more_than_needed() -> None:
    sigma = calibrate_noise(2.0, 1e-5, sampling_rate=0.1, steps=50)
    assert 1.9 < epsilon_spent([SubsampledGaussian(sigma, 0.1, 50)], 1e-5) <= 2.0


def test_steps_and_a_release_beside_them_keep_to_the_target_together() -> None:
    sigma, release = calibrate_noise_jointly(2.0, 1e-5, sampling_rate=0.1, steps=50, share=0.05)
    together = [SubsampledGaussian(sigma, 0.1, 50), SubsampledGaussian(release, 1.0, 1)]
    assert 1.9 < epsilon_spent(together, 1e-5) <= 2.0
    assert sigma > calibrate_noise(2.0, 1e-5, sampling_rate=0.1, steps=50)
    assert epsilon_spent(together[1:], 1e-5) < 0.6


def test_accountants_that_disagree_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "_pld", lambda mechanisms, delta: 1.0)
    monkeypatch.setattr(accounting, "_prv", lambda mechanisms, delta: 1.03)
    assert epsilon_spent([STEP], 1e-5) == 1.03
    monkeypatch.setattr(accounting, "_prv", lambda mechanisms, delta: 1.10)
    with pytest.raises(ConfigError, match="the accountants disagree"):
        epsilon_spent([STEP], 1e-5)


def test_no_mechanism_no_epsilon() -> None:
    with pytest.raises(ConfigError, match="no epsilon exists"):
        mechanisms_of([Event("train_experts", "train", 3, "c")])
    with pytest.raises(ConfigError, match="needs at least one mechanism"):
        epsilon_spent([], 1e-5)
    parameters = {"noise_multiplier": 2.0, "sampling_rate": 0.1, "steps": 7, "delta": 1e-5}
    assert mechanisms_of([Event("train_experts", "train", 3, "c", "dp_sgd", parameters)]) == [
        SubsampledGaussian(2.0, 0.1, 7)
    ]


def test_the_ledger_adds_up_whoever_is_touched_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger(path)
    ledger.add(["a", "b"], "one", [STEP])
    ledger.add(["a", "b"], "one", [STEP])
    ledger.add(["c"], "two", [])
    again = Ledger(path)
    assert len(again.releases) == 2
    assert again.before(["b", "x"], "three") == ([STEP], 0)
    assert again.before(["c"], "three") == ([], 1)
    assert again.before(["x"], "three") == ([], 0)
    assert again.before(["a"], "one") == ([], 0)  # the same bytes again
    assert '"a"' not in path.read_text()
    path.write_text('{"releases": []}')
    with pytest.raises(IngestError, match="not a ledger"):
        Ledger(path)
