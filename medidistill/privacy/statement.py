"""The privacy section of a bundle's recipe and card: never more than was measured or accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from medidistill.config import PolicyConfig
from medidistill.patient_units import PatientUnits
from medidistill.privacy.attacks import ATTACKS
from medidistill.privacy.events import Claim, Event
from medidistill.privacy.gate import CONTROLLED, Budget, Verdict, guarantees, terms
from medidistill.privacy.resolution import NATURAL_RULES
from medidistill.results.audit import (
    AttackSummary,
    AttributeInference,
    AuditDocument,
    AuditFindings,
    CanaryAttack,
    OneRunBound,
    RatePoint,
    Reidentification,
    Unmeasured,
)
from medidistill.results.privacy_section import Guarantee, Measurement, OverriddenRule, PrivacySection, SectionEvent

__all__ = ["privacy_statement"]


def privacy_statement(
    policy: PolicyConfig,
    claim: Claim,
    verdicts: Sequence[Verdict],
    audit: AuditDocument | None,
    *,
    released: bool,
    budget: Budget | None,
    recipient: str = "",
    events: Sequence[Event] = (),
    units: PatientUnits | None = None,
) -> PrivacySection:
    """Return the privacy section of a bundle.

    Args:
        policy: the rules of the gate.
        claim: what the provenance allows.
        verdicts: of the gate; empty where nothing is released.
        audit: of this set; None where none was made.
        released: whether the gate passed it, with or without overrides.
        budget: of a `dp` claim.
        recipient: the recipient and the terms.
        events: the provenance; numbers of patients stay out of a `dp` bundle, whose guarantee would not cover them.
        units: how patients are identified; None: by an identifier, for every image.
    """
    guaranteed = guarantees(policy, budget)
    return PrivacySection(
        audited=audit is not None,
        released=released,
        policy=asdict(policy),
        terms=terms(policy, claim, budget) if released else CONTROLLED,
        recipient=recipient.strip(),
        statement=" ".join(
            [
                _statement(policy, claim, released, audit is not None, budget, guaranteed, recipient),
                *(_units(units or PatientUnits(), claim) if claim.kind != "no_patients" else ()),
                *(f"Overridden: rule {v.rule} ({v.figure}): {v.overridden}." for v in verdicts if v.overridden),
            ]
        ),
        reasons=(*claim.reasons, *_failures(verdicts)),
        overrides=tuple(OverriddenRule(v.rule, v.figure, v.overridden) for v in verdicts if v.overridden),
        events=tuple(_event(event, private=claim.kind == "dp") for event in events),
        guarantee=_guarantee(claim, budget) if guaranteed and budget is not None else None,
        verdict=None if audit is None else _verdict(released, verdicts),
        measurements=None if audit is None else tuple(_measurements(audit.audits, policy, guaranteed)),
    )


def _guarantee(claim: Claim, budget: Budget) -> Guarantee:
    mechanism = ", ".join(sorted({event.mechanism for event in claim.events}))
    return Guarantee(round(budget.epsilon, 4), budget.delta, "patient of the training split", mechanism)


def _failures(verdicts: Sequence[Verdict]) -> list[str]:
    return [
        f"rule {v.rule}: {v.figure}; required {v.limit}" + (f"; overridden: {v.overridden}" if v.overridden else "")
        for v in verdicts
        if not v.passed
    ]


def _verdict(released: bool, verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "not asked"
    overridden = any(v.overridden for v in verdicts)
    if not released:
        return "refused" if any(not v.passed for v in verdicts) else "passed, not released"
    return "released despite failed rules, by override" if overridden else "passed"


def _statement(
    policy: PolicyConfig,
    claim: Claim,
    released: bool,
    audited: bool,
    budget: Budget | None,
    guaranteed: bool,
    recipient: str,
) -> str:
    allowed = terms(policy, claim, budget)
    parts = []
    if not released:
        parts.append("Not released: no gate was passed; for internal use, " + CONTROLLED + ".")
    elif claim.kind == "no_patients":
        parts.append(f"Released under policy {policy.name!r}: phantom images; no rule about patients was applied.")
    else:
        parts.append(f"Released under policy {policy.name!r}; terms: {allowed}.")
    if claim.kind == "none":
        parts.append("Synthetic images; no formal guarantee.")
    if guaranteed and budget is not None:
        parts.append(
            f"({budget.epsilon:.2f}, {budget.delta:g})-differential privacy for each patient of the training split, "
            "this and earlier releases together. The figures of this card (scores, attacks) were computed without a "
            "mechanism and lie outside of it."
        )
    elif budget is not None and not budget.by_patient:
        parts.append(
            f"Trained with noise; epsilon {budget.epsilon:.2f} is a bound for one image and not for a patient: no "
            "guarantee."
        )
    elif budget is not None:
        large = (
            f"epsilon {budget.epsilon:.1f}" if budget.epsilon > policy.epsilon_agreement else f"delta {budget.delta:g}"
        )
        parts.append(f"Trained with noise, but {large} is too large to be printed as a guarantee.")
    if claim.kind != "no_patients":
        parts.append(
            "Attacks were measured; a pass does not prove anonymity."
            if audited
            else "No audit was made: no attack was measured."
        )
    if recipient.strip():
        parts.append(f"Recipient: {recipient.strip()}.")
    return " ".join(parts)


def _units(units: PatientUnits, claim: Claim) -> list[str]:
    if units.noted:
        return units.sentences(counts=claim.kind != "dp")
    return ["It is not recorded how patients were identified."]


def _event(event: Event, *, private: bool) -> SectionEvent:
    return SectionEvent(
        kind=event.kind,
        split=event.split,
        mechanism=event.mechanism,
        origin=event.origin,
        patients=None if private else event.patients,
        parameters=dict(event.parameters) or None,
    )


def _measurements(found: AuditFindings, policy: PolicyConfig, guaranteed: bool) -> list[Measurement]:
    rows = []
    for view, title in ((found.linkage.pixels, "pixels"), (found.linkage.high_pass, "fine structure")):
        p, near = view.p_value, view.nearer_than_limit
        rows.append(Measurement("linkage", f"p, {title}", p, policy.linkage_p, p >= policy.linkage_p))
        measure = f"images nearer than non-members, {title}"
        rows.append(Measurement("copies", measure, near, policy.max_near_copies, near <= policy.max_near_copies))
    rows += [_rate(ATTACKS[name].short, found.rate(name), policy.max_member_tpr, policy.fpr) for name in NATURAL_RULES]
    rows.append(_rate("planted canaries", found.canaries, policy.max_canary_tpr, policy.fpr))
    if isinstance(found.one_run, OneRunBound):
        proven, limit = found.one_run.epsilon_lower, None if guaranteed else policy.max_epsilon_lower_bound
        passed = None if limit is None else proven <= limit
        rows.append(Measurement("one-run bound", "epsilon at least", proven, limit, passed))
    again = found.reidentification
    if isinstance(again, Reidentification):
        value = again.matched_to_member / again.images if again.works else "not resolvable"
        measure = f"share matched to a member, chance {again.chance:.2f}"
        rows.append(Measurement("re-identification", measure, value, None, None))
    if isinstance(one := found.attribute, AttributeInference):
        rows.append(Measurement("attribute (site)", "gain", one.gain, None, None, one.low, one.high))
    return rows


def _rate(title: str, found: AttackSummary | CanaryAttack | Unmeasured, limit: float, fpr: float) -> Measurement:
    measure = f"TPR at {100 * fpr:g} % FPR"
    points = () if isinstance(found, Unmeasured) else found.operating_points
    for point in points:
        if point.fpr == fpr and isinstance(point, RatePoint):
            return Measurement(title, measure, point.tpr, limit, point.high <= limit, point.low, point.high)
    return Measurement(title, measure, "not resolvable", limit, False)
