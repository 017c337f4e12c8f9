"""Weights on network parameters by name."""

from __future__ import annotations

from torch import Tensor

from medidistill.config import ImportanceConfig
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.progressive_mask import ProgressiveMask
from medidistill.distillation.pruning import ParameterPruning
from medidistill.distillation.random_weights import RandomWeights
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

__all__ = ["make_weights"]


def make_weights(layout: ParameterLayout, config: ImportanceConfig, moving: Tensor, seed: int) -> ImportanceWeights:
    """Return the weights that `config.kind` names.

    Args:
        layout: order of the parameters.
        config: kind and its settings; with `enabled` off all weights are 1 whatever the kind.
        moving: (P,) bool, elements that experts move.
        seed: of random weights, stream (seed, "weights").
    """
    if config.enabled and config.kind == "prune":
        return ParameterPruning(layout, config, moving)
    if config.enabled and config.kind == "progressive":
        return ProgressiveMask(layout, config, moving)
    if config.enabled and config.kind == "random":
        return RandomWeights(layout, config, moving, stream(seed, "weights"))
    return ImportanceWeights(layout, config, moving)
