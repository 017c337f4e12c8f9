"""What an outer step may lower, by the name that `distill.objective` has: the one list of objectives.

A new objective is a file with a class of `Objective`, an entry here, and its name among the choices of
`DistillConfig.objective`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.combined import CombinedMatching
from medidistill.distillation.continuations import Continuations
from medidistill.distillation.distribution_matching import DistributionMatching
from medidistill.distillation.feature_weights import WeightedSnapshotMatching
from medidistill.distillation.gradient_matching import GradientMatching
from medidistill.distillation.hypergradient import half_of_each_class
from medidistill.distillation.kernel_regression import KernelRegression
from medidistill.distillation.matching import TrajectoryMatching
from medidistill.distillation.objective import Objective
from medidistill.distillation.real_batches import RealBatches
from medidistill.distillation.snapshots import SnapshotMatching
from medidistill.distillation.student_loss import StudentLoss
from medidistill.distillation.targets import make_targets
from medidistill.distillation.trajectory import Experts
from medidistill.distillation.unroll import InnerStep
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout

__all__ = ["OBJECTIVES", "ObjectiveInputs", "ObjectiveKind", "make_objective", "objective_kind"]


@dataclass(frozen=True)
class ObjectiveInputs:
    """What objectives are made from.

    Args:
        experts: the trajectories.
        config: the settings.
        step: derivatives of the student's loss.
        layout: of the network's parameters.
        seed: of random numbers that an objective draws for itself.
        device: where to compute.
        compile: compile the loss and its gradients.
        real: normalised training images and labels; None where they were not given.
        continuations: of the experts; None where nothing is trained on from their snapshots.
    """

    experts: Experts
    config: DistillConfig
    step: InnerStep
    layout: ParameterLayout
    seed: int
    device: torch.device
    compile: bool
    real: tuple[Tensor, Tensor] | None
    continuations: Continuations | None = None

    @property
    def images(self) -> tuple[Tensor, Tensor]:
        """The real images and labels. Raises `ConfigError` where they were not given."""
        if self.real is None:
            raise ConfigError(
                f"distill.objective={self.config.objective!r} with importance.kind={self.config.importance.kind!r} "
                "needs the real images; use objective='trajectory' with weights that read none"
            )
        return self.real

    @functools.cached_property
    def batches(self) -> RealBatches:
        """Batches of the real images, equally many of each class. Raises `ConfigError`."""
        return RealBatches(*self.images, self.experts.architecture.num_classes, self.device)


@dataclass(frozen=True)
class ObjectiveKind:
    """One entry of the list.

    Args:
        make: makes the objective.
        method: what a set is called that was made with it and with no other name.
        follows_segments: it starts at snapshots up to `max_start` and looks `expert_epochs` ahead.
    """

    make: Callable[[ObjectiveInputs], Objective]
    method: Callable[[DistillConfig], str]
    follows_segments: bool = False


def _trajectory(given: ObjectiveInputs) -> Objective:
    targets = make_targets(given.experts, given.config, given.continuations)
    held_out = None
    if given.config.importance.descends_real_loss:
        classes = given.experts.architecture.num_classes
        held_out = half_of_each_class(*given.images, classes, given.seed, given.device)
    matching = TrajectoryMatching(given.experts, targets, given.config, given.step, given.device, held_out)
    beta = given.config.snapshot_weight
    return CombinedMatching(matching, _snapshots(given), beta) if beta else matching


def _student_loss(given: ObjectiveInputs) -> Objective:
    return StudentLoss(given.experts.architecture.network, given.config, given.step, given.batches, given.device)


def _gradient(given: ObjectiveInputs) -> Objective:
    return GradientMatching(given.experts, given.config, given.step, given.layout, given.batches, given.device)


def _distribution(given: ObjectiveInputs) -> Objective:
    return DistributionMatching(given.experts.architecture.network, given.config, given.batches, given.device)


def _snapshots(given: ObjectiveInputs) -> Objective:
    kind = SnapshotMatching if given.config.feature_weights == "off" else WeightedSnapshotMatching
    return kind(given.experts, given.config, given.images, given.seed, given.device, compile=given.compile)


def _kernel(given: ObjectiveInputs) -> Objective:
    shape = given.experts.architecture
    return KernelRegression(
        shape.network,
        given.config,
        given.batches,
        num_classes=shape.num_classes,
        shape=(shape.channels, shape.image_size, shape.image_size),
        seed=given.seed,
        device=given.device,
        compile=given.compile,
    )


OBJECTIVES: Mapping[str, ObjectiveKind] = {
    "trajectory": ObjectiveKind(_trajectory, lambda config: "iadd" if config.importance.enabled else "mtt", True),
    "student_loss": ObjectiveKind(_student_loss, lambda _: "bptt"),
    "gradient": ObjectiveKind(_gradient, lambda _: "dsa", True),
    "distribution": ObjectiveKind(_distribution, lambda _: "dm"),
    "snapshots": ObjectiveKind(_snapshots, lambda _: "snapshots"),
    "kernel": ObjectiveKind(_kernel, lambda _: "kernel"),
}


def objective_kind(config: DistillConfig) -> ObjectiveKind:
    """Return the entry of `config.objective`. Raises `ConfigError` for one that matches no experts."""
    if config.objective not in OBJECTIVES:
        raise ConfigError(
            f"distill.objective={config.objective!r} matches no experts; use `distil_statistics` with released "
            "statistics"
        )
    return OBJECTIVES[config.objective]


def make_objective(given: ObjectiveInputs) -> Objective:
    """Return the objective of `given.config`. Raises `ConfigError` where it lacks what it needs."""
    return objective_kind(given.config).make(given)
