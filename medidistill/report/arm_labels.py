"""Arms in words for pictures and tables of the clinical comparison."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable
from typing import Protocol

from medidistill.results.clinical import ClinicalComparison
from medidistill.results.comparison import Comparison
from medidistill.words import arm_words

__all__ = ["arm_label", "arm_labels", "drawn_label", "model_label", "with_images_per_class"]

_LETTERS = 26  # a line of a label in a picture


class NamedArm(Protocol):
    """An arm, or the first side of a difference."""

    @property
    def arm(self) -> str:
        """Name of the arm."""


def with_images_per_class(clinical: ClinicalComparison, comparison: Comparison | None) -> ClinicalComparison:
    """Return a clinical comparison that also says how many images of each class the distilled sets have."""
    return dataclasses.replace(clinical, images_per_class=comparison.images_per_class if comparison else 0)


def arm_label(clinical: ClinicalComparison, arm: str) -> str:
    """Return what the networks of an arm were trained on."""
    return arm_words(arm, clinical.images_per_class)


def arm_labels(clinical: ClinicalComparison, arms: Iterable[NamedArm]) -> list[str]:
    """Return the words of several arms, or of the first sides of differences."""
    return [arm_label(clinical, arm.arm) for arm in arms]


def model_label(clinical: ClinicalComparison, model: str) -> str:
    """Return the same for a model as the tables of subgroups name it: `arm`, or `arm, architecture`."""
    arm, *architecture = model.split(", ")
    return ", ".join([arm_label(clinical, arm), *architecture])


def drawn_label(words: str, letters: int = _LETTERS) -> str:
    """Return a label in lines of at most `letters`, for the axes and legends of pictures."""
    return "\n".join(textwrap.wrap(words, letters, break_long_words=False))
