"""The words that every page, report and card share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = [
    "VERDICT_QUESTION",
    "TrainedArm",
    "arm_words",
    "criteria_note",
    "images_per_class",
    "method_words",
    "origin_words",
    "row_words",
    "start_words",
]

VERDICT_QUESTION = "May I train on this set instead of the real X-rays?"
_ACRONYMS = {"bptt", "datm", "dc", "dm", "dp", "dsa", "ftd", "iadd", "mtt", "pp"}
_STARTS = {"noise": "noise", "gaussian": "draws of class Gaussians", "mixture": "draws of Gaussians of patient groups"}
_SUBSETS = ("random", "kmeans", "herding")  # as many real images as the distilled set has
_BUNDLE = "bundle-"


def method_words(method: str) -> str:
    """Return a method as people write it, for example `IADD warm`."""
    return " ".join(part.upper() if part in _ACRONYMS else part for part in method.split("_"))


def arm_words(arm: str, images_per_class: int = 0) -> str:
    """Return what the networks of an arm were trained on, for example `10 random real X-rays per class`.

    Args:
        arm: as tables name it, for example `random`.
        images_per_class: of the distilled set; 0 where that is not known.
    """
    real = f"real X-ray{'' if images_per_class == 1 else 's'}"
    count, ending = (str(images_per_class), " per class") if images_per_class else ("as many", "")
    known = {
        "full": "all real X-rays",
        "dp_full": "all real X-rays with differential privacy",
        "packed": "random real X-rays in as many bytes",
        "random": f"{count} random {real}{ending}",
        "kmeans": f"{count} {real}{ending} chosen by k-means",
        "herding": f"{count} {real}{ending} chosen by herding",
    }
    if arm in known:
        return known[arm]
    if arm.startswith(_BUNDLE):
        return f"bundle {arm.removeprefix(_BUNDLE)}"
    return f"distilled images ({method_words(arm)})"


class TrainedArm(Protocol):
    """A row of a comparison, as far as its words need it."""

    @property
    def arm(self) -> str:
        """Name of the arm."""

    @property
    def training_images(self) -> int:
        """Number of images trained on."""


def row_words(row: TrainedArm, classes: int) -> str:
    """Return `arm_words` of a row of a comparison.

    Args:
        row: the row.
        classes: number of classes.
    """
    return arm_words(row.arm, row.training_images // max(1, classes) if row.arm in _SUBSETS else 0)


def images_per_class(rows: Iterable[TrainedArm], classes: int) -> int:
    """Return how many images of each class the distilled sets of a comparison have, as its subsets of real images tell.

    Args:
        rows: of the comparison.
        classes: number of classes.

    Returns:
        0 where no such subset was compared; then no arm is named by its number.
    """
    return next((row.training_images // max(1, classes) for row in rows if row.arm in _SUBSETS), 0)


def start_words(init: str) -> str | None:
    """Return what distilled images began as, None where that may have been real ones.

    Args:
        init: of a set's recipe; a merged set states several.
    """
    starts = init.split(", ")
    return " and ".join(_STARTS[one] for one in starts) if set(starts) <= set(_STARTS) else None


def origin_words(init: str, steps: int | None) -> str | None:
    """Return how distilled images were made, None where they may have begun as real ones.

    Args:
        init: as `start_words`.
        steps: outer steps behind the images; 0: they are as they began. None: not stated.
    """
    start = start_words(init)
    if start is None:
        return None
    return f"optimised from {start}" if steps != 0 else f"{start}, not optimised"


def criteria_note(architecture: str, confidence: float) -> str:
    """Return what stands below the criteria of a verdict.

    Args:
        architecture: of the networks that were trained.
        confidence: level of the intervals, in (0, 1).
    """
    return (
        f"Means over fresh {architecture} networks; in brackets {100 * confidence:g} % intervals over patients and "
        "networks, paired. Red: one criterion is refuted. Green: all are met and nothing is missing."
    )
