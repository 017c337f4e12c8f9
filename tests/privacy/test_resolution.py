"""What counts can never show, held against the gate that judges the same counts after an audit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from medidistill.config import PolicyConfig
from medidistill.errors import ConfigError
from medidistill.patient_units import PatientUnits
from medidistill.privacy.attacks.one_run import guess_count, one_run_epsilon
from medidistill.privacy.events import Claim
from medidistill.privacy.gate import evaluate_policy
from medidistill.privacy.resolution import (
    PATIENT_RULES,
    AuditCounts,
    canaries_needed,
    false_alarm_rates,
    unresolvable_rules,
)
from medidistill.privacy.statistics import MEASURED_FPRS
from medidistill.results.audit import AuditDocument

from .audit_example import LINKAGE, ONE_RUN, POINT, UNRESOLVED, VIEW, audit_of, findings

POLICY = PolicyConfig()
# the public collection of three classes: 1,650 training films of 1,159 patients, 721 of 484 others
COUNTS = AuditCounts(15, 1650, 1159, 721, 484, 1024)


def rules(policy: PolicyConfig = POLICY, **changes: Any) -> dict[str, str]:
    found = unresolvable_rules(policy, dataclasses.replace(COUNTS, **changes))
    return {one.rule: str(one) for one in found}


def test_enough_of_everything_leaves_nothing_unresolved() -> None:
    assert rules() == {}


@pytest.mark.parametrize(
    ("changes", "stuck", "said"),
    [
        ({"released": 12}, "linkage", "12 released images cannot give a p value below 0.01; needs 13 images"),
        ({"released": 6, "member_images": 721}, "linkage", "needs 7 images"),
        ({"other_images": 0}, "linkage", "1650 images of members and 0 of non-members"),
        ({"other_images": 99, "released": 100}, "copies", "needs 100 images of patients outside"),
        ({"other_patients": 199}, "membership_release", "needs 283 members and 200 non-members"),
        ({"member_patients": 282}, "lira", "282 members and 282 non-members (patients)"),
        ({"member_patients": 282}, "rmia", "at most 3 % at 1 % false positives"),
        ({"canaries": 398}, "canaries", "about 199 members and 199 non-members (canaries)"),
        ({"canaries": 0}, "one_run", "0 canaries cannot prove more than epsilon 0.00; needs 16 canaries"),
        ({"init": "real"}, "start", "the images start from real; needs distill.init=noise"),
    ],
)
def test_a_number_below_the_need_is_named_with_the_need(changes: dict[str, Any], stuck: str, said: str) -> None:
    assert said in rules(**changes)[stuck]


@pytest.mark.parametrize(
    "changes",
    [
        {"released": 13},
        {"released": 7, "member_images": 721},
        {"other_images": 100, "released": 100},
        {"other_patients": 200},
        {"member_patients": 283},
        {"canaries": 400},
    ],
)
def test_the_number_that_is_asked_for_is_enough(changes: dict[str, Any]) -> None:
    assert rules(**changes) == {}


def test_a_rate_that_no_attack_is_measured_at_is_found_in_the_policy() -> None:
    found = rules(PolicyConfig(fpr=0.02))
    assert set(found) == {"membership_release", "lira", "rmia", "canaries"}
    assert "fpr=0.02 of the policy is not measured; needs fpr=0.01 or 0.001" in found["lira"]


def test_the_phantom_policy_asks_for_phantoms_alone() -> None:
    policy = PolicyConfig(name="phantom", patients=False)
    assert rules(policy, phantom=True, released=1, canaries=0) == {}
    assert set(rules(policy)) == {"phantom"}


def test_with_a_guarantee_the_one_run_bound_is_no_rule() -> None:
    strict = PolicyConfig(max_epsilon_lower_bound=6)
    assert set(rules(strict)) == {"one_run"}
    assert rules(strict, guaranteed=True) == {}


@pytest.mark.parametrize("limit", [0.0, 0.5, 3.0, 5.0])
def test_the_canaries_asked_for_are_the_fewest_that_resolve(limit: float) -> None:
    needed = canaries_needed(PolicyConfig(max_epsilon_lower_bound=limit))
    assert needed is not None
    ceilings = [one_run_epsilon(n, guess_count(n), guess_count(n)) for n in (needed - 1, needed)]
    assert ceilings[0] <= limit < ceilings[1]
    assert canaries_needed(PolicyConfig(max_epsilon_lower_bound=30.0)) is None


def test_false_alarms_are_of_resolvable_rules_alone() -> None:
    assert false_alarm_rates(POLICY, COUNTS) == {}
    few = dataclasses.replace(COUNTS, member_patients=350, other_patients=220)
    assert set(false_alarm_rates(POLICY, few)) == {"membership_release", "lira", "rmia"}
    assert all(0.05 <= rate < 1 for rate in false_alarm_rates(POLICY, few).values())
    fewer = dataclasses.replace(COUNTS, member_patients=100)
    assert "lira" not in false_alarm_rates(POLICY, fewer)


def _clean_audit(counts: AuditCounts) -> AuditDocument:
    """Return an audit of these counts whose every attack finds as little as it can."""

    def rate(members: int, others: int) -> dict[str, Any]:
        sides = {"members": members, "nonmembers": others}
        points = [
            (POINT if others // 2 * fpr >= 1 else UNRESOLVED)
            | sides
            | {"fpr": fpr, "tpr": 0.0, "low": 0.0, "high": 0.0}
            for fpr in MEASURED_FPRS
        ]
        return {"auc": 0.5, "operating_points": points}

    view = VIEW | {"p_value": 1.0}
    guesses, inside = guess_count(counts.canaries), counts.canaries // 2
    chance = counts.member_images / (counts.member_images + counts.other_images)
    people = counts.member_patients
    linkage = LINKAGE | {"images": counts.released, "chance": chance, "others": counts.other_images}
    ceiling = one_run_epsilon(counts.canaries, guesses, guesses)
    return audit_of(
        findings()
        | {
            "linkage": {**linkage, "pixels": view, "high_pass": view},
            "membership_release": rate(people, counts.other_patients),
            "lira": rate(people, people),
            "rmia": rate(people, people),
            "canaries": {**rate(inside, counts.canaries - inside), "weight": 1, "mean_shift": 0.0},
            "one_run": ONE_RUN | {"epsilon_lower": 0.0, "ceiling": ceiling, "guesses": guesses, "right": 0},
        }
    )


@pytest.mark.parametrize("policy", [POLICY, PolicyConfig(linkage_p=0.001, max_member_tpr=0.02, max_canary_tpr=0.05)])
@pytest.mark.parametrize(("released", "canaries"), [(1, 8), (7, 100), (12, 512), (13, 1024), (25, 14)])
@pytest.mark.parametrize("patients", [(50, 50), (250, 199), (283, 200), (2000, 484)])
def test_the_gate_fails_exactly_these_rules_of_an_audit_that_finds_nothing(
    policy: PolicyConfig, released: int, patients: tuple[int, int], canaries: int
) -> None:
    counts = AuditCounts(released, 2 * patients[0], patients[0], patients[1], patients[1], canaries)
    verdicts = evaluate_policy(policy, _clean_audit(counts), Claim("none"), name="abc", init="noise", budget=None)
    assert {v.rule for v in verdicts if not v.passed} == {one.rule for one in unresolvable_rules(policy, counts)}


def test_limits_below_the_rate_of_guessing_stay_refused() -> None:
    with pytest.raises(ConfigError):
        PolicyConfig(max_canary_tpr=0.01)


def test_unknown_patients_resolve_no_rule_by_patient_whatever_the_counts() -> None:
    why = PatientUnits(table=1, nothing=2).unresolved
    found = rules(patients_unknown=why)
    assert set(found) == set(PATIENT_RULES)
    assert all(why in text for text in found.values())
    assert set(rules(patients_unknown=why, init="real")) == {"start", *PATIENT_RULES}
