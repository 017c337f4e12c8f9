"""The privacy section of a bundle's recipe and card: never more than was measured or accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medidistill.config import PolicyConfig
from medidistill.patient_units import PatientUnits
from medidistill.privacy.events import Claim, Event
from medidistill.privacy.gate import CONTROLLED, Budget, Verdict, guarantees, terms

__all__ = ["privacy_statement"]

_NATURAL = {"membership_release": "membership, this set", "lira": "LiRA, procedure", "rmia": "RMIA, procedure"}


def privacy_statement(
    policy: PolicyConfig,
    claim: Claim,
    verdicts: Sequence[Verdict],
    audit: Mapping[str, Any] | None,
    *,
    released: bool,
    budget: Budget | None,
    recipient: str = "",
    events: Sequence[Event] = (),
    units: PatientUnits | None = None,
) -> dict[str, Any]:
    """Return the privacy section of a bundle, JSON types.

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
    section: dict[str, Any] = {
        "audited": audit is not None,
        "released": released,
        "policy": asdict(policy),
        "terms": terms(policy, claim, budget) if released else CONTROLLED,
        "recipient": recipient.strip(),
        "statement": " ".join(
            [
                _statement(policy, claim, released, audit is not None, budget, guaranteed, recipient),
                *(_units(units or PatientUnits(), claim) if claim.kind != "no_patients" else ()),
                *(f"Overridden: rule {v.rule} ({v.figure}): {v.overridden}." for v in verdicts if v.overridden),
            ]
        ),
        "reasons": [*claim.reasons, *_failures(verdicts)],
        "overrides": [{"rule": v.rule, "figure": v.figure, "reason": v.overridden} for v in verdicts if v.overridden],
        "events": [_event(event, private=claim.kind == "dp") for event in events],
    }
    if guaranteed and budget is not None:
        section["guarantee"] = {
            "epsilon": round(budget.epsilon, 4),
            "delta": budget.delta,
            "unit": "patient of the training split",
            "mechanism": ", ".join(sorted({event.mechanism for event in claim.events})),
        }
    if audit is not None:
        section["verdict"] = _verdict(released, verdicts)
        section["measurements"] = _measurements(audit, policy, guaranteed)
    return section


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
        parts.append(f"Trained with noise, but epsilon {budget.epsilon:.1f} is too large to be printed as a guarantee.")
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


def _event(event: Event, *, private: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": event.kind,
        "split": event.split,
        "mechanism": event.mechanism,
        "origin": event.origin,
    }
    if not private:
        told["patients"] = event.patients
    return told | ({"parameters": dict(event.parameters)} if event.parameters else {})


def _measurements(audit: Mapping[str, Any], policy: PolicyConfig, guaranteed: bool) -> list[dict[str, Any]]:
    found = audit["audits"]
    rows: list[dict[str, Any]] = []
    for view, title in (("pixels", "pixels"), ("high_pass", "fine structure")):
        one = found["linkage"][view]
        rows.append(
            _row("linkage", f"p, {title}", one["p_value"], policy.linkage_p, one["p_value"] >= policy.linkage_p)
        )
        near = one["nearer_than_limit"]
        rows.append(
            _row("copies", f"images nearer than non-members, {title}", near, policy.copies, near <= policy.copies)
        )
    for name, title in _NATURAL.items():
        rows.append(_rate(title, found[name], policy.natural_tpr, policy.fpr))
    rows.append(_rate("planted canaries", found["canaries"], policy.canary_tpr, policy.fpr))
    if "epsilon_lower" in found["one_run"]:
        proven = found["one_run"]["epsilon_lower"]
        limit = None if guaranteed else policy.proven_epsilon
        rows.append(
            _row("one-run bound", "epsilon at least", proven, limit, None if limit is None else proven <= limit)
        )
    again = found["reidentification"]
    if again.get("measured"):
        value = again["matched_to_member"] / again["images"] if again["works"] else "not resolvable"
        rows.append(
            _row("re-identification", f"share matched to a member, chance {again['chance']:.2f}", value, None, None)
        )
    if found["attribute"].get("measured"):
        one = found["attribute"]
        rows.append(
            _row("attribute (site)", "gain", one["gain"], None, None) | {"low": one["low"], "high": one["high"]}
        )
    return rows


def _row(attack: str, measure: str, estimate: float | str, limit: float | None, passed: bool | None) -> dict[str, Any]:
    return {"attack": attack, "measure": measure, "estimate": estimate, "limit": limit, "passed": passed}


def _rate(title: str, found: Mapping[str, Any], limit: float, fpr: float) -> dict[str, Any]:
    measure = f"TPR at {100 * fpr:g} % FPR"
    points = [p for p in found.get("operating_points", []) if p["fpr"] == fpr and p["resolvable"]]
    if not points:
        return _row(title, measure, "not resolvable", limit, False)
    (point,) = points
    return _row(title, measure, point["tpr"], limit, point["high"] <= limit) | {
        "low": point["low"],
        "high": point["high"],
    }
