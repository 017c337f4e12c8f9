"""Whether the planned release of a run can pass the gate at all, said as soon as the images are counted.

`medidistill.privacy.resolution` names the rules that the counts cannot resolve. Here: the counts of a run, the file
`OUT/release-check.json` that shows them to `medidistill status` and the app, and the early end of a run whose release
would be refused whatever the audit finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from medidistill.config import RunConfig
from medidistill.errors import PrivacyGateError
from medidistill.files import write_json
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # facts of a stage, see `RunRecord.stages`
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.comparison.arms import candidate_methods, first_init
from medidistill.pipeline.release.releasing import load_policy
from medidistill.privacy import PROFILES
from medidistill.privacy.gate import Budget, guarantees
from medidistill.privacy.resolution import AuditCounts, UnresolvableRule, false_alarm_rates, unresolvable_rules
from medidistill.privacy.shadows import planted_canaries

if TYPE_CHECKING:
    from medidistill.ingest.sources import Record
    from medidistill.pipeline.work import RunContext

__all__ = [
    "ReleaseCheck",
    "SplitCounts",
    "check_after_ingest",
    "check_release",
    "count_splits",
    "counts_of",
    "release_wanted",
]

FORMAT = 1
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitCounts:
    """How much real data a run has.

    Args:
        classes: number of classes.
        images: usable images by split (`train`, `val`, `test`).
        patients: their patients by split.
        phantom: whether all of it is marked as synthetic.
        units: what stands for a patient.
    """

    classes: int
    images: Mapping[str, int]
    patients: Mapping[str, int]
    phantom: bool = False
    units: PatientUnits = field(default_factory=PatientUnits)


@dataclass(frozen=True)
class ReleaseCheck:
    """What the counts of a run say about its release.

    Args:
        policy: name of the policy.
        profile: of the audit, as configured or asked for; `none` where the policy asks for no audit.
        wanted: whether the run is to end in a release.
        counts: what the rules are held against.
        unresolvable: rules that fail whatever the audit finds.
        false_alarms: rule -> how often a set that tells nothing fails it, where that is 5 % or more.
    """

    policy: str
    profile: str
    wanted: bool
    counts: AuditCounts
    unresolvable: tuple[UnresolvableRule, ...] = ()
    false_alarms: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the finding as sentences for people, the verdict first."""
        title = f"release check (policy {self.policy}, audit {self.profile})"
        if self.unresolvable:
            found = [f"{title}: the gate would refuse this set whatever the audit finds"]
        elif self.profile == "none":
            found = [f"{title}: the policy asks for no audit, and its rule is met"]
        else:
            found = [f"{title}: the audit can decide every rule"]
        found += [f"- {rule}" for rule in self.unresolvable]
        found += [
            f"- rule {rule}: with so few {'canaries' if rule == 'canaries' else 'patients'} a set that tells nothing "
            f"fails {100 * rate:.0f} times in 100"
            for rule, rate in self.false_alarms.items()
        ]
        return found

    def as_dict(self) -> JsonObject:
        """Return JSON types."""
        return {"format": FORMAT, **asdict(self), "summary": self.lines()}

    def refuse(self) -> None:
        """Raise `PrivacyGateError` where a release is wanted and the gate could not let it pass."""
        if self.wanted and self.unresolvable:
            rules = "; ".join(map(str, self.unresolvable))
            raise PrivacyGateError(
                f"the privacy gate would refuse this release whatever the audit finds: {rules}. Change that, or go on "
                "with --no-release-check to measure the set without releasing it"
            )


def release_wanted(config: RunConfig) -> bool:
    """Whether a whole run with this configuration asks the gate for a release."""
    return config.privacy.audit != "none" or config.privacy.policy == "phantom"


def check_release(config: RunConfig, data: SplitCounts, profile: str = "") -> ReleaseCheck:
    """Hold the policy of a run against its counts.

    Args:
        config: the run.
        data: its real images and patients.
        profile: of the audit; empty: the configured one, or `quick` where none is.

    Raises:
        ConfigError: the policy cannot be read.
    """
    policy = load_policy(config.privacy.policy)
    name = profile or (config.privacy.audit if config.privacy.audit != "none" else "quick")
    plan, dp = PROFILES[name], config.experts.dp
    # which method is delivered may be known after the evaluation alone: the one with the fewest images counts
    possible = {method: config.distill_by(method) for method in candidate_methods(config)}
    fewest = min(possible, key=lambda method: possible[method].images_per_class)
    starts = {method: first_init(config, method) for method in possible}
    counts = AuditCounts(
        released=possible[fewest].images_per_class * data.classes,
        member_images=data.images["train"],
        member_patients=data.patients["train"],
        other_images=data.images["val"] + data.images["test"],
        other_patients=data.patients["val"] + data.patients["test"],
        canaries=planted_canaries(plan.shadows, plan.canaries),
        init="real" if "real" in starts.values() else starts[fewest],
        phantom=data.phantom,
        guaranteed=dp.enabled and guarantees(policy, Budget(dp.epsilon, dp.delta, not data.units.unresolved)),
        patients_unknown=data.units.unresolved,
    )
    return ReleaseCheck(
        policy=policy.name,
        profile=name if policy.patients else "none",
        wanted=release_wanted(config),
        counts=counts,
        unresolvable=unresolvable_rules(policy, counts),
        false_alarms=false_alarm_rates(policy, counts),
    )


def counts_of(facts: ReadOnlyJsonObject) -> SplitCounts:
    """Return the counts that the record of a finished ingest holds.

    Args:
        facts: of the stage `ingest` in the record of the run.
    """
    images = {split: sum(facts["images"][split].values()) for split in _SPLITS}
    return SplitCounts(
        len(facts["images"]["train"]),
        images,
        facts["patients"],
        facts["origin"] == "phantom",
        PatientUnits.from_facts(facts),
    )


def count_splits(records: list[Record], config: RunConfig, *, phantom: bool = False) -> SplitCounts:
    """Return the counts that an ingest of `records` would begin with, before any file is decoded or set aside.

    Raises:
        IngestError: labels or splits that the run would refuse.
    """
    from medidistill.ingest.sources import class_names
    from medidistill.ingest.splits import assign_splits

    classes = class_names(records, config.ingest)
    splits = assign_splits(records, classes, config.ingest)
    images = Counter(splits)
    patients = Counter(split for split, _ in {(s, r.patient_id) for s, r in zip(splits, records, strict=True)})
    return SplitCounts(
        len(classes),
        {name: images[name] for name in _SPLITS},
        {name: patients[name] for name in _SPLITS},
        phantom,
        PatientUnits.of(record.patient_source for record in records),
    )


def check_after_ingest(run: RunContext, profile: str = "") -> ReleaseCheck:
    """Check the release of a run whose images are read, and keep the result as `OUT/release-check.json`.

    Raises:
        ConfigError: the policy cannot be read, or the images are not read yet.
    """
    run.require("ingest", "medidistill ingest")
    check = check_release(run.config, counts_of(run.record.stages["ingest"]), profile)
    if run.ranks.writes:
        write_json(run.folder.release_check, check.as_dict())
    return check
