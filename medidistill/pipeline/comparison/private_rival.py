"""`dp_full`: the model that whoever may spend the same epsilon could train on the patients themselves.

A set of images under differential privacy is worth having only beside it: the comparison of a run with DP experts
always shows it. One network takes as many noisy steps as all experts together, with their clipping, sampling and rate,
and enough noise to cost the same (epsilon, delta). A twentieth of that goes to the classes' numbers of patients, which
are taken out of what it predicts: DP-SGD counts patients, and a class with few of them and many images would hardly be
predicted. Where `experts.dp.noise_multiplier` sets the noise of the sets, their epsilon is what it costs them.

It is trained to be measured and is released by nobody, as the networks of `full` are; each of `evaluate.num_networks`
networks would cost its epsilon anew.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from medidistill.config import METHODS, RealData, RunConfig, TrainingConfig
from medidistill.evaluate import Arm
from medidistill.networks import PatientGradient, noised_class_counts, secret_generator, train_private
from medidistill.pipeline.prepared import PreparedData

__all__ = ["COUNTS_SHARE", "NAME", "fit_private", "noise_of_sets", "private_rival"]

NAME = "dp_full"
_LARGEST_EPSILON = 100.0
COUNTS_SHARE = 0.05  # of the budget, for the classes' numbers of patients


def private_rival(config: RunConfig, data: PreparedData, methods: Collection[str]) -> Arm:
    """Return the arm of a network trained on all real images by DP-SGD.

    Args:
        config: the run.
        data: prepared real images; only the training split is used here.
        methods: that make the sets it is compared with.

    Raises:
        ConfigError: the noise cannot be accounted for.
    """
    from medidistill.privacy.accounting import calibrate_noise_jointly

    experts, dp, train = config.experts, config.experts.dp, data.train
    steps = experts.count * experts.epochs * dp.steps_per_epoch
    epsilon = _epsilon_of_sets(config, steps, methods)
    sigma = of_counts = dp.noise_multiplier
    if epsilon <= _LARGEST_EPSILON:  # beyond it noise protects nobody, and need not be equal
        sigma, of_counts = calibrate_noise_jointly(
            epsilon, dp.delta, sampling_rate=dp.sampling_rate, steps=steps, share=COUNTS_SHARE
        )
    noised = dataclasses.replace(dp, noise_multiplier=sigma)

    def fit(network: nn.Module, images: Tensor, labels: Tensor) -> None:
        generator = secret_generator()
        gradient = PatientGradient(network, images, labels, train.patient_ids, noised, experts.augment, generator)
        fit_private(network, gradient, steps=steps, lr=experts.lr, of_counts=of_counts, num_classes=train.num_classes)

    training = TrainingConfig(
        steps=steps, batch_size=dp.expected_patients, lr=experts.lr, momentum=0.0, weight_decay=0.0, schedule="constant"
    )
    info = {"delta": dp.delta, "noise_multiplier": sigma, "steps": steps}
    if math.isfinite(epsilon):
        info["epsilon"] = epsilon
    return Arm(NAME, data.normalised(train.images), train.labels, (training,), info, fit)


def noise_of_sets(config: RunConfig, methods: Collection[str]) -> str:
    """Return whose noise counts where it is set and not computed from epsilon: `steps` of the experts or a `release`.

    It is `steps` where there are sets of both kinds, and empty where the noise follows from epsilon.
    """
    if not config.experts.dp.noise_multiplier:
        return ""
    released = methods and all(METHODS[name].reads is RealData.ONCE_WITH_NOISE for name in methods)
    return "release" if released else "steps"


def _epsilon_of_sets(config: RunConfig, steps: int, methods: Collection[str]) -> float:
    from medidistill.privacy.accounting import SubsampledGaussian, epsilon_spent

    dp = config.experts.dp
    if not dp.noise_multiplier:
        return dp.epsilon
    if noise_of_sets(config, methods) == "release":
        return epsilon_spent([SubsampledGaussian(dp.noise_multiplier, 1.0, 1)], dp.delta)
    return epsilon_spent([SubsampledGaussian(dp.noise_multiplier, dp.sampling_rate, steps)], dp.delta)


def fit_private(
    network: nn.Module, gradient: PatientGradient, *, steps: int, lr: float, of_counts: float, num_classes: int
) -> None:
    """Train by noisy steps, then take out the classes' noised shares among patients; `of_counts` is their sigma."""
    train_private(network, gradient, steps=steps, lr=lr)
    counts = noised_class_counts(
        gradient.labels,
        gradient.patients,
        num_classes=num_classes,
        noise_multiplier=of_counts,
        generator=gradient.generator,
    )
    _subtract_log_prior(network, counts)


def _subtract_log_prior(network: nn.Module, counts: Tensor) -> None:
    """Take the classes' shares out of what the last linear layer says."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.sub_((counts / counts.sum()).log().to(last.bias))
