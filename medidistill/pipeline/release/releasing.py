"""The release of a bundle: policy, claim, budget, gate, overrides, ledger and log.

Ledger and log are written at the moment at which the bundle appears (`Release.publishing`), so that neither counts a
release that a full disk or a read-only folder prevented. A process that is killed in that moment leaves a release that
is counted and not there: the cautious side, and the same release again is no second one.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medidistill.config import PolicyConfig, RunConfig, digest
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, MedidistillError, PrivacyGateError
from medidistill.files import read_json, sha256_file, write_text
from medidistill.jsontypes import JsonObject  # facts of a log entry, by event
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.config_io.config_file import load_section
from medidistill.pipeline.release import release_log
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.work import RunContext, provenance_of
from medidistill.privacy import Claim, ProvenanceLog, set_digest
from medidistill.privacy.accounting import SubsampledGaussian, epsilon_spent, mechanisms_of
from medidistill.privacy.gate import (
    Budget,
    Override,
    Verdict,
    apply_overrides,
    evaluate_policy,
    raise_on_failure,
    terms,
)
from medidistill.privacy.ledger import Ledger
from medidistill.privacy.statement import privacy_statement
from medidistill.record import RunRecord
from medidistill.results.audit import AuditDocument
from medidistill.results.privacy_section import PrivacySection

__all__ = ["Override", "Release", "Verdict", "load_policy", "only_release", "preview", "release"]

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
        entry: what ledger and log will say of the release; None where nothing is released.
    """

    section: PrivacySection
    claim: Claim
    verdicts: list[Verdict]
    entry: _Entry | None = None

    @contextlib.contextmanager
    def publishing(self, bundle: Path) -> Iterator[None]:
        """Write ledger and log around the block in which the bundle appears; take them back where it cannot.

        Args:
            bundle: the complete bundle, under whatever name.

        Raises:
            ResourceError: one of them cannot be written, and then the bundle must not appear.
        """
        if self.entry is None:
            yield
            return
        facts = {**self.entry.facts, "bundle": sha256_file(bundle / "SHA256SUMS")}
        release_log.note(self.entry.log, "releasing", **facts)
        added = False
        try:
            added = self.entry.add_to_ledger()
            yield
        except BaseException as error:
            with contextlib.suppress(MedidistillError):
                if added:
                    self.entry.ledger.take_back()
                release_log.note(self.entry.log, "withdrawn", set=facts["set"], reason=type(error).__name__)
            raise
        release_log.note(self.entry.log, "released", **facts)

    def count_again(self, bundle: Path) -> None:
        """Count the release of a bundle that is there, if the ledger does not: it was lost, or another one is named.

        Raises:
            ResourceError: ledger or log cannot be written.
        """
        if self.entry is not None and not self.entry.is_counted:
            with self.publishing(bundle):
                pass


@dataclass(frozen=True)
class _Entry:
    """What is written down of a release.

    Args:
        log: the log of releases.
        ledger: the ledger, open for this release alone.
        patients: whose images made the set.
        mechanisms: that protect them.
        counted: whether the ledger counts it; phantoms cost nobody anything.
        facts: what the log says.
    """

    log: Path
    ledger: Ledger
    patients: Sequence[str]
    mechanisms: Sequence[SubsampledGaussian]
    counted: bool
    facts: JsonObject = field(default_factory=dict)

    @property
    def is_counted(self) -> bool:
        """Whether the ledger holds the release, or need not."""
        return not self.counted or self.ledger.holds(self.patients, self.facts["set"])

    def add_to_ledger(self) -> bool:
        """Count the release; return whether it had not been counted before."""
        if not self.counted:
            return False
        facts = {"policy": self.facts["policy"], "terms": self.facts["terms"]}
        return self.ledger.add(self.patients, self.facts["set"], self.mechanisms, **facts)


def release(run: RunContext, distilled: DistilledSet, *, wanted: bool, overrides: Sequence[Override] = ()) -> Release:
    """Decide whether a set may leave; without `wanted` only describe it.

    Args:
        run: the run that made it.
        distilled: the set.
        wanted: ask the gate. Hold `only_release` then, until the bundle is written in `Release.publishing`.
        overrides: failed rules to release in spite of, each by name and reason.

    Raises:
        PrivacyGateError: a rule failed and nobody overrode it.
        ConfigError: unknown policy, or a claim that cannot be accounted.
    """
    policy, manifest = load_policy(run.config.privacy.policy), provenance_of(run.folder, run.record)
    name = set_digest(distilled)
    audit = _audit_of(run.folder.audit / "audit.json", name)
    try:
        claim = manifest.claim()
    except ConfigError:
        if wanted:
            raise
        claim = Claim("none", reasons=("it is not recorded what the set was made from",))
    patients = _patients_behind(run, manifest) if wanted or claim.kind == "dp" else ()
    ledger = Ledger(_ledger_file(run)) if wanted or claim.kind == "dp" else None
    budget = _budget(claim, ledger, patients, name) if ledger is not None else None
    if budget is not None and run.patient_units.unresolved:
        budget = replace(budget, by_patient=False)
    verdicts: list[Verdict] = []
    entry = None
    if wanted:
        assert ledger is not None
        log = ledger.path.with_name(release_log.NAME)
        facts: JsonObject = {
            "set": name,
            "run": run.config.name,
            "policy": policy.name,
            "policy_digest": digest(policy),
        }
        init = str(distilled.recipe.get("init", "unknown"))
        verdicts = evaluate_policy(policy, audit, claim, name=name, init=init, budget=budget, units=run.patient_units)
        try:
            verdicts = apply_overrides(verdicts, overrides)
            raise_on_failure(verdicts)
        except PrivacyGateError:
            failed = [verdict.rule for verdict in verdicts if not verdict.passed]
            with contextlib.suppress(MedidistillError):  # nothing leaves: that is what must be said first
                release_log.note(log, "refused", **facts, failed_rules=failed)
            raise
        overridden = [verdict for verdict in verdicts if verdict.overridden]
        _log(run, overridden, name)
        facts |= {
            "terms": terms(policy, claim, budget),
            "claim": claim.kind,
            "patients": len(set(patients)),
            "recipient": run.config.privacy.recipient,
            "overridden": {verdict.rule: verdict.overridden for verdict in overridden},
        }
        mechanisms = mechanisms_of(claim.events) if claim.kind == "dp" else []
        entry = _Entry(log, ledger, patients, mechanisms, claim.kind != "no_patients", facts)
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
    return Release(section, claim, verdicts, entry)


@contextlib.contextmanager
def only_release(run: RunContext) -> Iterator[None]:
    """Let no other run that shares the ledger decide a release inside the block."""
    with Ledger(_ledger_file(run)).exclusive():
        yield


def preview(folder: RunFolder, config: RunConfig, distilled: DistilledSet) -> list[Verdict]:
    """Return what the gate would say to the release of a set now; asks and changes nothing.

    The accounting of a guarantee needs the ledger and the patients, so that rule is left to `release`.

    Raises:
        ConfigError: unknown policy, or a provenance that allows no claim.
        IngestError: the provenance is damaged or missing.
    """
    name, record = set_digest(distilled), RunRecord.load(folder.record_file)
    return evaluate_policy(
        load_policy(config.privacy.policy),
        _audit_of(folder.audit / "audit.json", name),
        provenance_of(folder, record).claim(),
        name=name,
        init=str(distilled.recipe.get("init", "unknown")),
        budget=None,
        units=PatientUnits.from_facts(record.stages.get("ingest", {})),
    )


def _audit_of(file: Path, name: str) -> AuditDocument | None:
    """Return the audit if it is about this set; one of another set says nothing about it."""
    if not file.is_file():
        return None
    stored = read_json(file)
    # an audit of another set may be of a version whose figures this one does not know
    return AuditDocument.from_dict(stored) if isinstance(stored, dict) and stored.get("set") == name else None


def _patients_behind(run: RunContext, manifest: ProvenanceLog) -> tuple[str, ...]:
    """Return the patients of every split that influenced the set, of the training split at least."""
    data = run.data()
    reached = {event.split for event in manifest.events if event.reaches_set} | {"train"}
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return tuple(patient for name, split in splits.items() if name in reached for patient in split.patient_ids)


def _budget(claim: Claim, ledger: Ledger, patients: Sequence[str], name: str) -> Budget | None:
    if claim.kind != "dp":
        return None
    delta = max(float(event.parameters["delta"]) for event in claim.events)
    earlier, bare = ledger.before(patients, name)
    if bare:  # these patients are in a set that was released without a mechanism: no sum exists
        return Budget(math.inf, delta)
    return Budget(epsilon_spent([*mechanisms_of(claim.events), *earlier], delta), delta)


def _ledger_file(run: RunContext) -> Path:
    return release_log.ledger_of(run.folder, run.config.privacy.ledger)


def _log(run: RunContext, overridden: Sequence[Verdict], name: str) -> None:
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
