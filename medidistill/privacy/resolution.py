"""Resolvability: rules of the gate that no audit of this sample size could pass.

A rule that cannot be resolved fails at the end of an audit, hours after the counts that determine it were known. The
requirements below are those of `medidistill.privacy.gate`, which reads them from here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from medidistill.config import PolicyConfig
from medidistill.privacy.attacks import SHADOW_SCORES
from medidistill.privacy.attacks.membership import OF_RELEASE
from medidistill.privacy.attacks.one_run import guess_count, one_run_epsilon
from medidistill.privacy.statistics import (
    MEASURED_FPRS,
    members_needed,
    nonmembers_needed,
    passes_by_chance,
    trials_needed,
)
from medidistill.words import start_words

__all__ = [
    "COPY_HOLDOUT_IMAGES",
    "FALSE_ALARM",
    "NATURAL_RULES",
    "PATIENT_RULES",
    "AuditCounts",
    "UnresolvableRule",
    "canaries_needed",
    "false_alarm_rates",
    "rate_needs",
    "unresolvable_rules",
]

COPY_HOLDOUT_IMAGES = 100  # non-members' images from which on their 1st percentile is defined
FALSE_ALARM = 0.05  # probability of failing without a leak from which on it is reported
NATURAL_RULES = (OF_RELEASE.name, *SHADOW_SCORES)
PATIENT_RULES = ("linkage", "copies", *NATURAL_RULES)  # they count patients, or compare with images of other patients
_MOST_CANARIES = 1_000_000


@dataclass(frozen=True)
class AuditCounts:
    """Sample sizes of an audit, known before it begins.

    Args:
        released: images of the distilled set.
        member_images: real images that it is made from (training split).
        member_patients: their patients.
        other_images: real images of other patients (validation and test split).
        other_patients: their patients.
        canaries: planted over all shadow runs; a fair coin includes about half of them.
        init: what the images start from; noise and draws of Gaussians pass the gate.
        phantom: whether every input image is marked as synthetic.
        patients_unknown: why patients are not identified (`PatientUnits.unresolved`); empty where they are.
        guaranteed: whether a differential-privacy guarantee is to be printed; the one-run bound is then not a rule.
    """

    released: int
    member_images: int
    member_patients: int
    other_images: int
    other_patients: int
    canaries: int
    init: str = "noise"
    phantom: bool = False
    guaranteed: bool = False
    patients_unknown: str = ""


@dataclass(frozen=True)
class UnresolvableRule:
    """A rule of the gate that fails whatever an audit finds.

    Args:
        rule: its name, as in `Verdict.rule`.
        available: what there is, as text.
        required: what the rule needs, as text.
    """

    rule: str
    available: str
    required: str

    def __str__(self) -> str:
        return f"rule {self.rule}: {self.available}; needs {self.required}"


@functools.cache
def rate_needs(policy: PolicyConfig, limit: float) -> tuple[int, int]:
    """Return the (members, non-members) with which an attack no better than chance is shown to stay below `limit`."""
    return members_needed(limit, policy.fpr), nonmembers_needed(policy.fpr)


@functools.cache
def canaries_needed(policy: PolicyConfig) -> int | None:
    """Return how many canaries let the one-run bound exceed `policy.max_epsilon_lower_bound`; None above a million.

    A bound that cannot exceed its limit cannot fail, and passing it would be uninformative.
    """

    def resolves(canaries: int) -> bool:
        guesses = guess_count(canaries)
        return one_run_epsilon(canaries, guesses, guesses) > policy.max_epsilon_lower_bound

    if not resolves(_MOST_CANARIES):
        return None
    low, high = 0, _MOST_CANARIES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if resolves(middle) else (middle, high)
    return high


def unresolvable_rules(policy: PolicyConfig, counts: AuditCounts) -> tuple[UnresolvableRule, ...]:
    """Return the rules of `policy` that these counts fail whatever is measured, with what each would need.

    An empty result means that the audit can decide every rule, not that the set will pass.

    Args:
        policy: the rules of the release.
        counts: of the set, the patients and the planned audit.
    """
    if not policy.patients:
        if counts.phantom:
            return ()
        available = "not all input files are DICOM objects marked Synthetic Data = YES"
        return (UnresolvableRule("phantom", available, "computer-generated images, or privacy.policy=default"),)
    found = []
    if start_words(counts.init) is None:
        found.append(UnresolvableRule("start", f"the images start from {counts.init}", "distill.init=noise"))
    found += _by_nearest_images(policy, counts)
    patients = (counts.member_patients, counts.other_patients)
    # a patient is in half of the shadow runs and out of the others: member and non-member of the procedure
    for rule in NATURAL_RULES:
        pair = patients[:1] * 2 if rule in SHADOW_SCORES else patients
        found += _rate(policy, rule, policy.max_member_tpr, *pair, "patients")
    inside = counts.canaries // 2
    found += _rate(policy, "canaries", policy.max_canary_tpr, inside, counts.canaries - inside, "canaries")
    if not counts.guaranteed:
        found += _one_run(policy, counts.canaries)
    if counts.patients_unknown:
        found = [one for one in found if one.rule not in PATIENT_RULES]
        found += [
            UnresolvableRule(rule, counts.patients_unknown, "a patient for every image") for rule in PATIENT_RULES
        ]
    return tuple(found)


def _by_nearest_images(policy: PolicyConfig, counts: AuditCounts) -> list[UnresolvableRule]:
    found = []
    if not counts.member_images or not counts.other_images:
        available = f"{counts.member_images} images of members and {counts.other_images} of non-members to compare"
        found.append(UnresolvableRule("linkage", available, "some of each: raise val_fraction or test_fraction"))
    else:
        chance = counts.member_images / (counts.member_images + counts.other_images)
        needed = trials_needed(policy.linkage_p, chance)
        if counts.released < needed:
            available = f"{counts.released} released images cannot give a p value below {policy.linkage_p:g}"
            found.append(UnresolvableRule("linkage", available, f"{needed} images; raise distill.ipc"))
    if counts.other_images < COPY_HOLDOUT_IMAGES:
        available = f"{counts.other_images} images of non-members are too few for a 1st percentile"
        required = f"{COPY_HOLDOUT_IMAGES} images of patients outside the training split"
        found.append(UnresolvableRule("copies", available, required))
    return found


def _rate(
    policy: PolicyConfig, rule: str, limit: float, members: int, others: int, unit: str
) -> list[UnresolvableRule]:
    if policy.fpr not in MEASURED_FPRS:
        measured = " or ".join(f"{fpr:g}" for fpr in MEASURED_FPRS)
        return [UnresolvableRule(rule, f"fpr={policy.fpr:g} of the policy is not measured", f"fpr={measured}")]
    needed = rate_needs(policy, limit)
    if members >= needed[0] and others >= needed[1]:
        return []
    about = "about " if unit == "canaries" else ""
    return [
        UnresolvableRule(
            rule,
            f"{about}{members} members and {others} non-members ({unit}) cannot show a true-positive rate of at most "
            f"{100 * limit:g} % at {100 * policy.fpr:g} % false positives",
            f"{needed[0]} members and {needed[1]} non-members",
        )
    ]


def _one_run(policy: PolicyConfig, canaries: int) -> list[UnresolvableRule]:
    guesses = guess_count(canaries)
    ceiling = one_run_epsilon(canaries, guesses, guesses) if canaries else 0.0
    if ceiling > policy.max_epsilon_lower_bound:
        return []
    needed = canaries_needed(policy)
    return [
        UnresolvableRule(
            "one_run",
            f"{canaries} canaries cannot prove more than epsilon {ceiling:.2f}",
            "a smaller max_epsilon_lower_bound in the policy" if needed is None else f"{needed} canaries",
        )
    ]


def false_alarm_rates(policy: PolicyConfig, counts: AuditCounts) -> Mapping[str, float]:
    """Return how often a set that leaks nothing about its patients fails a resolvable rate, by rule; 5 % or more only.

    Only sampling variation is counted, patients as observed once; see `passes_by_chance`.
    """
    if not policy.patients:
        return {}
    stuck = {one.rule for one in unresolvable_rules(policy, counts)}
    sizes = {
        OF_RELEASE.name: (policy.max_member_tpr, counts.member_patients, counts.other_patients),
        **dict.fromkeys(SHADOW_SCORES, (policy.max_member_tpr, counts.member_patients, counts.member_patients)),
        "canaries": (policy.max_canary_tpr, counts.canaries // 2, counts.canaries - counts.canaries // 2),
    }
    rates = {
        rule: 1 - passes_by_chance(limit, policy.fpr, members, others)
        for rule, (limit, members, others) in sizes.items()
        if rule not in stuck
    }
    return {rule: rate for rule, rate in rates.items() if rate >= FALSE_ALARM}
