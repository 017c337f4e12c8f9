"""The model of the same epsilon that stands beside a private set."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from medidistill.config import DistillConfig, DPConfig, ExpertConfig, NetworkConfig
from medidistill.evaluate import run_arm
from medidistill.pipeline.comparison.private_rival import _subtract_log_prior, private_rival
from medidistill.pipeline.work import RunContext
from medidistill.privacy.accounting import SubsampledGaussian, epsilon_spent

from .comparison_example import ready_run


def _scored(run: RunContext, sigma: float) -> float:
    dp = DPConfig(
        enabled=True,
        noise_multiplier=sigma,
        clip=1.0,
        sampling_rate=1.0,  # what is not sampled is accounted for in a moment
        expected_patients=20,
        steps_per_epoch=10,
    )
    config = dataclasses.replace(run.config, experts=ExpertConfig(count=1, epochs=10, lr=0.3, dp=dp))
    data = run.data()
    arm = private_rival(config, data, ("iadd",))
    assert arm.candidates[0].steps == 100
    val = data.normalisation.apply(data.val.images)
    network = NetworkConfig(width=8, depth=2)
    found = run_arm(
        arm,
        network=network,
        val_images=val,
        val_labels=data.val.labels,
        test_images=None,
        num_classes=2,
        networks=2,
        seed=0,
    )
    return found.val_score


def test_it_learns_from_the_patients_as_far_as_the_noise_lets_it(tmp_path):
    run = ready_run(tmp_path / "run", arms=("full",))
    assert _scored(run, 0.01) > 0.9
    assert _scored(run, 300.0) < 0.85


def test_it_costs_what_noise_that_is_set_costs_the_sets(tmp_path):
    run = ready_run(tmp_path / "run", arms=("full",))
    dp = DPConfig(enabled=True, noise_multiplier=2.0, sampling_rate=1.0, steps_per_epoch=2)
    experts = ExpertConfig(count=1, epochs=5, dp=dp)
    config = dataclasses.replace(run.config, experts=experts, distill=DistillConfig(max_start=2))

    def spent(*mechanisms):
        return epsilon_spent([SubsampledGaussian(*one) for one in mechanisms], dp.delta)

    found = {}
    for methods, of_sets in ((("dp_stats",), spent((2.0, 1.0, 1))), (("dp_stats", "iadd"), spent((2.0, 1.0, 10)))):
        info = private_rival(config, run.data(), methods).info
        found[methods] = info["epsilon"]
        assert info["epsilon"] == of_sets
        # beside the steps there are the classes' numbers of patients
        assert 0.85 * of_sets < spent((info["noise_multiplier"], 1.0, 10)) < of_sets
    assert found[("dp_stats", "iadd")] != pytest.approx(found[("dp_stats",)], rel=0.01)


def test_noise_that_protects_nobody_is_taken_as_it_is(tmp_path):
    run = ready_run(tmp_path / "run", arms=("full",))
    dp = DPConfig(enabled=True, noise_multiplier=0.01)
    config = dataclasses.replace(run.config, experts=ExpertConfig(count=1, dp=dp))
    info = private_rival(config, run.data(), ("iadd",)).info
    assert info["noise_multiplier"] == 0.01
    assert "epsilon" not in info


def test_a_rare_class_is_held_to_be_as_likely_as_any_other():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Identity())
    x = torch.randn(5, 1, 2, 2)
    before = network(x).detach()
    counts = torch.tensor([10.0, 30.0, 60.0])
    _subtract_log_prior(network, counts)
    shares = torch.softmax(network(x).detach(), 1) * counts
    torch.testing.assert_close(shares / shares.sum(1, keepdim=True), torch.softmax(before, 1))
