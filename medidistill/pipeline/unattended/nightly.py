"""One run a night over an inbox whose files come and go: each night reads what no finished run has read.

What a run has read is written down when it begins to read and settled when it has read, never when it ends: files that
arrive while a run is stopped, resumed or at work belong to the next one. A file counts as read when it was there,
unchanged, from the beginning of the reading to its end.
"""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medidistill.config import RunConfig
from medidistill.errors import ConfigError, IngestError, MedidistillError, PrivacyGateError, StoppedError, as_known
from medidistill.files import private_folder, private_umask
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.pipeline.planning.named_files import check_apart
from medidistill.pipeline.runfolder.cleaning import clean
from medidistill.pipeline.runfolder.run_folder import RunFolder, refused_changes
from medidistill.pipeline.runfolder.sinks import Sink
from medidistill.pipeline.runfolder.status import State, read_status
from medidistill.pipeline.runfolder.support import make_support_package
from medidistill.pipeline.runner import run
from medidistill.pipeline.stopping import GracefulShutdown
from medidistill.pipeline.unattended.nightly_notes import Listing, Note, Notes, Progress, list_inbox, listing_digest
from medidistill.record import RunRecord

__all__ = ["Night", "run_night"]

# a run that ended so ends so again, unless the input or the configuration is another
_HOPELESS = frozenset({2, 3, 4, 6, 7})


@dataclass(frozen=True)
class Night:
    """What a night did.

    Args:
        output: the run folder; None where nothing was to be done.
        text: one line.
        exit_code: 0, or the code of a run that failed before and cannot do better.
    """

    output: Path | None
    text: str
    exit_code: int = 0


def run_night(
    inbox: Path,
    runs: Path,
    config: RunConfig,
    *,
    progress: bool = True,
    stop: GracefulShutdown | None = None,
    command: str = "",
    sinks: tuple[Sink, ...] = (),
) -> Night:
    """Do the run of one night: begin one, go on with one that was stopped, or find nothing new.

    Args:
        inbox: folder of X-rays with their labels.
        runs: folder that receives one run folder a night.
        config: of new runs; one that is continued keeps its own.
        progress: draw bars on stderr.
        stop: where requests to stop arrive.
        command: how it was started, for the record.
        sinks: where else the progress goes.

    Raises:
        MedidistillError: as `run`; a support package without patient values then lies beside the run folder.
    """
    if not inbox.is_dir():
        raise IngestError(f"--inbox {inbox}: {'is a file; name a folder' if inbox.exists() else 'no such folder'}")
    check_apart(inbox, "--inbox", runs, "--runs")
    with private_umask():
        notes = Notes(private_folder(runs))
        with notes.locked() as mine:
            if not mine:
                return Night(None, "the run of the night before is still at work")
            night = _Runner(inbox, notes, config, progress, stop, command, sinks)
            return night.go()


@dataclass
class _Runner:
    inbox: Path
    notes: Notes
    config: RunConfig
    progress: bool
    stop: GracefulShutdown | None
    command: str
    sinks: tuple[Sink, ...]

    def go(self) -> Night:
        """Close what was finished, choose what to do, do it."""
        for note in self.notes.all():
            if note.progress is Progress.FINISHED:
                self._close(note)
        last = next(reversed(self.notes.all()), None)
        if last is None or last.progress in (Progress.CLOSED, Progress.ABANDONED):
            if (
                last is not None
                and last.progress is Progress.CLOSED
                and last.read == listing_digest(list_inbox(self.inbox))
            ):
                return Night(None, "no new files in the inbox; nothing to do")
            return self._work(self._new())
        return self._continue(last)

    def _continue(self, last: Note) -> Night:
        folder = self._folder(last)
        if not folder.holds_run():  # killed before it began, or somebody removed it
            return self._work(replace(last, progress=Progress.READING, exit_code=None))
        noted = folder.noted_source()
        if noted is not None and noted != self.inbox.resolve():
            if folder.has_finished_stages() and last.exit_code not in _HOPELESS:
                raise ConfigError(
                    f"--inbox {self.inbox}: the run of an earlier night, {folder.path}, is not finished and reads "
                    f"another inbox, {noted}; give that one until it is, or another --runs"
                )
            self._abandon(last)
            return self._work(self._new())
        if last.exit_code in _HOPELESS:
            other_settings = bool(refused_changes(load_config(folder.config_file), self.config))
            if last.progress is Progress.READ:
                if not other_settings and last.read and last.read == listing_digest(list_inbox(self.inbox)):
                    same = "neither inbox nor configuration changed, so it would fail again"
                    return Night(folder.path, f"{folder.path}: exit code {last.exit_code}; {same}", last.exit_code)
                other_settings = True  # the inbox is another: a new run reads it
            if other_settings:
                self._abandon(last)
                return self._work(self._new())
        return self._work(last)

    def _new(self) -> Note:
        """Return the note of a new run."""
        taken = [note.sequence for note in self.notes.all()]
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%S")
        name, number = stamp, 1
        while (self.notes.runs / name).exists() or self.notes.holds(name):
            number += 1
            name = f"{stamp}-{number}"
        return Note(name, max(taken, default=0) + 1, Progress.READING)

    def _work(self, note: Note) -> Night:
        """Do a run, from wherever it stands, to its end."""
        folder = self._folder(note)
        try:
            if note.progress is Progress.READING:
                note = self._read(note, folder)
            self._run(folder, until=None)
        except BaseException as error:
            self._failed(note, folder, error)
            raise
        if _ingested(folder) != note.ingested:  # it was read again, from another inbox
            note = replace(note, read="")
        self._close(self._save(note, progress=Progress.FINISHED, exit_code=0))
        return Night(folder.path, f"finished: {folder.path}")

    def _read(self, note: Note, folder: RunFolder) -> Note:
        """Read the inbox. What arrives, goes or changes meanwhile does not count as read.

        Where a process was killed just after it had read, nobody knows what the inbox held then: nothing counts as
        read, and the next night reads it again.

        Raises:
            PrivacyGateError: what was read could never be released. It has been read all the same, and is noted so:
                other films make another run.
        """
        known = not _ingested(folder)
        before = list_inbox(self.inbox)
        note = self._save(note, read="", exit_code=None)
        try:
            self._run(folder, until="ingest")
        except PrivacyGateError:
            if _ingested(folder):
                self._note_read(note, folder, before, known=known)
            raise
        return self._note_read(note, folder, before, known=known)

    def _note_read(self, note: Note, folder: RunFolder, before: Listing, *, known: bool) -> Note:
        """Note that the inbox was read, and what in it was there, unchanged, from the beginning to now."""
        after = list_inbox(self.inbox)
        unchanged = {name: facts for name, facts in before.items() if after.get(name) == facts}
        read = listing_digest(unchanged) if known else ""
        return self._save(note, progress=Progress.READ, read=read, ingested=_ingested(folder))

    def _run(self, folder: RunFolder, until: str | None) -> None:
        resume = folder.holds_run()
        run(
            load_config(folder.config_file) if resume else self.config,
            self.inbox,
            folder.path,
            resume=resume,
            until=until,
            progress=self.progress,
            stop=self.stop,
            command=self.command,
            sinks=self.sinks,
        )

    def _failed(self, note: Note, folder: RunFolder, error: BaseException) -> None:
        """Write down how a run ended, and pack what helps; nothing of that may hide the error itself."""
        known = as_known(error)
        code = known.exit_code if known is not None else 1
        with contextlib.suppress(MedidistillError, OSError):
            note = self.notes.read(note.name)
            if folder.holds_run() and read_status(folder.path)["state"] == State.NOT_RELEASED:
                # done, but for the release that its policy refused: its images stay until somebody has decided
                self._save(note, progress=Progress.CLOSED, exit_code=code)
                return
            self._save(note, exit_code=code)
            if folder.holds_run() and not isinstance(known, StoppedError):
                package = folder.path.with_name(f"{folder.path.name}.support.zip")
                package.unlink(missing_ok=True)
                make_support_package(folder, package)

    def _close(self, note: Note) -> None:
        """Remove patients' pixels from a finished run."""
        folder = self._folder(note)
        if folder.holds_run():
            clean(folder)
        self._save(note, progress=Progress.CLOSED)

    def _abandon(self, note: Note) -> None:
        clean(self._folder(note))
        self._save(note, progress=Progress.ABANDONED)

    def _folder(self, note: Note) -> RunFolder:
        return RunFolder(self.notes.runs / note.name)

    def _save(self, note: Note, **changes: Any) -> Note:
        changed = replace(note, **changes)
        self.notes.write(changed)
        return changed


def _ingested(folder: RunFolder) -> str:
    """Return when the ingest of a run finished; empty where it has not."""
    if not folder.record_file.is_file():
        return ""
    return str(RunRecord.load(folder.record_file).stages.get("ingest", {}).get("finished", ""))
