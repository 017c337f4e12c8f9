"""May one train on the distilled set instead of the real X-rays? One verdict, from criteria stated beforehand.

The set is compared with all real training images, to which it must be *non-inferior*, and with controls (a few real
images, packed into the same bytes, drawn at random or chosen), which it must *beat*. Each comparison is a criterion:

    non-inferior   met: the interval of (set - all real images) lies above -margin
                   not met: it lies below -margin
    superior       met: the interval of (set - control) lies above 0
                   not met: it lies below 0
    undetermined   everything else, and every difference that the data do not define

Red: a criterion is not met. Green: all criteria are met, every figure that is asked for is there, and nothing is held
against them (`reservations`). Amber: all else. Green asks for all criteria at once (an intersection-union test), so
that several criteria do not raise the chance of a wrong "yes" above that of a single interval.

`Verdict.to_dict` holds the words as well, so that report, card, status and app print the same ones.

Source: Piaggio et al. 2012, JAMA 308 (non-inferiority); Berger 1982, Technometrics 24 (intersection-union tests).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from medidistill.errors import ConfigError
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject
from medidistill.results.serialise import from_json, json_object
from medidistill.results.verdict_words import describe, verdict_sentence
from medidistill.statistics import Interval

__all__ = [
    "FORMAT",
    "REFERENCE",
    "REQUIRED_CONTROL",
    "Colour",
    "Criterion",
    "DescribedCriterion",
    "Measure",
    "Outcome",
    "Question",
    "Verdict",
]

FORMAT = 1
REFERENCE = "full"  # the arm of all real training images
REQUIRED_CONTROL = "packed"  # random real images in the bytes of the set


class Colour(StrEnum):
    """The verdict in one word."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"


class Question(StrEnum):
    """What a criterion asks of a difference (set - other arm)."""

    NON_INFERIOR = "non-inferior"
    SUPERIOR = "superior"


class Outcome(StrEnum):
    """What the interval of a difference says."""

    MET = "met"
    NOT_MET = "not met"
    UNDETERMINED = "undetermined"


class Measure(StrEnum):
    """What is compared."""

    AUROC = "auroc"
    BALANCED_ACCURACY = "balanced_accuracy"
    SENSITIVITY = "sensitivity"  # at the target specificity, whose threshold validation fixed


@dataclass(frozen=True)
class Criterion:
    """One comparison of the delivered set with another arm.

    Args:
        question: non-inferior to all real images, or superior to a control.
        against: name of the other arm.
        measure: what is compared; AUROC and sensitivity are means over the classes where `finding` is empty.
        finding: the class that is meant, empty for all.
        margin: in [0, 1): how much may be lost; 0 where the set must be superior.
        patients: test patients that the interval rests on (of the class, where one is meant).
        estimate: of the set, None where it is not defined.
        reference: of the other arm, likewise.
        difference: set - other arm, paired over patients and networks or seeds; None where it is not defined.
        undefined: why there is no difference; empty where there is one.
    """

    question: Question
    against: str
    measure: Measure
    margin: float
    patients: int
    finding: str = ""
    estimate: float | None = None
    reference: float | None = None
    difference: Interval | None = None
    undefined: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1 or (self.question is Question.NON_INFERIOR and self.margin == 0):
            raise ConfigError(
                f"criterion {self.question} to {self.against}, margin={self.margin}: must be in (0, 1), "
                "and 0 only for superiority"
            )
        if (self.difference is None) != bool(self.undefined):
            raise ConfigError(f"criterion against {self.against}: needs either a difference or why there is none")
        if self.difference is not None:
            limits = (self.difference.low, self.difference.estimate, self.difference.high)
            if not all(math.isfinite(one) for one in limits) or self.difference.low > self.difference.high:
                raise ConfigError(f"criterion against {self.against}: interval {limits} must be finite and ordered")

    @property
    def outcome(self) -> Outcome:
        """Whether the interval settles the question. Limits that touch the border settle nothing."""
        if self.difference is None:
            return Outcome.UNDETERMINED
        border = -self.margin if self.question is Question.NON_INFERIOR else 0.0
        if self.difference.low > border:
            return Outcome.MET
        return Outcome.NOT_MET if self.difference.high < border else Outcome.UNDETERMINED


@dataclass(frozen=True)
class DescribedCriterion:
    """A criterion with the words that report, card, summary and app print.

    Args:
        criterion: the criterion.
        against_words: the other arm.
        measure_words: what is compared.
        difference_words: the difference with its limits, or that it is not defined.
        asked_words: what is asked of the difference.
    """

    criterion: Criterion
    against_words: str
    measure_words: str
    difference_words: str
    asked_words: str


@dataclass(frozen=True)
class Verdict:
    """Whether the delivered set may stand in for the real X-rays on these test patients.

    Args:
        method: that made the set.
        images_per_class: of the set, and of the controls of real images.
        chosen_by: a sentence: by which rule this method's set is the one that is handed over.
        criteria: all comparisons.
        architecture: network that was trained on every arm.
        target_specificity: at which sensitivities are compared.
        confidence: level of the intervals.
        test_images: that were scored.
        test_patients: that they show; equal to the images where nothing tells whose they are.
        patients_known: whether something tells whose image it is.
        patients_per_class: test patients of each class.
        min_patients: fewest of each class for a green verdict.
        reservations: what else forbids a green verdict, one clause each.
        warnings: sentences that must stand beside the verdict and do not change its colour.
    """

    method: str
    images_per_class: int
    chosen_by: str
    criteria: tuple[Criterion, ...]
    architecture: str
    target_specificity: float
    confidence: float
    test_images: int
    test_patients: int
    patients_known: bool
    patients_per_class: Mapping[str, int]
    min_patients: int
    reservations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not known or not enough, one clause each: any of it forbids a green verdict."""
        arms = {one.against for one in self.criteria}
        lacking = []
        if REFERENCE not in arms:
            lacking.append("no network was trained on all real X-rays (arm full)")
        if REQUIRED_CONTROL not in arms:
            lacking.append("no control of random real X-rays in the same bytes was trained (arm packed)")
        lacking += list(dict.fromkeys(one.undefined for one in self.criteria if one.undefined))
        unit = "patients" if self.patients_known else "images"
        few = sorted((n, name) for name, n in self.patients_per_class.items() if n < self.min_patients)
        if few:
            listed = ", ".join(f"{name} ({n})" for n, name in few)
            lacking.append(f"fewer than {self.min_patients} test {unit} of {listed}")
        if not self.patients_known:
            lacking.append("nothing tells which patient an image shows")
        return (*lacking, *self.reservations)

    @property
    def colour(self) -> Colour:
        """Red, amber or green, by the rule above."""
        outcomes = {one.outcome for one in self.criteria}
        if Outcome.NOT_MET in outcomes:
            return Colour.RED
        return Colour.GREEN if outcomes == {Outcome.MET} and not self.missing else Colour.AMBER

    @property
    def described(self) -> tuple[DescribedCriterion, ...]:
        """The criteria with their words."""
        return tuple(DescribedCriterion(one, **describe(one, self)) for one in self.criteria)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, for a reader who knows no statistics."""
        return verdict_sentence(self)

    def to_dict(self) -> JsonObject:
        """Return JSON types: the fields, and `colour`, `sentence`, `missing` and the words of every criterion.

        Readers in other languages need no code of ours for the words.
        """
        criteria = [
            json_object(one.criterion)
            | {
                "outcome": one.criterion.outcome.value,
                "against_words": one.against_words,
                "measure_words": one.measure_words,
                "difference_words": one.difference_words,
                "asked_words": one.asked_words,
            }
            for one in self.described
        ]
        derived = {"colour": self.colour.value, "sentence": self.sentence, "missing": list(self.missing)}
        return {"format": FORMAT, **derived, **json_object(self), "criteria": criteria}

    @classmethod
    def from_dict(cls, value: ReadOnlyJsonObject) -> Verdict:
        """Rebuild what `to_dict` returned.

        Raises:
            ConfigError: a field is missing or wrong, the format is newer, or the stated colour does not follow from the
                criteria.
        """
        form = from_json(_Form, value, "a verdict")
        if form.format > FORMAT:
            raise ConfigError(f"verdict of format {form.format}: newer than {FORMAT}; upgrade medidistill")
        verdict = from_json(cls, value, "a verdict")
        if form.colour != verdict.colour.value:
            raise ConfigError(f"the verdict states {form.colour!r}, its criteria say {verdict.colour.value!r}")
        return verdict


@dataclass(frozen=True)
class _Form:
    """What a stored verdict says about itself."""

    format: int
    colour: str
