"""What a comparison found: rows, paired differences, notes. Plain values that travel as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medidistill.errors import ConfigError
from medidistill.evaluate import tables
from medidistill.evaluate.intervals import Interval

__all__ = ["Comparison", "Difference", "Row"]


@dataclass(frozen=True)
class Row:
    """One arm with one architecture.

    Args:
        arm: name of the arm.
        architecture: name of the network.
        training_images: number of images trained on.
        networks: networks trained, over all seeds.
        seeds: seeds of the whole chain.
        unit: what was drawn beside patients: `network`, or `seed` where there are several.
        balanced_accuracy: mean of the sensitivities.
        macro_auroc: mean of the one-vs-rest areas.
        sensitivity: of each class, in the order of `Comparison.class_names`.
        specificity: of each class.
        sd_balanced_accuracy: standard deviation over networks, None with one network.
        sd_macro_auroc: likewise.
        val_balanced_accuracy: mean on the validation split.
        confusion: (K, K) images by true and predicted class, summed over networks.
        chosen: training used, one a seed.
        info: of the arm, one a seed.
    """

    arm: str
    architecture: str
    training_images: int
    networks: int
    seeds: tuple[int, ...]
    unit: str
    balanced_accuracy: Interval
    macro_auroc: Interval
    sensitivity: tuple[Interval, ...]
    specificity: tuple[Interval, ...]
    sd_balanced_accuracy: float | None
    sd_macro_auroc: float | None
    val_balanced_accuracy: float
    confusion: tuple[tuple[int, ...], ...]
    chosen: tuple[dict[str, Any], ...]
    info: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Difference:
    """`arm` minus `minus` in one metric.

    Args:
        arm: name of the first arm.
        minus: name of the arm that is subtracted.
        architecture: name of the network.
        metric: `balanced_accuracy` or `macro_auroc`.
        bootstrap: paired over patients, and over networks or seeds where both arms have the same ones.
        over_units: paired t interval over networks or seeds on these test patients; None where they are not paired.
        unit: `network` or `seed`; `unpaired` where the arms have different ones.
    """

    arm: str
    minus: str
    architecture: str
    metric: str
    bootstrap: Interval
    over_units: Interval | None
    unit: str


@dataclass(frozen=True)
class Comparison:
    """The table and what it rests on. `to_dict` and `from_dict` are exact inverses; there is no NaN in it."""

    class_names: tuple[str, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    test_images: int
    test_patients: int
    bootstrap: int
    confidence: float
    seed: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        return plain

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Comparison:
        """Rebuild what `to_dict` returned. Raises `ConfigError` when a field is missing or unknown."""
        try:
            return cls(
                **dict(value)
                | {
                    "class_names": tuple(value["class_names"]),
                    "rows": tuple(_row(row) for row in value["rows"]),
                    "differences": tuple(_difference(one) for one in value["differences"]),
                    "notes": tuple(value["notes"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"not a comparison: {error}") from error

    def to_markdown(self) -> str:
        """Return the table, the differences and the notes as Markdown."""
        return tables.markdown(self.to_dict())

    def to_csv(self) -> str:
        """Return one line for each arm or difference, metric and class."""
        return tables.csv_text(self.to_dict())


def _interval(value: Mapping[str, float] | None) -> Interval | None:
    return None if value is None else Interval(**value)


def _row(value: Mapping[str, Any]) -> Row:
    whole: dict[str, Any] = {
        "seeds": tuple(value["seeds"]),
        "balanced_accuracy": _interval(value["balanced_accuracy"]),
        "macro_auroc": _interval(value["macro_auroc"]),
        "sensitivity": tuple(_interval(one) for one in value["sensitivity"]),
        "specificity": tuple(_interval(one) for one in value["specificity"]),
        "confusion": tuple(tuple(line) for line in value["confusion"]),
        "chosen": tuple(value["chosen"]),
        "info": tuple(value["info"]),
    }
    return Row(**(dict(value) | whole))


def _difference(value: Mapping[str, Any]) -> Difference:
    whole = {"bootstrap": _interval(value["bootstrap"]), "over_units": _interval(value["over_units"])}
    return Difference(**(dict(value) | whole))
