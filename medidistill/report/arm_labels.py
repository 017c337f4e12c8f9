"""Arms in words for pictures and tables of the clinical comparison, which is plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from medidistill.words import arm_words, images_per_class

__all__ = ["arm_label", "arm_labels", "drawn_label", "model_label", "with_images_per_class"]

_KEY = "images_per_class"
_LETTERS = 26  # a line of a label in a picture


def with_images_per_class(clinical: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a clinical comparison that also says how many images of each class the distilled sets have."""
    return {**clinical, _KEY: images_per_class(comparison) if comparison else 0}


def arm_label(clinical: Mapping[str, Any], arm: str) -> str:
    """Return what the networks of an arm were trained on."""
    return arm_words(arm, clinical.get(_KEY, 0))


def arm_labels(clinical: Mapping[str, Any], arms: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the words of several arms, or of the first sides of differences."""
    return [arm_label(clinical, arm["arm"]) for arm in arms]


def model_label(clinical: Mapping[str, Any], model: str) -> str:
    """Return the same for a model as the tables of subgroups name it: `arm`, or `arm, architecture`."""
    arm, *architecture = model.split(", ")
    return ", ".join([arm_label(clinical, arm), *architecture])


def drawn_label(words: str, letters: int = _LETTERS) -> str:
    """Return a label in lines of at most `letters`, for the axes and legends of pictures."""
    return "\n".join(textwrap.wrap(words, letters, break_long_words=False))
