"""The clinical comparison, `clinical.json`: every figure of every arm, each arm against the reference, subgroups.

`medidistill.evaluate.clinical.clinical_comparison` computes it. No identifier of a patient is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject
from medidistill.results.clinical_figures import ClassFigures
from medidistill.results.serialise import from_json, json_object
from medidistill.statistics import Interval, Suppressed, Undefined

__all__ = [
    "ArmDifference",
    "ArmFigures",
    "ClinicalComparison",
    "ClinicalSettings",
    "JudgedDifference",
    "LabelFromSite",
    "McNemar",
    "PairedDifference",
    "ScoredImages",
    "SiteProbe",
    "SourceProbe",
    "SubgroupRow",
]

FORMAT = 1


@dataclass(frozen=True)
class ClinicalSettings:
    """How the clinical figures are computed; part of every result.

    Args:
        reference: arm that others are judged against.
        margin: of non-inferiority, on the macro and one-vs-rest AUROC; state it before the test split is opened.
        target_specificity: reached on validation.
        confidence: level of all intervals.
        bootstrap: resamples of patients.
        bins: of calibration curves.
        min_patients: smallest subgroup that is shown.
        min_positives: fewest patients of a class whose count is shown in a subgroup.
        seed: decides resamples and simulations.
    """

    reference: str = "full"
    margin: float = 0.05
    target_specificity: float = 0.9
    confidence: float = 0.95
    bootstrap: int = 1000
    bins: int = 10
    min_patients: int = 20
    min_positives: int = 10
    seed: int = 0


@dataclass(frozen=True)
class PairedDifference:
    """A difference of two AUROCs on the same images, with its test of zero difference."""

    estimate: float
    low: float
    high: float
    standard_error: float
    z: float
    p_value: float


@dataclass(frozen=True)
class JudgedDifference:
    """A `PairedDifference` and its `verdict` at the margin: `non-inferior`, `not shown` or `inferior`."""

    estimate: float
    low: float
    high: float
    standard_error: float
    z: float
    p_value: float
    verdict: str


@dataclass(frozen=True)
class McNemar:
    """`only_first`: images that only the first model gets right; `only_second`: likewise; exact two-sided p."""

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class ArmFigures:
    """One arm and architecture: the mean probability of its networks, taken as one given model.

    Args:
        arm: name of the arm.
        architecture: name of the network.
        networks: averaged, over all seeds.
        seeds: seeds of the whole chain.
        training_images: number of images trained on.
        macro_auroc: mean of the one-vs-rest areas, DeLong with patients as clusters.
        macro_auroc_bootstrap: the same with a percentile interval over patients.
        brier: multi-class Brier score, in [0, 2].
        classes: in label order.
    """

    arm: str
    architecture: str
    networks: int
    seeds: tuple[int, ...]
    training_images: int
    macro_auroc: Interval | Undefined
    macro_auroc_bootstrap: Interval
    brier: Interval
    classes: tuple[ClassFigures, ...]


@dataclass(frozen=True)
class ArmDifference:
    """`arm` minus `minus`, the reference, with the same architecture on the same test images.

    Args:
        arm: name of the first arm.
        minus: name of the reference.
        architecture: name of the network.
        macro: difference of the macro AUROCs.
        classes: class -> difference of the one-vs-rest AUROCs.
        mcnemar: exact test of equal error rates.
    """

    arm: str
    minus: str
    architecture: str
    macro: JudgedDifference | Undefined
    classes: Mapping[str, JudgedDifference | Undefined]
    mcnemar: McNemar | Undefined


@dataclass(frozen=True)
class SubgroupRow:
    """One group of one column.

    Args:
        group: its name; `unknown` where the column is empty.
        images: of the group.
        counts: class -> images of it in the group.
        auroc: model -> class -> area of the class against the rest within the group.
    """

    group: str
    images: int | Suppressed
    counts: Mapping[str, int | Suppressed]
    auroc: Mapping[str, Mapping[str, Interval | Undefined | Suppressed]]


@dataclass(frozen=True)
class SiteProbe:
    """How well a linear probe tells the site of tiny images.

    Args:
        sites: names of those that both splits hold often enough.
        chance: 1 / sites.
        balanced_accuracy: over the sites, limits over patients.
    """

    sites: tuple[str, ...]
    chance: float
    balanced_accuracy: Interval | Undefined


@dataclass(frozen=True)
class LabelFromSite:
    """How well a rule that knows nothing but the site tells the label; earlier versions kept `chance` and accuracy.

    Args:
        chance: 1 / labels.
        balanced_accuracy: over the labels, limits over patients.
        macro_auroc: of the share of the vote as a score; None where it was not kept.
        sites: named sites in training; None where it was not kept.
        one_class_sites: of those with images of one class alone.
        patients: test patients; None where it was not kept.
    """

    chance: float
    balanced_accuracy: Interval | Undefined
    macro_auroc: Interval | Undefined | None = field(default=None, metadata={"optional": True})
    sites: int | None = field(default=None, metadata={"optional": True})
    one_class_sites: int = 0
    patients: int | None = field(default=None, metadata={"optional": True})


@dataclass(frozen=True)
class SourceProbe:
    """The three questions of `medidistill.evaluate.clinical.source_probe`; `within_class`: class -> site probe."""

    site: SiteProbe | Undefined
    within_class: Mapping[str, SiteProbe | Undefined]
    label_from_site: LabelFromSite | Undefined


@dataclass(frozen=True)
class ScoredImages:
    """The images that all arms were scored on."""

    images: int
    patients: int
    images_per_class: Mapping[str, int]


@dataclass(frozen=True)
class ClinicalComparison:
    """Every clinical figure of every arm.

    Args:
        settings: how they were computed.
        class_names: in label order.
        test: the images.
        arms: in the order of the comparison.
        differences: each arm minus the reference of its architecture.
        subgroups: column -> its groups, in order of name.
        source_probe: None where no image names its site.
        notes: what a reader of the figures must know, sentences.
        images_per_class: of the distilled sets, for words; not stored.
    """

    settings: ClinicalSettings
    class_names: tuple[str, ...]
    test: ScoredImages
    arms: tuple[ArmFigures, ...]
    differences: tuple[ArmDifference, ...]
    subgroups: Mapping[str, tuple[SubgroupRow, ...]]
    source_probe: SourceProbe | None
    notes: tuple[str, ...]
    format: int = FORMAT
    images_per_class: int = field(default=0, metadata={"stored": False})

    def to_dict(self) -> JsonObject:
        """Return JSON types."""
        return json_object(self)

    @classmethod
    def from_dict(cls, value: ReadOnlyJsonObject) -> ClinicalComparison:
        """Rebuild what `to_dict` returned. Raises `ConfigError` when a field is missing or has another type."""
        return from_json(cls, value, "a clinical comparison")
