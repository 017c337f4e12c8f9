"""The weightings that are compared with each other, as settings of `distill`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medidistill.jsontypes import ReadOnlyJsonObject  # settings that a weighting changes

__all__ = ["FAMILIES", "Family"]

RESULTS = Path(__file__).parent / "results"


def _w(**settings: object) -> ReadOnlyJsonObject:
    return {"importance": {"enabled": True, **settings}}


_OFF: ReadOnlyJsonObject = {"importance": {"enabled": False}}
_PARAMETERS: Mapping[str, ReadOnlyJsonObject] = {
    "mtt": _OFF,
    # four times the outer steps: about the time that `hypergradient` takes
    "mtt_longer": {**_OFF, "outer_steps": 1200},
    # controls: the spread of learned weights without their places
    "random": _w(kind="random"),
    "shuffled": _w(kind="shuffled"),
    # the numerator alone
    "learned_ascend": _w(direction="ascend"),
    "learned_descend": _w(direction="descend"),
    "balanced": _w(constraint="balanced", direction="descend"),
    "fisher": _w(start="fisher", lr=0.0),
    # numerator and denominator
    "scale_free_ascend": _w(kind="scale_free", direction="ascend"),
    "scale_free_descend": _w(kind="scale_free", direction="descend"),
    "drop_12": _w(kind="residual_drop", drop_share=0.125),
    "drop_25": _w(kind="residual_drop", drop_share=0.25),
    "prune_12": _w(kind="prune", prune_share=0.125),
    # the loss of real images at the student's end
    "hypergradient": _w(kind="hypergradient"),
    "hypergradient_sparse": _w(kind="hypergradient", hypergradient_every=4, lr=0.04),
    # one weight a tensor: hidden units of networks that start differently are exchangeable, elements mean nothing
    "hypergradient_tensor": _w(kind="hypergradient", granularity="tensor"),
    "hypergradient_tensor_sparse": _w(kind="hypergradient", granularity="tensor", hypergradient_every=4, lr=0.04),
    # W as `hypergradient` learned it at another seed, from the start and for good: on the same experts, or on others
    "frozen_same_pool": _w(lr=0.0),
    "frozen_other_pool": _w(lr=0.0),
    # no trajectory: the images themselves on that loss
    "real_loss": {**_OFF, "objective": "student_loss"},
    # what networks that were trained on agree on
    "inverse_variance": _w(kind="inverse_variance"),
    # other targets at w = 1
    "mean_target": {**_OFF, "target": "mean_continuation"},
    "line_target": {**_OFF, "target": "line"},
}
_SNAPSHOTS: ReadOnlyJsonObject = {
    **_OFF,
    "objective": "snapshots",
    "factor": 4,
    "init_std": 0.5,
    "lr_schedule": "cosine",
    "expert_labels": True,
    "outer_steps": 400,
    "augment": {"shift": 0.05, "scale": 0.1, "rotate": 5, "brightness": 0.1, "contrast": 0.1},
}
_FEATURES: Mapping[str, ReadOnlyJsonObject] = {
    "snapshots": _SNAPSHOTS,
    "inverse_variance": {**_SNAPSHOTS, "feature_weights": "inverse_variance"},
    "fisher_ratio": {**_SNAPSHOTS, "feature_weights": "fisher_ratio"},
    "ascend": {**_SNAPSHOTS, "feature_weights": "ascend"},
    "descend": {**_SNAPSHOTS, "feature_weights": "descend"},
    # controls: the same weights at other features
    "fisher_ratio_shuffled": {**_SNAPSHOTS, "feature_weights": "fisher_ratio", "feature_shuffle": True},
    "ascend_shuffled": {**_SNAPSHOTS, "feature_weights": "ascend", "feature_shuffle": True},
}
_FROM_SNAPSHOTS: ReadOnlyJsonObject = {"factor": 4, "soft_labels": True, "start_from": "snapshots"}
_WARM: Mapping[str, ReadOnlyJsonObject] = {
    "snapshots": _SNAPSHOTS,
    "mtt": {**_FROM_SNAPSHOTS, **_OFF},
    "learned_ascend": {**_FROM_SNAPSHOTS, **_w(direction="ascend")},
    "hypergradient": {**_FROM_SNAPSHOTS, **_w(kind="hypergradient", hypergradient_every=4, lr=0.04)},
    "real_loss": {**_FROM_SNAPSHOTS, **_OFF, "objective": "student_loss"},
}


@dataclass(frozen=True)
class Family:
    """Weightings that are compared with each other.

    Args:
        base: the one without weights.
        weightings: settings of `distill` by name.
        result: file of the result.
    """

    base: str
    weightings: Mapping[str, ReadOnlyJsonObject]
    result: Path


FAMILIES: Mapping[str, Family] = {
    "parameters": Family("mtt", _PARAMETERS, RESULTS / "weight_trial.json"),
    "warm": Family("snapshots", _WARM, RESULTS / "weight_trial_warm.json"),
    "features": Family("snapshots", _FEATURES, RESULTS / "weight_trial_features.json"),
}
