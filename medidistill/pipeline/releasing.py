"""The release of a bundle: policy, claim, budget, gate, overrides, ledger."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medidistill.config import PolicyConfig, RunConfig
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.files import read_json, write_text
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.config_file import load_section
from medidistill.pipeline.run_folder import RunFolder
from medidistill.pipeline.work import Run
from medidistill.privacy import Claim, Manifest, set_digest
from medidistill.privacy.accounting import epsilon_spent, mechanisms_of
from medidistill.privacy.gate import Budget, Override, Verdict, judge, overrule, refuse, terms
from medidistill.privacy.ledger import Ledger
from medidistill.privacy.statement import privacy_statement
from medidistill.record import RunRecord

__all__ = ["Override", "Release", "Verdict", "load_policy", "preview", "release"]

_READY = {"default": PolicyConfig(), "phantom": PolicyConfig(name="phantom", patients=False)}


def load_policy(name: str) -> PolicyConfig:
    """Return a ready-made policy (`default`, `phantom`) or one from a YAML file. Raises `ConfigError`."""
    if name in _READY:
        return _READY[name]
    policy = load_section(name, PolicyConfig, _READY)
    assert isinstance(policy, PolicyConfig)
    return policy


@dataclass(frozen=True)
class Release:
    """What was decided about a set.

    Args:
        section: the privacy section of its bundle.
        claim: what its provenance allows.
        verdicts: of the gate; empty where nothing was to be released.
    """

    section: dict[str, Any]
    claim: Claim
    verdicts: list[Verdict]


def release(run: Run, distilled: DistilledSet, *, wanted: bool, overrides: Sequence[Override] = ()) -> Release:
    """Decide whether a set may leave; without `wanted` only describe it.

    Args:
        run: the run that made it.
        distilled: the set.
        wanted: ask the gate; the ledger notes a release that passed.
        overrides: failed rules to release in spite of, each by name and reason.

    Raises:
        PrivacyGateError: a rule failed and nobody overrode it.
        ConfigError: unknown policy, or a claim that cannot be accounted.
    """
    policy, manifest = load_policy(run.config.privacy.policy), Manifest.load(run.folder.provenance)
    name = set_digest(distilled)
    audit = _audit_of(run.folder.audit / "audit.json", name)
    try:
        claim = manifest.claim()
    except ConfigError:
        if wanted:
            raise
        claim = Claim("none", reasons=("it is not recorded what the set was made from",))
    patients = run.data().train.patient_ids if wanted or claim.kind == "dp" else ()
    ledger = Ledger(_ledger_file(run)) if wanted or claim.kind == "dp" else None
    budget = _budget(claim, ledger, patients, name) if ledger is not None else None
    if budget is not None and run.patient_units.unresolved:
        budget = replace(budget, by_patient=False)
    verdicts: list[Verdict] = []
    if wanted:
        init = str(distilled.recipe.get("init", "unknown"))
        verdicts = judge(policy, audit, claim, name=name, init=init, budget=budget, units=run.patient_units)
        verdicts = overrule(verdicts, overrides)
        refuse(verdicts)
        _log(run, [verdict for verdict in verdicts if verdict.overridden], name)
        if claim.kind != "no_patients" and ledger is not None:
            mechanisms = mechanisms_of(claim.events) if claim.kind == "dp" else []
            ledger.add(patients, name, mechanisms, policy=policy.name, terms=terms(policy, claim, budget))
    section = privacy_statement(
        policy,
        claim,
        verdicts,
        audit,
        released=wanted,
        budget=budget,
        recipient=run.config.privacy.recipient,
        events=manifest.events,
        units=run.patient_units,
    )
    return Release(section, claim, verdicts)


def preview(folder: RunFolder, config: RunConfig, distilled: DistilledSet) -> list[Verdict]:
    """Return what the gate would say to the release of a set now; asks and changes nothing.

    The accounting of a guarantee needs the ledger and the patients, so that rule is left to `release`.

    Raises:
        ConfigError: unknown policy, or a provenance that allows no claim.
    """
    name = set_digest(distilled)
    return judge(
        load_policy(config.privacy.policy),
        _audit_of(folder.audit / "audit.json", name),
        Manifest.load(folder.provenance).claim(),
        name=name,
        init=str(distilled.recipe.get("init", "unknown")),
        budget=None,
        units=PatientUnits.from_facts(RunRecord.load(folder.record_file).stages.get("ingest", {})),
    )


def _audit_of(file: Path, name: str) -> dict[str, Any] | None:
    """Return the audit if it is about this set; one of another set says nothing about it."""
    audit: dict[str, Any] | None = read_json(file) if file.is_file() else None
    return audit if audit is not None and audit["set"] == name else None


def _budget(claim: Claim, ledger: Ledger, patients: Sequence[str], name: str) -> Budget | None:
    if claim.kind != "dp":
        return None
    delta = max(float(event.parameters["delta"]) for event in claim.events)
    earlier, bare = ledger.before(patients, name)
    if bare:  # these patients are in a set that was released without a mechanism: no sum exists
        return Budget(math.inf, delta)
    return Budget(epsilon_spent([*mechanisms_of(claim.events), *earlier], delta), delta)


def _ledger_file(run: Run) -> Path:
    named = run.config.privacy.ledger
    return Path(named) if named else run.folder.path.resolve().parent / "privacy-ledger.json"


def _log(run: Run, overridden: Sequence[Verdict], name: str) -> None:
    """Append each override to audit/overrides.jsonl."""
    if not overridden:
        return
    file = run.folder.audit / "overrides.jsonl"
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    lines = [
        json.dumps(
            {"when": when, "set": name, "rule": v.rule, "figure": v.figure, "limit": v.limit, "why": v.overridden}
        )
        for v in overridden
    ]
    write_text(file, before + "".join(f"{line}\n" for line in lines), mode=0o600)
