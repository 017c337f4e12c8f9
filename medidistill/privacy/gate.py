"""The gate: evaluate a policy against the audit and the claim, one verdict for each rule.

A rule that the sample cannot resolve fails and names how many images, patients or canaries it needs: what was not
measured does not pass. The terms of a release follow from the claim: only a guarantee with a small epsilon, or phantom
images, are released without "controlled sharing only".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medidistill.config import PolicyConfig
from medidistill.errors import PrivacyGateError
from medidistill.patient_units import PatientUnits
from medidistill.privacy.attacks import ATTACKS
from medidistill.privacy.events import Claim
from medidistill.privacy.resolution import COPY_HOLDOUT_IMAGES, FALSE_ALARM, NATURAL_RULES, PATIENT_RULES, rate_needs
from medidistill.privacy.statistics import passes_by_chance, trials_needed
from medidistill.results.audit import (
    AttackSummary,
    AuditDocument,
    CanaryAttack,
    Linkage,
    OneRunBound,
    Unmeasured,
    UnresolvedPoint,
)
from medidistill.words import start_words

__all__ = [
    "CONTROLLED",
    "Budget",
    "Override",
    "Verdict",
    "apply_overrides",
    "evaluate_policy",
    "guarantees",
    "raise_on_failure",
    "terms",
]

CONTROLLED = "controlled sharing only"
_NAME_PATIENTS = "give the patient of each image (column patient_id of the label table, or Patient ID), and run again"
_AUDIT_AGAIN = "run `medidistill audit OUT`, then export again"
_LEAKS = "distill fewer images or with a shorter schedule, or train the experts with differential privacy (experts.dp)"


@dataclass(frozen=True)
class Verdict:
    """Result of one rule.

    Args:
        rule: its name.
        passed: whether the figure is within the limit.
        figure: what was measured, as text.
        limit: what the policy requires, as text.
        remedy: what to do where it failed.
        overridden: reason given for overriding the failure; empty where it was not overridden.
    """

    rule: str
    passed: bool
    figure: str
    limit: str
    remedy: str = ""
    overridden: str = ""


@dataclass(frozen=True)
class Override:
    """A named person's reason to release despite a failed rule."""

    rule: str
    reason: str
    by: str


@dataclass(frozen=True)
class Budget:
    """The accountant's bound for a claim of kind `dp`, all releases of the cohort composed.

    Args:
        epsilon: for one unit.
        delta: likewise.
        by_patient: whether the unit is the patient; it is the image where patients are not identified.
    """

    epsilon: float
    delta: float
    by_patient: bool = True


def evaluate_policy(
    policy: PolicyConfig,
    audit: AuditDocument | None,
    claim: Claim,
    *,
    name: str,
    init: str,
    budget: Budget | None,
    units: PatientUnits | None = None,
) -> list[Verdict]:
    """Return one verdict for each rule. Where patients are not identified, no rule by patient is resolved.

    Args:
        policy: the rules.
        audit: of a set; None where none was made.
        claim: what the provenance allows.
        name: digest of the set to be released.
        init: how its images started.
        budget: of a `dp` claim.
        units: how patients are identified; None: by an identifier, for every image.
    """
    if not policy.patients:
        return [
            Verdict(
                "phantom",
                claim.kind == "no_patients",
                "all images are phantoms" if claim.kind == "no_patients" else "images of patients were used",
                "policy phantom is for computer-generated images",
                "use privacy.policy=default for patients' images",
            )
        ]
    verdicts = [
        Verdict(
            "start",
            start_words(init) is not None,
            f"the images started from {start_words(init) or init}",
            "noise, or draws of Gaussians" if "gaussian" in init or "mixture" in init else "noise",
            "distill again with distill.init=noise; images started from real ones keep showing the patient",
        ),
        _audit_matches_set(audit, name),
    ]
    units = units or PatientUnits()
    if audit is not None and verdicts[-1].passed:
        found = audit.audits
        assured = claim.kind == "dp" and not units.unresolved and (budget is None or guarantees(policy, budget))
        verdicts += _linkage(policy, found.linkage)
        verdicts += [_rate(policy, rule, found.rate(rule), policy.max_member_tpr) for rule in NATURAL_RULES]
        verdicts.append(_rate(policy, "canaries", found.canaries, policy.max_canary_tpr))
        if not assured:
            verdicts.append(_epsilon_lower_bound_rule(policy, found.one_run))
        if budget is not None:
            verdicts.append(_not_contradicted(found.one_run, budget))
    return [_by_patient(verdict, units) for verdict in verdicts]


def _by_patient(verdict: Verdict, units: PatientUnits) -> Verdict:
    """Return the verdict of a rule by patient as unresolved where patients are not identified."""
    if verdict.rule not in PATIENT_RULES or not units.unresolved:
        return verdict
    figure = f"not resolvable: {units.unresolved}; counted by image: {verdict.figure}"
    return replace(verdict, passed=False, figure=figure, remedy=_NAME_PATIENTS)


def _audit_matches_set(audit: AuditDocument | None, name: str) -> Verdict:
    if audit is None:
        return Verdict("audit", False, "no audit was made", "an audit of this set", _AUDIT_AGAIN)
    same = audit.set == name
    return Verdict(
        "audit",
        same,
        f"audit of set {audit.set}, finished {audit.finished}",
        f"an audit of set {name}, made after it",
        "" if same else f"the set changed after its audit: {_AUDIT_AGAIN}",
    )


def _linkage(policy: PolicyConfig, found: Linkage) -> list[Verdict]:
    needed = trials_needed(policy.linkage_p, found.chance)
    worst = min(view.p_value for view in found.views)
    limit = f"p >= {policy.linkage_p:g}"
    if found.images < needed:
        figure = f"not resolvable: {found.images} images cannot give a p value below {policy.linkage_p:g}"
        linkage = Verdict("linkage", False, figure, limit, f"needs {needed} images; raise distill.ipc")
    else:
        linkage = Verdict("linkage", worst >= policy.linkage_p, f"p = {worst:.3g}", limit, _LEAKS)
    near = max(view.nearer_than_limit for view in found.views)
    allowed = f"at most {policy.max_near_copies} images nearer than the holdout's 1st percentile"
    if found.others < COPY_HOLDOUT_IMAGES:
        figure = f"not resolvable: {found.others} images of non-members are too few for a 1st percentile"
        remedy = f"needs {COPY_HOLDOUT_IMAGES} images of non-members"
        return [linkage, Verdict("copies", False, figure, allowed, remedy)]
    return [linkage, Verdict("copies", near <= policy.max_near_copies, f"{near} images nearer", allowed, _LEAKS)]


def _rate(policy: PolicyConfig, rule: str, found: AttackSummary | CanaryAttack | Unmeasured, largest: float) -> Verdict:
    limit = f"upper limit of TPR at {100 * policy.fpr:g} % FPR <= {100 * largest:g} %"
    unit = "canaries" if rule == "canaries" else "patients"
    members, others = rate_needs(policy, largest)
    needs = f"needs {members} members and {others} non-members ({unit})"
    if isinstance(found, Unmeasured):
        return Verdict(rule, False, f"not measured: {found.reason}", limit, needs)
    point = next((one for one in found.operating_points if one.fpr == policy.fpr), None)
    if point is None:
        measured = ", ".join(f"{100 * one.fpr:g} %" for one in found.operating_points)
        figure = f"not measured at this FPR, only at {measured}"
        return Verdict(rule, False, figure, limit, "set the policy's fpr to one of these")
    if isinstance(point, UnresolvedPoint) or point.members < members:
        figure = f"not resolvable with {point.members} members and {point.nonmembers} non-members"
        return Verdict(rule, False, figure, limit, needs)
    figure = f"TPR {100 * point.tpr:.1f} %, upper limit {100 * point.high:.1f} % ({ATTACKS[rule].title})"
    if point.high <= largest:
        return Verdict(rule, True, figure, limit)
    silent = 1 - passes_by_chance(largest, policy.fpr, point.members, point.nonmembers)
    note = f"with so few {unit} a set that leaks nothing also fails, {100 * silent:.0f} times in 100"
    return Verdict(rule, False, figure, limit, f"{_LEAKS}; {note}" if silent >= FALSE_ALARM else _LEAKS)


def _epsilon_lower_bound_rule(policy: PolicyConfig, found: OneRunBound | Unmeasured) -> Verdict:
    """Apply the rule on the one-run bound, which catches what TPR at a low FPR misses: many small shifts."""
    limit = f"<= {policy.max_epsilon_lower_bound:g}, without a guarantee"
    if isinstance(found, Unmeasured):
        return Verdict("one_run", False, f"not measured: {found.reason}", limit, "plant canaries: audit again")
    if found.ceiling <= policy.max_epsilon_lower_bound:
        figure = f"not resolvable: {found.guesses} guesses cannot prove more than {found.ceiling:.2f}"
        return Verdict("one_run", False, figure, limit, "needs more canaries: use --profile quick or full")
    lower = found.epsilon_lower
    figure = f"the attacks prove epsilon >= {lower:.2f} ({found.right} of {found.guesses} guesses right)"
    return Verdict("one_run", lower <= policy.max_epsilon_lower_bound, figure, limit, _LEAKS)


def guarantees(policy: PolicyConfig, budget: Budget | None) -> bool:
    """Return whether the accountants' bound is by patient and small enough to be printed as a guarantee."""
    if budget is None or not budget.by_patient:
        return False
    return budget.epsilon <= policy.epsilon_agreement and budget.delta <= policy.max_delta


def _not_contradicted(found: OneRunBound | Unmeasured, budget: Budget) -> Verdict:
    lower = found.epsilon_lower if isinstance(found, OneRunBound) else 0.0
    return Verdict(
        "accounting",
        lower <= budget.epsilon,
        f"the attacks prove epsilon >= {lower:.2f}",
        f"<= {budget.epsilon:.2f}, the accountants' bound",
        "the implementation does not provide the claimed guarantee; report it, and release nothing",
    )


def terms(policy: PolicyConfig, claim: Claim, budget: Budget | None) -> str:
    """Return the terms under which the set may be released."""
    if claim.kind == "no_patients":
        return "phantom images"
    if claim.kind == "dp" and budget is not None and guarantees(policy, budget):
        return "open" if budget.epsilon <= policy.max_epsilon_open else "under agreement with the recipient"
    return CONTROLLED


def apply_overrides(verdicts: Sequence[Verdict], overrides: Sequence[Override]) -> list[Verdict]:
    """Return the verdicts with overridden failures marked by name and reason.

    Raises:
        PrivacyGateError: no reason, no name, or a rule that has not failed.
    """
    failed = {verdict.rule for verdict in verdicts if not verdict.passed}
    for override in overrides:
        if not override.reason.strip() or not override.by.strip():
            raise PrivacyGateError(f"--override {override.rule}: needs --reason and --by; both are printed in the card")
        if override.rule not in failed:
            raise PrivacyGateError(
                f"--override {override.rule}: has not failed; failed rules: {', '.join(sorted(failed)) or 'none'}"
            )
    said = {override.rule: f"{override.reason.strip()} ({override.by.strip()})" for override in overrides}
    return [replace(v, overridden=said[v.rule]) if v.rule in said and not v.passed else v for v in verdicts]


def raise_on_failure(verdicts: Sequence[Verdict]) -> None:
    """Raise `PrivacyGateError` naming each failed rule, its figure and the remedy; nothing where none failed."""
    failed = [verdict for verdict in verdicts if not verdict.passed and not verdict.overridden]
    if failed:
        told = "; ".join(f"rule {v.rule}: {v.figure}, required {v.limit}; {v.remedy}" for v in failed)
        raise PrivacyGateError(f"the privacy gate refuses the release: {told}")
