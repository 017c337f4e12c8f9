"""The history of a distillation, `history.json`: one entry an outer step.

Dictionaries that are checked by type alone, not dataclasses: an entry is written and read by the core, which needs no
library for it, and holds what its step happened to measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NotRequired, TypeAlias, TypedDict

__all__ = ["HistoryEntry", "RollBack", "Series"]

Series: TypeAlias = Literal["loss", "alpha", "score", "effective_sample_size"]
"""A number of an entry that is drawn over the outer steps."""


class HistoryEntry(TypedDict):
    """One outer step.

    Args:
        step: its number, from 1.
        loss: what it lowered; of matching: 1 where nothing was learned.
        alpha: learned rate of inner steps.
        seconds: that it took.
        score: on validation, at steps that were scored.
        effective_sample_size: share of the parameters that W leaves in effect, in (0, 1].
        w: tensor of the network -> `min`, `q25`, `median`, `q75`, `max` of W, at steps that logged it.
    """

    step: int
    loss: float
    alpha: NotRequired[float]
    seconds: NotRequired[float]
    score: NotRequired[float]
    effective_sample_size: NotRequired[float]
    w: NotRequired[Mapping[str, Mapping[str, float]]]


class RollBack(TypedDict):
    """A step that failed: its number, what was wrong, and the step that the loop went back to."""

    step: int
    problem: str
    back_to: int
