"""How well a model does for women and men, young and old, this site and that, where there are enough of them to say.

A group below `min_patients` is hidden, and a class within a group where fewer than `min_positives` patients have
it: figures of five patients are noise, and counts of five can point at one. Complementary cells are hidden until
no hidden count follows from the rest (`medidistill.evaluate.clinical.suppression`). An area is shown only
where its class and the total of its group are. Areas are rounded to three decimals, for exact ones give counts away.

Each table is protected for itself. Where two columns share a group (age and sex missing for the same images), what
one table hides the other may show: publish one of them.

An empty value of a column is the group `unknown`. Small differences between groups are expected by chance alone:
of twenty 95 % intervals one misses. Look at the limits, not at the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_patients
from medidistill.evaluate.clinical.delong import auroc_interval
from medidistill.evaluate.clinical.suppression import suppress

__all__ = ["SUPPRESSED", "UNKNOWN", "age_bands", "subgroup_table"]

SUPPRESSED = "suppressed"
UNKNOWN = "unknown"
_MISSING = ("", "nan", "none", "na", "<na>")


def age_bands(ages: Sequence[Any], edges: Sequence[int] = (18, 40, 65, 80)) -> tuple[str, ...]:
    """Return the band of each age in years: `0-17`, `18-39`, ..., `80+`; `unknown` where it is missing or no number.

    Raises:
        ConfigError: edges that do not rise from above zero.
    """
    if list(edges) != sorted(set(edges)) or not edges or edges[0] <= 0:
        raise ConfigError(f"edges={tuple(edges)}: must be positive and rising")
    names = [f"{low}-{high - 1}" for low, high in zip((0, *edges[:-1]), edges, strict=True)] + [f"{edges[-1]}+"]
    found = []
    for age in ages:
        try:
            years = float(age)
        except (TypeError, ValueError):
            years = float("nan")
        found.append(names[int(np.searchsorted(edges, years, side="right"))] if years >= 0 else UNKNOWN)
    return tuple(found)


def subgroup_table(
    labels: npt.ArrayLike,
    probabilities: Mapping[str, npt.NDArray[np.float64]],
    patient_ids: Sequence[Any],
    groups: Sequence[Any],
    class_names: Sequence[str],
    *,
    min_patients: int = 20,
    min_positives: int = 10,
    confidence: float = 0.95,
) -> list[dict[str, Any]]:
    """Return one entry a group, in order of name, JSON types throughout.

    Args:
        labels: (N,) integers in 0..K-1.
        probabilities: model -> (N, K).
        patient_ids: N identifiers; they do not enter the result.
        groups: N names; empty or missing is `unknown`.
        class_names: K names.
        min_patients: smallest group that is shown, >= 2.
        min_positives: fewest patients of a class for its count to be shown, >= 2.
        confidence: of the areas' limits.

    Returns:
        `{"group", "images", "counts": {class: n}, "auroc": {model: {class: interval}}}`, in which a hidden value is
        `"suppressed"` and an undefined one `{"undefined": reason}`.

    Raises:
        ConfigError: lengths that differ, minima below two.
    """
    y = np.asarray(labels)
    patients = as_patients(patient_ids, len(y))
    if len(groups) != len(y) or min(min_patients, min_positives) < 2:
        raise ConfigError(
            f"{len(groups)} groups for {len(y)} images, min_patients={min_patients}, min_positives={min_positives}: "
            "one group an image, minima >= 2"
        )
    names = np.array([UNKNOWN if str(one).strip().lower() in _MISSING else str(one).strip() for one in groups])
    levels = np.unique(names)
    classes = np.arange(len(class_names))
    member = names[None, :] == levels[:, None]
    counts = np.array([[int((row & (y == k)).sum()) for k in classes] for row in member])
    people = np.array([[len(np.unique(patients[row & (y == k)])) for k in classes] for row in member])
    everyone = np.array([len(np.unique(patients[row])) for row in member])
    small = np.column_stack([(people < min_positives) | (everyone < min_patients)[:, None], everyone < min_patients])
    hidden = suppress(counts, small, min_positives)

    def area(row: npt.NDArray[np.bool_], level: int, k: int, p: npt.NDArray[np.float64]) -> Any:
        without = len(np.unique(patients[row & (y != k)]))
        if hidden[level, k] or hidden[level, -1] or without < min_positives:
            return SUPPRESSED
        try:
            one = auroc_interval(y[row] == k, p[row, k], patients[row].tolist(), confidence=confidence)
        except UndefinedError as error:
            return {"undefined": str(error)}  # an exact estimate could give counts away
        return {"estimate": round(one.estimate, 3), "low": round(one.low, 3), "high": round(one.high, 3)}

    return [
        {
            "group": str(name),
            "images": SUPPRESSED if hidden[level, -1] else int(counts[level].sum()),
            "counts": {
                class_name: SUPPRESSED if hidden[level, k] else int(counts[level, k])
                for k, class_name in enumerate(class_names)
            },
            "auroc": {
                model: {class_name: area(member[level], level, k, p) for k, class_name in enumerate(class_names)}
                for model, p in probabilities.items()
            },
        }
        for level, name in enumerate(levels)
    ]
