"""The document of an audit, `audit.json`: what attacks on a distilled set and on its procedure found.

`medidistill.privacy` computes it, one attack a file. It holds numbers and counts, no image and no identifier. Shares
and rates are in [0, 1]; p values are one-sided; limits are at 95 % and count each patient once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject
from medidistill.results.serialise import from_json, json_object

__all__ = [
    "AttackResult",
    "AttackSummary",
    "AttributeInference",
    "AuditDocument",
    "AuditFindings",
    "AuditProfile",
    "CanaryAttack",
    "Linkage",
    "LinkageView",
    "OneRunBound",
    "RatePoint",
    "Reidentification",
    "Side",
    "Unmeasured",
    "UnresolvedPoint",
]

FORMAT = 1


@dataclass(frozen=True)
class Unmeasured:
    """An attack that could not be made, and why."""

    reason: str
    measured: bool = False

    @staticmethod
    def fits(value: ReadOnlyJsonObject) -> bool:
        """Whether a stored attack is one that was not made."""
        return value.get("measured") is False


@dataclass(frozen=True)
class LinkageView:
    """Distances of S released images to real ones, in one view of the pixels.

    Args:
        nearest_is_member: images whose nearest real image is a member's.
        share: the same as a share of S.
        low: lower limit of the share.
        high: upper limit of the share.
        p_value: of so many under exchangeable members and non-members.
        smallest_distance: to a member, 1 - correlation, in [0, 2].
        median_distance: likewise.
        copy_limit: 1st percentile of the distances from non-members to members.
        nearer_than_limit: images nearer to a member than that.
    """

    nearest_is_member: int
    share: float
    low: float
    high: float
    p_value: float
    smallest_distance: float
    median_distance: float
    copy_limit: float
    nearer_than_limit: int


@dataclass(frozen=True)
class Linkage:
    """Copy and linkage.

    Args:
        images: released ones.
        members: members' images.
        others: non-members' images.
        chance: share of members among the real images.
        needs_images: released images with which a p value below 0.01 is possible.
        pixels: the pixels as they are.
        high_pass: less their Gaussian blur.
    """

    images: int
    members: int
    others: int
    chance: float
    needs_images: int
    pixels: LinkageView
    high_pass: LinkageView

    @property
    def views(self) -> tuple[LinkageView, LinkageView]:
        """Both views."""
        return self.pixels, self.high_pass


@dataclass(frozen=True)
class Reidentification:
    """Patient re-identification by a verification network.

    Args:
        auc_on_real_pairs: whether two X-rays show one patient, on patients that the network never saw.
        auc_low: lower limit, by patients.
        auc_high: upper limit.
        patients_with_pairs: that the limits rest on.
        works: whether the lower limit is above 0.6; an attack that does not work says nothing.
        images: released ones.
        matched_to_member: images whose best match is a member's.
        low: lower limit of their share.
        high: upper limit of their share.
        chance: share of members among the real images.
        p_value: of so many matches by chance.
        needs_images: released images with which a p value below 0.01 is possible.
    """

    auc_on_real_pairs: float
    auc_low: float
    auc_high: float
    patients_with_pairs: int
    works: bool
    images: int
    matched_to_member: int
    low: float
    high: float
    chance: float
    p_value: float
    needs_images: int
    measured: bool = True


@dataclass(frozen=True)
class AttributeInference:
    """How much better the site of members is inferred with the set than without it.

    Args:
        values: of the attribute on all sides.
        members: member patients.
        others: non-member patients.
        balanced_accuracy: network and side -> balanced accuracy.
        gain: difference of differences, in [-2, 2].
        low: lower limit, by patients.
        high: upper limit.
    """

    values: int
    members: int
    others: int
    balanced_accuracy: Mapping[str, float]
    gain: float
    low: float
    high: float
    measured: bool = True


@dataclass(frozen=True)
class RatePoint:
    """True positives at a rate of false positives that the sample resolves.

    Args:
        fpr: the rate of false positives.
        members: units (patients or canaries) that are members.
        nonmembers: units that are not.
        confidence: level of the limits.
        tpr: true positives.
        low: lower limit.
        high: upper limit.
        fpr_reached: false positives on the half that did not choose the threshold.
        epsilon_lower: lower bound on epsilon from one of the two thresholds.
    """

    fpr: float
    members: int
    nonmembers: int
    confidence: float
    tpr: float
    low: float
    high: float
    fpr_reached: float
    epsilon_lower: float
    resolvable: bool = True

    @staticmethod
    def fits(value: ReadOnlyJsonObject) -> bool:
        """Whether a stored point is resolved."""
        return value.get("resolvable") is True


@dataclass(frozen=True)
class UnresolvedPoint:
    """A rate of false positives that the sample cannot resolve; fields as `RatePoint`.

    Args:
        needs_nonmembers: non-members with which it could.
    """

    fpr: float
    members: int
    nonmembers: int
    confidence: float
    needs_nonmembers: int
    resolvable: bool = False

    @staticmethod
    def fits(value: ReadOnlyJsonObject) -> bool:
        """Whether a stored point is not resolved."""
        return value.get("resolvable") is False


@dataclass(frozen=True)
class AttackSummary:
    """An attack on membership: area under the ROC curve, and true positives at low rates of false positives."""

    auc: float
    operating_points: tuple[RatePoint | UnresolvedPoint, ...]


@dataclass(frozen=True)
class CanaryAttack:
    """The same for planted canaries; `weight`: repetitions of each, `mean_shift`: of the scores by being in."""

    auc: float
    operating_points: tuple[RatePoint | UnresolvedPoint, ...]
    weight: int
    mean_shift: float


@dataclass(frozen=True)
class OneRunBound:
    """A lower bound on epsilon from guesses about canaries.

    Args:
        canaries: that were planted or left out by coins.
        guesses: that were made about them.
        right: guesses that were right.
        delta: of the hypothesis.
        epsilon_lower: largest epsilon that the guesses refute.
        ceiling: largest epsilon that as many right guesses could refute.
    """

    canaries: int
    guesses: int
    right: int
    delta: float
    epsilon_lower: float
    ceiling: float


AttackResult = Linkage | Reidentification | AttributeInference | AttackSummary | CanaryAttack | OneRunBound | Unmeasured


@dataclass(frozen=True)
class AuditFindings:
    """The result of every attack: on the set, on the procedure by shadow runs, on planted canaries."""

    linkage: Linkage
    reidentification: Reidentification | Unmeasured
    attribute: AttributeInference | Unmeasured
    lira: AttackSummary
    rmia: AttackSummary
    canaries: CanaryAttack | Unmeasured
    one_run: OneRunBound | Unmeasured
    membership_release: AttackSummary

    def items(self) -> list[tuple[str, AttackResult]]:
        """Return (name, result) of each attack."""
        return [(one.name, getattr(self, one.name)) for one in fields(self)]

    def rate(self, name: str) -> AttackSummary | CanaryAttack | Unmeasured:
        """Return the attack of a rule on the rate of true positives."""
        found: AttackSummary | CanaryAttack | Unmeasured = getattr(self, name)
        return found


@dataclass(frozen=True)
class AuditProfile:
    """How much work an audit does.

    Args:
        name: `quick` or `full`.
        shadows: runs of the whole procedure, even.
        canaries: planted in all runs together; half of them are in.
        students: networks trained on each set.
        experts: experts of a shadow run at most; 0: as many as the run has.
        recogniser_steps: training of the re-identification network.
        weight: repetitions of each canary.
    """

    name: str
    shadows: int
    canaries: int
    students: int
    experts: int
    recogniser_steps: int
    weight: int = 1


@dataclass(frozen=True)
class Side:
    """How many images of how many patients."""

    images: int
    patients: int


@dataclass(frozen=True)
class AuditDocument:
    """All attacks on one distilled set.

    Args:
        set: digest of the set.
        init: how its images started.
        images: of the set.
        profile: how much work was done.
        procedure: digest of the settings that the shadow runs repeated.
        seed: of all random draws.
        members: that the set was made from.
        others: non-members from the same sources.
        finished: ISO time.
        seconds: that it took.
        audits: what was found.
        patient_units: what stands for a patient, sentences.
    """

    set: str
    init: str
    images: int
    profile: AuditProfile
    procedure: str
    seed: int
    members: Side
    others: Side
    finished: str
    seconds: float
    audits: AuditFindings
    patient_units: tuple[str, ...] = field(default=(), metadata={"optional": True})
    kind: str = "audit"
    format: int = FORMAT

    def to_dict(self) -> JsonObject:
        """Return JSON types."""
        return json_object(self)

    @classmethod
    def from_dict(cls, value: ReadOnlyJsonObject) -> AuditDocument:
        """Rebuild what `to_dict` returned. Raises `ConfigError` when a field is missing or has another type."""
        return from_json(cls, value, "an audit")
