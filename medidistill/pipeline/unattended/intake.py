"""From PACS to run, one step at a time: received, settled, de-identified, run, delivered.

`process` takes every batch as far as it goes. Each step can be killed at any point and is done again from the state
that is on disk; a batch that fails keeps no other from going on.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medidistill.config import RunConfig, as_dict, digest
from medidistill.errors import (
    ConfigError,
    IngestError,
    PrivacyGateError,
    ResourceError,
    StoppedError,
    as_known,
)
from medidistill.files import private_umask, translate_os_errors, write_json, write_text
from medidistill.ingest import deidentify as deid
from medidistill.ingest.pacs.spool import object_name
from medidistill.ingest.pacs.study_spool import Arrival, WaitingStudy, accession_name, list_spool, take_study, taking
from medidistill.ingest.sources.table import read_table
from medidistill.jsontypes import JsonObject  # facts of a stage, see `RunRecord.stages`
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.pipeline.release.bundle_delivery import deliver_bundle
from medidistill.pipeline.runfolder.cleaning import clean
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.runfolder.run_folder import RunFolder, refused_changes
from medidistill.pipeline.runfolder.sinks import Sink
from medidistill.pipeline.runfolder.status import State, read_status
from medidistill.pipeline.runfolder.withholding import full_text, make_public
from medidistill.pipeline.runner import run
from medidistill.pipeline.stopping import GracefulShutdown
from medidistill.pipeline.unattended.intake_folder import Batch, BatchState, IntakeFolder, remove
from medidistill.record import RunRecord

__all__ = ["IntakeSettings", "Pass", "process", "purge"]

# an attempt that ended so ends so again, unless tables, settings or the batch are others
_HOPELESS = frozenset({2, 3, 4, 6, 7})
_COUNTS = "counts.json"
_DAY = 86400.0


@dataclass(frozen=True)
class IntakeSettings:
    """How batches are processed.

    Args:
        config: of the runs; without a ledger of its own it gets that of the intake.
        labels: CSV of labels by sop_instance_uid or accession_number; a study waits until a row names one of its
            objects.
        key_file: key of the de-identification; None: from the environment.
        recipe: of the de-identification; None: the defaults.
        settle: seconds of silence after which a study counts as settled.
        smallest: studies that a batch must have to be begun.
        deliver: folder that receives a copy of each bundle; None: it stays in its run folder.
        unreleased: deliver bundles that no privacy gate released.
        keep_identified: days that received studies are kept after delivery.
        keep_clean: days that their de-identified copies are kept after delivery.
        retry: try again what has failed with the same settings and tables.
    """

    config: RunConfig
    labels: Path
    key_file: Path | None = None
    recipe: Path | None = None
    settle: float = 600.0
    smallest: int = 1
    deliver: Path | None = None
    unreleased: bool = False
    keep_identified: float = 7.0
    keep_clean: float = 30.0
    retry: bool = False

    def __post_init__(self) -> None:
        for name in ("settle", "keep_identified", "keep_clean"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be >= 0")
        if self.smallest < 1:
            raise ConfigError(f"--min-studies {self.smallest}: must be >= 1")


@dataclass(frozen=True)
class Pass:
    """What one pass over an intake did.

    Args:
        lines: one line a batch that was worked on, or that is held up.
        exit_code: 0, or that of the oldest batch that is held up.
    """

    lines: tuple[str, ...]
    exit_code: int


def process(
    folder: IntakeFolder,
    settings: IntakeSettings,
    *,
    progress: bool = True,
    stop: GracefulShutdown | None = None,
    command: str = "",
    sinks: tuple[Sink, ...] = (),
) -> Pass:
    """Take what has settled into a batch, and each batch as far as it goes.

    Args:
        folder: the intake.
        settings: see `IntakeSettings`.
        progress: say on stderr what is done.
        stop: where requests to stop arrive.
        command: how it was started, for the records.
        sinks: where else the progress of a run goes.

    Raises:
        StoppedError: a signal; the next call goes on.
        ConfigError: a setting is wrong; nothing was done.
        IngestError: the table of labels cannot be read; nothing was done.
        ResourceError: the intake cannot be written.
    """
    with private_umask(), folder.locked("processor") as mine:
        if not mine:
            return Pass(("another process is at work on this intake",), 0)
        return _Processor(folder, settings, progress, stop or GracefulShutdown(), command, sinks).go()


def purge(folder: IntakeFolder, name: str) -> list[str]:
    """Remove identified and de-identified images of a batch, whatever its state; return what was removed.

    Raises:
        ConfigError: no such batch.
        ResourceError: a process is at work on the intake, or a file cannot be removed.
    """
    with private_umask(), folder.locked("processor") as mine:
        if not mine:
            raise ResourceError(f"{folder.root}: a process is at work on this intake; stop it, or wait for its end")
        batch = folder.batch(name)
        _purge_identified(folder, batch)
        _purge_clean(folder, folder.batch(name))
        return [f"{batch.objects} received objects", f"{batch.images or 0} de-identified images"]


@dataclass
class _Processor:
    folder: IntakeFolder
    settings: IntakeSettings
    progress: bool
    stop: GracefulShutdown
    command: str
    sinks: tuple[Sink, ...]

    def go(self) -> Pass:
        """Do one pass."""
        self.folder.sweep()
        self.folder.keep_settle(self.settings.settle)
        self._collect()
        lines, code = [], 0
        for batch in self.folder.batches():
            if batch.state is not BatchState.DELIVERED and not batch.clean_purged:
                reached = self._advance(batch)
                lines.append(_line(reached))
                code = code or reached.exit_code
        for batch in self.folder.batches():
            if batch.state is BatchState.DELIVERED:
                self._retain(batch)
        return Pass(tuple(lines), code)

    def _collect(self) -> None:
        """Move settled studies that have a label into a batch: the one that a killed process began, else a new one."""
        known = _labelled_names(self.settings.labels)
        begun = next((batch for batch in self.folder.batches() if batch.state is BatchState.COLLECTING), None)
        with taking(self.folder.root):
            there = {path.name for path in self.folder.identified(begun).glob("*")} if begun is not None else set()
            spooled = list_spool(self.folder.root, self.settings.settle)
            settled = [study for study in spooled if study.state is Arrival.SETTLED]
            ready = [study for study in settled if _is_labelled(study, known)]
            if len(settled) > len(ready):
                say(self.progress, f"{len(settled) - len(ready)} settled studies wait for a row in the table of labels")
            # of a study that was taken already, what came later waits for a later batch
            ready = [study for study in ready if study.name not in there]
            if not there and len(ready) < self.settings.smallest:
                if begun is not None:
                    self._close_collection(begun)
                return
            batch = begun or self.folder.save(self._new())
            self.folder.identified(batch).mkdir(exist_ok=True)
            for study in ready:
                take_study(self.folder.root, study.name, self.folder.identified(batch))
        self._close_collection(batch)

    def _new(self) -> Batch:
        taken = [batch.sequence for batch in self.folder.batches()]
        now = datetime.datetime.now(datetime.UTC)
        stamp, number = now.strftime("%Y-%m-%dT%H%M%S"), 1
        name = stamp
        while self.folder.folder(name).exists():
            number += 1
            name = f"{stamp}-{number}"
        return Batch(name, max(taken, default=0) + 1, BatchState.COLLECTING, now.isoformat(timespec="seconds"))

    def _close_collection(self, batch: Batch) -> None:
        studies = sum(1 for _ in self.folder.identified(batch).glob("*"))
        objects = sum(1 for _ in self.folder.identified(batch).glob("*/*.dcm"))
        if studies:
            self.folder.save(batch, state=BatchState.SETTLED, studies=studies, objects=objects)
        else:
            remove(self.folder.folder(batch))

    def _advance(self, batch: Batch) -> Batch:
        """Take a batch as far as it goes; what holds it up is in the state that is returned."""
        if batch.exit_code in _HOPELESS and batch.attempted == self._attempt(batch) and not self.settings.retry:
            return batch
        steps: dict[BatchState, Callable[[Batch], Batch]] = {
            BatchState.SETTLED: self._deidentify,
            BatchState.DEIDENTIFIED: self._run,
            BatchState.RUN: self._deliver,
        }
        try:
            while (step := steps.get(batch.state)) is not None:
                say(self.progress, f"batch {batch.name}: {batch.state}")
                batch = step(batch)
        except Exception as error:  # a batch that fails keeps no other from going on
            if isinstance(as_known(error), StoppedError):
                raise
            batch = self._held_up(self.folder.batch(batch.name), error)
        return batch

    def _attempt(self, batch: Batch) -> str:
        """Name what an attempt rests on, so that one that cannot succeed is not made every hour."""
        settings = self.settings
        files = [settings.labels, settings.recipe, settings.key_file]
        said = [path.stat().st_mtime_ns if path is not None and path.is_file() else 0 for path in files]
        released = _is_released(RunFolder(self.folder.run(batch)))  # somebody may have decided since
        deliver = [str(settings.deliver), settings.unreleased, released]
        return digest("intake", batch.state, as_dict(settings.config), said, deliver)

    def _held_up(self, batch: Batch, error: BaseException) -> Batch:
        place = self.folder.folder(batch)
        public = make_public(error, [self.folder.identified(batch), self.settings.labels], [str(self.folder.root)])
        kept = ""
        if public.details:
            write_text(place / "error.txt", full_text(error), mode=0o600)
            kept = f"; {public.withheld} detail(s) that may name files or patients: see {place / 'error.txt'}"
        return self.folder.save(
            batch, exit_code=public.exit_code, error=public.line + kept, attempted=self._attempt(batch)
        )

    def _deidentify(self, batch: Batch) -> Batch:
        ready, part = self.folder.clean(batch), self.folder.folder(batch) / "clean.part"
        if not ready.is_dir():
            remove(part)
            settings = self.settings
            key = deid.load_key(settings.key_file)
            recipe = deid.load_recipe(settings.recipe) if settings.recipe else deid.DeidentifyConfig()
            source = self.folder.identified(batch)
            done = deid.deidentify_folder(source, part, recipe, key, labels=settings.labels, progress=self.progress)
            labelled = done.labels.rows if done.labels is not None else 0
            if not labelled:
                raise IngestError(f"batch {batch.name}: no de-identified image has a label; see {part}/quarantine.csv")
            counts = {"images": len(done.written), "quarantined": len(done.quarantine), "labelled": labelled}
            write_json(part / _COUNTS, counts)
            with translate_os_errors(ready):
                part.rename(ready)
        counts = json.loads((ready / _COUNTS).read_text())
        return self.folder.save(batch, state=BatchState.DEIDENTIFIED, exit_code=0, error="", **counts)

    def _run(self, batch: Batch) -> Batch:
        config = self.settings.config
        if not config.privacy.ledger:  # patients come again in later batches: all of them share one ledger
            shared = dataclasses.replace(config.privacy, ledger=str(self.folder.ledger.resolve()))
            config = dataclasses.replace(config, privacy=shared)
        output = RunFolder(self.folder.run(batch))
        resume = output.holds_run()
        begun = load_config(output.config_file) if resume else config
        # an attempt with other settings is begun anew; one that has finished is kept as it is
        anew = bool(refused_changes(begun, config)) and not _is_finished(output)
        try:
            run(
                config if anew else begun,
                self.folder.clean(batch) / "images",
                output.path,
                resume=resume and not anew,
                force=anew,
                progress=self.progress,
                stop=self.stop,
                command=self.command,
                sinks=self.sinks,
            )
        except PrivacyGateError:
            if read_status(output.path)["state"] != State.NOT_RELEASED:
                raise
        return self.folder.save(batch, state=BatchState.RUN, released=_is_released(output), exit_code=0, error="")

    def _deliver(self, batch: Batch) -> Batch:
        output = RunFolder(self.folder.run(batch))
        released = _is_released(output)
        status = read_status(output.path)
        if status["state"] == State.NOT_RELEASED and not released:
            raise PrivacyGateError(f"{output.path}: finished, not released: {status['error']}")
        if self.settings.deliver is not None:
            if not released and not self.settings.unreleased:
                raise PrivacyGateError(
                    f"{output.path}: finished, not released; release it with `medidistill export --release`, or "
                    "deliver it all the same with --unreleased"
                )
            deliver_bundle(output.bundle, self.settings.deliver / batch.name, self.folder.ledger, released=released)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        state = BatchState.DELIVERED
        return self.folder.save(batch, state=state, delivered=now, released=released, exit_code=0, error="")

    def _retain(self, batch: Batch) -> None:
        """Remove what is older than it may be; patients' pixels in the run folder at once."""
        output = RunFolder(self.folder.run(batch))
        if output.ingest.is_dir():
            clean(output)
        now = datetime.datetime.now(datetime.UTC)
        days = (now - datetime.datetime.fromisoformat(batch.delivered)).total_seconds() / _DAY
        if not batch.identified_purged and days >= self.settings.keep_identified:
            batch = _purge_identified(self.folder, batch)
        if not batch.clean_purged and days >= self.settings.keep_clean:
            _purge_clean(self.folder, batch)


def _purge_identified(folder: IntakeFolder, batch: Batch) -> Batch:
    remove(folder.identified(batch))
    return folder.save(batch, identified_purged=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


def _purge_clean(folder: IntakeFolder, batch: Batch) -> Batch:
    for path in (folder.clean(batch), folder.folder(batch) / "clean.part"):
        remove(path)
    return folder.save(batch, clean_purged=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


def _labelled_names(table: Path) -> frozenset[str]:
    """Return what stands for the objects and accession numbers of a table. Raises `IngestError`."""
    frame = read_table(table)
    objects = {object_name(uid) for uid in frame["sop_instance_uid"] if uid}
    accessions = {accession_name(number) for number in frame["accession_number"] if number}
    if not objects and not accessions:
        raise IngestError(
            f"{table}: names no image by sop_instance_uid or accession_number; what a PACS sends has no other names"
        )
    return frozenset(objects | accessions)


def _is_labelled(study: WaitingStudy, known: frozenset[str]) -> bool:
    """Whether a row names the study; one whose accession numbers were not written down is looked into later."""
    return study.accessions is None or bool(known & {*study.objects, *study.accessions})


def _stages(output: RunFolder) -> dict[str, JsonObject]:
    return RunRecord.load(output.record_file).stages if output.record_file.is_file() else {}


def _is_finished(output: RunFolder) -> bool:
    return "report" in _stages(output)


def _is_released(output: RunFolder) -> bool:
    return bool(_stages(output).get("export", {}).get("released"))


def _line(batch: Batch) -> str:
    if batch.exit_code:
        return f"batch {batch.name}: held up after {batch.state} (exit code {batch.exit_code}): {batch.error}"
    return f"batch {batch.name}: {batch.state}"
