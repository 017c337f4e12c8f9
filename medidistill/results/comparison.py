"""What a comparison found: rows, paired differences, notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from dataclasses import dataclass

from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject
from medidistill.results import comparison_text
from medidistill.results.serialise import from_json, json_object
from medidistill.statistics import Interval
from medidistill.words import images_per_class

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
    chosen: tuple[JsonObject, ...]  # settings as the version that trained knew them
    info: tuple[JsonObject, ...]  # what the kind of arm has to tell


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

    def to_dict(self) -> JsonObject:
        """Return JSON types."""
        return json_object(self)

    @classmethod
    def from_dict(cls, value: ReadOnlyJsonObject) -> Comparison:
        """Rebuild what `to_dict` returned. Raises `ConfigError` when a field is missing or has another type."""
        return from_json(cls, value, "a comparison")

    def only(self, arms: Container[str], architecture: str) -> Comparison:
        """Return the same for some arms and one architecture."""
        return dataclasses.replace(
            self,
            rows=tuple(row for row in self.rows if row.arm in arms and row.architecture == architecture),
            differences=tuple(
                gap
                for gap in self.differences
                if gap.arm in arms and gap.minus in arms and gap.architecture == architecture
            ),
        )

    @property
    def images_per_class(self) -> int:
        """Images of each class in the distilled sets, as the subsets of real images tell; 0 where there is none."""
        return images_per_class(self.rows, len(self.class_names))

    def to_markdown(self) -> str:
        """Return the table, the differences and the notes as Markdown."""
        return comparison_text.markdown(self)

    def to_csv(self) -> str:
        """Return one line for each arm or difference, metric and class."""
        return comparison_text.csv_text(self)
