"""Weights on network parameters by name, and what they begin with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medidistill.config import DistillConfig, ImportanceConfig
from medidistill.distillation.continuations import Continuations
from medidistill.distillation.fisher import mean_diagonal_fisher
from medidistill.distillation.hypergradient import HypergradientWeights
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.inverse_variance import InverseVarianceWeights
from medidistill.distillation.progressive_mask import ProgressiveMask
from medidistill.distillation.pruning import ParameterPruning
from medidistill.distillation.random_weights import RandomWeights
from medidistill.distillation.residual_drop import ResidualDrop
from medidistill.distillation.scale_free import ScaleFreeWeights
from medidistill.distillation.shuffled_weights import ShuffledWeights
from medidistill.distillation.trajectory import Experts
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

__all__ = ["WeightInputs", "begin_weights", "make_weights"]

_PLAIN: dict[str, type[ImportanceWeights]] = {
    "learned": ImportanceWeights,
    "scale_free": ScaleFreeWeights,
    "prune": ParameterPruning,
    "residual_drop": ResidualDrop,
    "progressive": ProgressiveMask,
    "inverse_variance": InverseVarianceWeights,
    "hypergradient": HypergradientWeights,
}
_DRAWN: dict[str, type[RandomWeights | ShuffledWeights]] = {"random": RandomWeights, "shuffled": ShuffledWeights}


def make_weights(layout: ParameterLayout, config: ImportanceConfig, moving: Tensor, seed: int) -> ImportanceWeights:
    """Return the weights that `config.kind` names.

    Args:
        layout: order of the parameters.
        config: kind and its settings; with `enabled` off all weights are 1 whatever the kind.
        moving: (P,) bool, elements that experts move.
        seed: of weights that are drawn, stream (seed, "weights").
    """
    if not config.enabled:
        return ImportanceWeights(layout, config, moving)
    if config.kind in _DRAWN:
        return _DRAWN[config.kind](layout, config, moving, stream(seed, "weights"))
    return _PLAIN[config.kind](layout, config, moving)


@dataclass(frozen=True)
class WeightInputs:
    """What weights may begin with.

    Args:
        experts: the pool.
        network: of its architecture, on `device`.
        config: which epochs are starts and targets.
        real: normalised training images (N, C, H, W) and labels (N,); None where they were not given.
        continuations: of the pool; None where nothing is trained on from its snapshots.
        seed: of drawn snapshots and images, streams (seed, "fisher") and (seed, "variance").
        device: where to compute.
    """

    experts: Experts
    network: nn.Module
    config: DistillConfig
    real: tuple[Tensor, Tensor] | None
    continuations: Continuations | None
    seed: int
    device: torch.device


def begin_weights(weights: ImportanceWeights, given: WeightInputs) -> None:
    """Move `weights` to what the settings ask for: Fisher information, or the variance of continuations.

    Raises:
        ConfigError: the Fisher information without real images.
    """
    config = given.config
    if config.importance.starts_at_fisher:
        if given.real is None:
            raise ConfigError("distill.importance.start='fisher' needs the real images; use start='ones'")
        targets = range(config.min_start + config.expert_epochs, config.max_start + config.expert_epochs)
        drawn = stream(given.seed, "fisher")
        weights.init_from_fisher(
            mean_diagonal_fisher(given.experts, given.network, targets, given.real, drawn, given.device)
        )
    if isinstance(weights, InverseVarianceWeights) and given.continuations is not None:
        starts = range(config.min_start, config.max_start)
        weights.init_from_variance(given.continuations.relative_variance(starts, stream(given.seed, "variance")))
