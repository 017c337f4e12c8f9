"""Audit: attacks on the set that the run would export, with the run's own procedure for the shadow runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from medidistill.config import RunConfig, digest
from medidistill.distilled_set import DistilledSet
from medidistill.files import read_json, write_json, write_text
from medidistill.machine import available_cores
from medidistill.pipeline.comparison.arms import candidate_methods, delivery
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.prepared import private_folder
from medidistill.pipeline.release.auditing import non_members, procedure_of
from medidistill.pipeline.release.release_check import check_after_ingest
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.work import RunContext
from medidistill.privacy import audit as attack
from medidistill.privacy import profile_named
from medidistill.privacy.audit import set_digest
from medidistill.privacy.dpo_report import dpo_report_html, dpo_report_markdown
from medidistill.results.audit import AuditDocument

__all__ = ["Audit", "audit", "audit_processes"]


class Audit(Stage):
    """Attacks the set, where the configuration names a profile."""

    kind = "audit"
    title = "Attack the distilled set (audit)"

    @classmethod
    def of(cls, config: RunConfig) -> tuple[Stage, ...]:
        """Return the one stage, none without a profile."""
        return () if config.privacy.audit == "none" else (cls(),)

    def inputs(self, run: RunContext) -> str:
        """Return the digest of the set and of the configured profile."""
        return _inputs(run, run.config.privacy.audit)

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the document."""
        return (audit_file(run),)

    def run(self, run: RunContext) -> None:
        """Attack by the configured profile; finished shadow runs are kept."""
        audit(run, run.config.privacy.audit)

    def estimate(self, survey: Survey) -> Estimate:
        """Return the time of the shadow runs, each on half of the patients, and the size of what they keep.

        Rough: `medidistill audit --estimate` measures a shadow run.
        """
        config = survey.config
        profile, pool = profile_named(config.privacy.audit), config.experts
        share = min(pool.count, profile.experts or pool.count) / pool.count
        longest = max(survey.outer_steps(method) for method in candidate_methods(config))
        seconds = profile.shadows * (share * survey.experts / 2 + longest) / audit_processes(config)
        return Estimate(seconds, profile.shadows * survey.images * survey.classes * 4)

    def discard(self, folder: RunFolder) -> None:
        """Remove the findings and the shadow runs."""
        folder.remove_entry(folder.audit)


def audit_processes(config: RunConfig, workers: int = 0) -> int:
    """Return how many processes share the shadow runs: `workers`, else `threads`, else one for each available core."""
    return workers or config.threads or available_cores()


class _EstimateReady(Exception):  # noqa: N818 (a result, not an error)
    """The estimate was all that was asked for."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass(frozen=True)
class AuditEstimate:
    """How long an audit would take.

    Args:
        seconds: that the shadow runs will take that are left.
        shadows: runs of the whole procedure.
        workers: processes.
        release_check: what the counts say about the release, sentences.
    """

    seconds: float
    shadows: int
    workers: int
    release_check: tuple[str, ...]


def audit(
    run: RunContext, profile_name: str, *, workers: int = 0, estimate: bool = False
) -> AuditDocument | AuditEstimate:
    """Attack the set that this run would export; returns the document, also kept as audit/audit.json.

    Args:
        run: a run whose distillation has finished.
        profile_name: `quick` or `full`.
        workers: processes for the shadow runs; 0: `threads` of the configuration, else one for each core.
        estimate: do one shadow run, say how long the rest takes, and stop there.

    Raises:
        ConfigError: unknown profile, or a stage that has not finished.
    """
    profile = profile_named(profile_name)
    method = delivery(run.config, run.folder).method
    run.require(f"distill/{method}", f"medidistill distill --method {method}")
    data = run.data()
    workers = audit_processes(run.config, workers)
    check = check_after_ingest(run, profile.name)
    for line in check.lines() if not estimate else ():
        say(run.progress, line)
    inputs = _inputs(run, profile.name)
    if run.is_up_to_date("audit", inputs, audit_file(run)):
        return AuditDocument.from_dict(read_json(audit_file(run)))
    run.record_data_access("audit", inputs, train=data.train, val=data.val, test=data.test)
    folder = private_folder(run.folder.audit)
    procedure = procedure_of(run, profile, data, private_folder(folder / "work"), workers)
    release = DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")

    def on_estimate(seconds: float) -> None:
        say(run.progress, f"audit {profile.name}: the other shadow runs take about {seconds / 60:.1f} min")
        if estimate:
            raise _EstimateReady(seconds)

    with run.bar(f"audit {profile.name}", profile.shadows, "shadow") as bar, run.stop.deferred():

        def on_run(done: int, total: int) -> None:
            bar.at(done, total)
            run.stop.check()

        try:
            document = attack(
                release,
                data.train,
                non_members(data),
                procedure,
                profile,
                procedure=procedure.digest,
                folder=folder / "shadows",
                seed=run.config.seed,
                workers=workers,
                compile=procedure.compile,
                on_run=on_run,
                on_part=lambda name: say(run.progress, f"audit: {name}"),
                on_estimate=on_estimate,
            )
        except _EstimateReady as enough:
            return AuditEstimate(enough.seconds, profile.shadows, workers, tuple(check.lines()))
    units = tuple(run.patient_units.sentences())
    document = replace(document, patient_units=units)
    write_json(audit_file(run), {**document.to_dict(), "patient_units": list(units)}, mode=0o600)
    write_text(folder / "privacy-report.md", dpo_report_markdown(document), mode=0o600)
    write_text(folder / "privacy-report.html", dpo_report_html(document), mode=0o600)
    written = [audit_file(run), *folder.glob("privacy-report.*")]
    run.mark_finished("audit", inputs, written, profile=profile.name, set=document.set, seconds=document.seconds)
    return document


def audit_file(run: RunContext) -> Path:
    """Return the file of the run's audit."""
    return run.folder.audit / "audit.json"


def _inputs(run: RunContext, profile: str) -> str:
    method = delivery(run.config, run.folder).method
    basis = run.require(f"distill/{method}", f"medidistill distill --method {method}")
    if run.config.experts.dp.enabled:  # another draw of the noise gives another set of the same inputs
        basis = digest(basis, set_digest(DistilledSet.load(run.folder.distill(method) / "distilled.safetensors")))
    return digest("audit", basis, vars(profile_named(profile)), run.config.seed)
