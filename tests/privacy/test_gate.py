from __future__ import annotations

from typing import Any

import pytest

from medidistill.config import PolicyConfig
from medidistill.errors import ConfigError, PrivacyGateError
from medidistill.patient_units import PatientUnits
from medidistill.privacy.events import Claim, Event
from medidistill.privacy.gate import (
    CONTROLLED,
    Budget,
    Override,
    apply_overrides,
    evaluate_policy,
    guarantees,
    raise_on_failure,
    terms,
)
from medidistill.privacy.statement import privacy_statement

from .audit_example import POINT, UNRESOLVED, VIEW, audit_of, findings

POLICY = PolicyConfig()
NONE = Claim("none")


def failed(change: Any = None, **other: Any) -> dict[str, str]:
    audits = findings()
    if change is not None:
        change(audits)
    values: dict[str, Any] = {"name": "abc", "init": "noise", "budget": None} | other
    verdicts = evaluate_policy(
        values.pop("policy", POLICY), values.pop("audit", audit_of(audits)), values.pop("claim", NONE), **values
    )
    return {v.rule: f"{v.figure}; {v.remedy}" for v in verdicts if not v.passed}


def test_a_clean_audit_passes_every_rule() -> None:
    assert failed() == {}
    rules = {v.rule for v in evaluate_policy(POLICY, audit_of(findings()), NONE, name="abc", init="noise", budget=None)}
    assert rules == {"start", "audit", "linkage", "copies", "membership_release", "lira", "rmia", "canaries", "one_run"}


def test_no_audit_another_set_and_a_real_start_fail() -> None:
    assert list(failed(audit=None)) == ["audit"]
    assert "the set changed after its audit" in failed(name="xyz")["audit"]
    assert "distill again with distill.init=noise" in failed(init="real")["start"]


@pytest.mark.parametrize("view", ["pixels", "high_pass"])
def test_either_view_of_a_copy_fails(view: str) -> None:
    assert list(failed(lambda a: a["linkage"].update({view: VIEW | {"p_value": 0.009}}))) == ["linkage"]
    assert list(failed(lambda a: a["linkage"].update({view: VIEW | {"p_value": 0.5, "nearer_than_limit": 1}}))) == [
        "copies"
    ]


def test_what_the_numbers_cannot_resolve_fails_and_says_what_it_needs() -> None:
    assert "not resolvable: 6 images" in failed(lambda a: a["linkage"].update(images=6))["linkage"]
    assert "needs 7 images" in failed(lambda a: a["linkage"].update(images=6))["linkage"]
    assert failed(lambda a: a["linkage"].update(images=7)) == {}
    assert "needs 100 images" in failed(lambda a: a["linkage"].update(others=99))["copies"]
    unresolved = UNRESOLVED | {"fpr": 0.01, "nonmembers": 150}
    told = failed(lambda a: a["canaries"].update(operating_points=[unresolved]))["canaries"]
    assert "needs" in told
    assert "200 non-members (canaries)" in told
    few = {**POINT, "members": 50, "tpr": 0.0, "high": 0.02}
    assert "not resolvable with 50 members" in failed(lambda a: a["lira"].update(operating_points=[few]))["lira"]
    absent = {"measured": False, "reason": "too few images"}
    assert "not measured: too few images" in failed(lambda a: a.update(canaries=absent))["canaries"]


@pytest.mark.parametrize(
    ("rule", "limit"), [("lira", 0.03), ("rmia", 0.03), ("membership_release", 0.03), ("canaries", 0.1)]
)
def test_the_upper_limit_is_judged_not_the_estimate(rule: str, limit: float) -> None:
    def at(high: float) -> Any:
        return lambda a: a[rule].update(operating_points=[{**POINT, "high": high}])

    assert failed(at(limit)) == {}
    assert list(failed(at(limit + 1e-6))) == [rule]


def test_without_a_guarantee_the_attacks_may_prove_little() -> None:
    def at(lower: float, **more: float) -> Any:
        return lambda a: a["one_run"].update({"epsilon_lower": lower, **more})

    assert failed(at(0.5)) == {}
    assert "epsilon >= 0.51 (330 of 512 guesses right)" in failed(at(0.51))["one_run"]
    assert "cannot prove more than 0.40" in failed(at(0.1, ceiling=0.4))["one_run"]
    absent = {"measured": False, "reason": "no canaries"}
    assert "not measured: no canaries" in failed(lambda a: a.update(one_run=absent))["one_run"]
    # a guarantee is held to its own figure; one too large to be printed is none
    dp = Claim("dp")
    assert failed(at(1.9), claim=dp, budget=Budget(2.0, 1e-5)) == {}
    assert failed(at(1.9), claim=dp, budget=None) == {}
    assert set(failed(at(1.9), claim=dp, budget=Budget(8.1, 1e-5))) == {"one_run"}
    assert set(failed(at(1.9), claim=dp, budget=Budget(2.0, 0.05))) == {"one_run"}


def test_attacks_that_contradict_the_accountants_fail() -> None:
    dp = Claim("dp")
    assert failed(claim=dp, budget=Budget(0.5, 1e-5)) == {}
    assert "report it" in failed(claim=dp, budget=Budget(0.3, 1e-5))["accounting"]


UNKNOWN = PatientUnits(table=5, nothing=7)
BY_PATIENT = {"linkage", "copies", "membership_release", "lira", "rmia"}


@pytest.mark.parametrize(
    ("units", "why"),
    [
        (UNKNOWN, "not resolvable: patients unknown, split by image (7 of 12 images)"),
        (PatientUnits(noted=False), "not resolvable: this run does not note what tells its patients apart"),
    ],
)
def test_no_rule_by_patient_is_resolved_where_nothing_tells_the_patients(units: PatientUnits, why: str) -> None:
    told = failed(units=units)
    assert set(told) == BY_PATIENT
    assert all(text.startswith(why) and "column patient_id" in text for text in told.values())
    assert failed(units=PatientUnits(table=5, header=3, study=4)) == {}
    assert set(failed(units=units, policy=PolicyConfig(name="phantom", patients=False))) == {"phantom"}


def test_a_large_delta_is_no_guarantee() -> None:
    dp, budget = Claim("dp", events=(Event("read", "train", 1, "c"),)), Budget(1.0, 0.05)
    assert terms(POLICY, dp, budget) == CONTROLLED
    assert not guarantees(POLICY, budget)
    assert terms(POLICY, dp, Budget(1.0, POLICY.max_delta)) == "open"


def test_a_bound_for_an_image_is_no_guarantee_for_a_patient() -> None:
    dp, budget = Claim("dp", events=(Event("read", "train", 1, "c"),)), Budget(1.0, 1e-5, by_patient=False)
    assert terms(POLICY, dp, budget) == CONTROLLED
    assert not guarantees(POLICY, budget)
    assert guarantees(POLICY, Budget(1.0, 1e-5))

    def proven(audits: Any) -> None:
        audits["one_run"].update(epsilon_lower=0.9)

    assert "one_run" in failed(proven, claim=dp, budget=budget, units=UNKNOWN)
    assert "one_run" in failed(proven, claim=dp, budget=None, units=UNKNOWN)
    assert "one_run" not in failed(proven, claim=dp, budget=Budget(1.0, 1e-5))


def test_the_statement_says_what_stands_for_a_patient() -> None:
    def said(claim: Claim, units: PatientUnits | None, budget: Budget | None = None) -> str:
        section = privacy_statement(POLICY, claim, [], None, released=False, budget=budget, units=units)
        return section.statement

    assert "Patients unknown for 7 of 12 images: split by image." in said(NONE, UNKNOWN)
    assert "Patients unknown: split by image." in said(NONE, PatientUnits(nothing=3))
    assert "4 of 5 images have no Patient ID: the study" in said(NONE, PatientUnits(table=1, study=4))
    assert "It is not recorded how patients were identified." in said(NONE, PatientUnits(noted=False))
    assert "atients unknown" not in said(NONE, None)
    assert "atients unknown" not in said(Claim("no_patients"), UNKNOWN)
    dp = Claim("dp", events=(Event("read", "train", 1, "c"),))
    told = said(dp, UNKNOWN, Budget(1.0, 1e-5, by_patient=False))
    assert "a bound for one image and not for a patient: no guarantee" in told
    assert "differential privacy for each patient" not in told
    assert "7 of 12" not in told


def test_terms_follow_from_the_claim() -> None:
    dp = Claim("dp", events=(Event("read", "train", 1, "c"),))
    found = [terms(POLICY, dp, Budget(epsilon, 1e-5)) for epsilon in (2.0, 2.1, 8.0, 8.1)]
    assert found == ["open", "under agreement with the recipient", "under agreement with the recipient", CONTROLLED]
    assert terms(POLICY, NONE, None) == CONTROLLED
    assert "phantom" in terms(POLICY, Claim("no_patients"), None)


def test_the_phantom_policy_is_for_phantoms_alone() -> None:
    phantom = PolicyConfig(name="phantom", patients=False)
    assert failed(policy=phantom, claim=Claim("no_patients"), audit=None) == {}
    assert "images of patients were used" in failed(policy=phantom, claim=NONE)["phantom"]


def test_a_refusal_names_rule_figure_and_remedy() -> None:
    verdicts = evaluate_policy(POLICY, None, NONE, name="abc", init="real", budget=None)
    with pytest.raises(
        PrivacyGateError,
        match=r"rule start: .*from real, required noise; distill again.*rule audit: no",
    ):
        raise_on_failure(verdicts)
    assert PrivacyGateError.exit_code == 4


def test_an_override_needs_a_name_a_reason_and_a_failure() -> None:
    verdicts = evaluate_policy(POLICY, None, NONE, name="abc", init="real", budget=None)
    for reason, by in (("", "PHANTOM^0001"), ("why", " ")):
        with pytest.raises(PrivacyGateError, match="needs --reason and --by"):
            apply_overrides(verdicts, [Override("start", reason, by)])
    with pytest.raises(PrivacyGateError, match="has not failed; failed rules: audit, start"):
        apply_overrides(verdicts, [Override("linkage", "why", "PHANTOM^0001")])
    one = apply_overrides(verdicts, [Override("start", "a test", "PHANTOM^0001")])
    with pytest.raises(PrivacyGateError, match="rule audit") as refused:
        raise_on_failure(one)
    assert "rule start" not in str(refused.value)
    raise_on_failure(apply_overrides(verdicts, [Override(r, "a test", "PHANTOM^0001") for r in ("start", "audit")]))


def test_a_policy_that_nothing_could_keep_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_member_tpr=0\.01: must be >"):
        PolicyConfig(max_member_tpr=0.01)
    with pytest.raises(ConfigError, match="max_epsilon_open=9"):
        PolicyConfig(max_epsilon_open=9.0)


@pytest.mark.parametrize(
    ("init", "words"),
    [("gaussian", "draws of class Gaussians"), ("mixture", "draws of Gaussians of patient groups")],
)
def test_draws_of_gaussians_are_no_copies_of_patients_images(init: str, words: str) -> None:
    (start,) = [v for v in evaluate_policy(POLICY, None, NONE, name="abc", init=init, budget=None) if v.rule == "start"]
    assert start.passed
    assert start.figure == f"the images started from {words}"
    assert start.limit == "noise, or draws of Gaussians"
