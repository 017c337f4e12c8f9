"""How well a model does for women and men, young and old, this site and that, where there are enough of them to say.

A group below `min_patients` is hidden, and a class within a group where fewer than `min_positives` patients have
it: figures of five patients are noise, and counts of five can point at one. Complementary cells are hidden until
no hidden count follows from the rest (`medidistill.evaluate.clinical.suppression`). An area is shown only
where its class and the total of its group are. Areas are rounded to three decimals, for exact ones give counts away.

Tables of several columns are protected together as far as they share a group or a class within one (age and sex
missing for the same images): what one hides, none shows. Sums over several groups of another column are not looked at.

An empty value of a column is the group `unknown`. Small differences between groups are expected by chance alone:
of twenty 95 % intervals one misses. Look at the limits, not at the order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, as_patients
from medidistill.evaluate.clinical.delong import auroc_interval
from medidistill.evaluate.clinical.suppression import suppress
from medidistill.results.clinical import SubgroupRow
from medidistill.statistics import SUPPRESSED, Interval, Suppressed, Undefined

__all__ = ["SUPPRESSED", "UNKNOWN", "age_bands", "subgroup_table", "subgroup_tables"]

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


@dataclass(frozen=True)
class _Column:
    """The groups of one column: names (L,), membership (L, N), counts (L, K), what is too small to show (L, K + 1)."""

    levels: npt.NDArray[np.str_]
    member: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.int64]
    small: npt.NDArray[np.bool_]


def subgroup_tables(
    labels: npt.ArrayLike,
    probabilities: Mapping[str, npt.NDArray[np.float64]],
    patient_ids: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
    class_names: Sequence[str],
    *,
    min_patients: int = 20,
    min_positives: int = 10,
    confidence: float = 0.95,
) -> dict[str, tuple[SubgroupRow, ...]]:
    """Return a table a column, one entry a group, in order of name.

    Args:
        labels: (N,) integers in 0..K-1.
        probabilities: model -> (N, K); empty for counts alone.
        patient_ids: N identifiers; they do not enter the result.
        columns: column -> N names; empty or missing is `unknown`.
        class_names: K names.
        min_patients: smallest group that is shown, >= 2.
        min_positives: fewest patients of a class for its count to be shown, >= 2.
        confidence: of the areas' limits.

    Raises:
        ConfigError: lengths that differ, minima below two.
    """
    y = np.asarray(labels)
    patients = as_patients(patient_ids, len(y))
    found = {}
    for column, groups in columns.items():
        if len(groups) != len(y) or min(min_patients, min_positives) < 2:
            raise ConfigError(
                f"{column}: {len(groups)} groups for {len(y)} images, min_patients={min_patients}, "
                f"min_positives={min_positives}: one group an image, minima >= 2"
            )
        found[column] = _column(y, patients, groups, len(class_names), min_patients, min_positives)
    hidden = _hidden_together(y, found, min_positives)

    def area(
        group: npt.NDArray[np.bool_], hides: npt.NDArray[np.bool_], k: int, p: npt.NDArray[np.float64]
    ) -> Interval | Undefined | Suppressed:
        without = len(np.unique(patients[group & (y != k)]))
        if hides[k] or hides[-1] or without < min_positives:
            return SUPPRESSED
        try:
            one = auroc_interval(y[group] == k, p[group, k], patients[group].tolist(), confidence=confidence)
        except UndefinedError as error:
            return Undefined(str(error))  # an exact estimate could give counts away
        return Interval(round(one.estimate, 3), round(one.low, 3), round(one.high, 3))

    return {
        column: tuple(
            SubgroupRow(
                group=str(level),
                images=SUPPRESSED if hides[-1] else int(counts.sum()),
                counts={name: SUPPRESSED if hides[k] else int(counts[k]) for k, name in enumerate(class_names)},
                auroc={
                    model: {name: area(group, hides, k, p) for k, name in enumerate(class_names)}
                    for model, p in probabilities.items()
                },
            )
            for level, group, counts, hides in zip(one.levels, one.member, one.counts, hidden[column], strict=True)
        )
        for column, one in found.items()
    }


def subgroup_table(
    labels: npt.ArrayLike,
    probabilities: Mapping[str, npt.NDArray[np.float64]],
    patient_ids: Sequence[Any],
    groups: Sequence[Any],
    class_names: Sequence[str],
    **options: Any,
) -> tuple[SubgroupRow, ...]:
    """Return the table of a single column; arguments and errors as `subgroup_tables`."""
    return subgroup_tables(labels, probabilities, patient_ids, {"groups": groups}, class_names, **options)["groups"]


def _column(
    y: npt.NDArray[Any],
    patients: npt.NDArray[np.int64],
    groups: Sequence[Any],
    classes: int,
    min_patients: int,
    min_positives: int,
) -> _Column:
    names = np.array([UNKNOWN if str(one).strip().lower() in _MISSING else str(one).strip() for one in groups])
    levels = np.unique(names)
    member = names[None, :] == levels[:, None]
    counts = np.array([[int((row & (y == k)).sum()) for k in range(classes)] for row in member])
    people = np.array([[len(np.unique(patients[row & (y == k)])) for k in range(classes)] for row in member])
    everyone = np.array([len(np.unique(patients[row])) for row in member])
    few = everyone < min_patients
    return _Column(levels, member, counts, np.column_stack([(people < min_positives) | few[:, None], few]))


def _hidden_together(
    y: npt.NDArray[Any], columns: Mapping[str, _Column], width: int
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return what each column hides, so that the same images are hidden in all columns or in none."""
    places: dict[bytes, list[tuple[str, int, int]]] = defaultdict(list)
    for name, column in columns.items():
        classes = column.counts.shape[1]
        for level, group in enumerate(column.member):
            for k in range(classes + 1):
                images = group if k == classes else group & (y == k)
                if images.any():
                    places[images.tobytes()].append((name, level, k))
    shared = [cells for cells in places.values() if len({name for name, _, _ in cells}) > 1]
    small = {name: column.small.copy() for name, column in columns.items()}
    while True:
        hidden = {name: suppress(column.counts, small[name], width) for name, column in columns.items()}
        open_cells = [
            cell for cells in shared if any(hidden[n][i, k] for n, i, k in cells) for cell in cells
            if not hidden[cell[0]][cell[1], cell[2]]
        ]  # fmt: skip
        if not open_cells:
            return hidden
        for name, level, k in open_cells:
            small[name][level, k] = True
