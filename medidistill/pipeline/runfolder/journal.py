"""What a run says about itself while it works: `status.json`, replaced as a whole, and `events.jsonl`.

Both are for schedulers, the app and on-call staff. They hold stage names, counts, times and numbers; no path, no file
name, no host, no patient value.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from medidistill.errors import IngestError, MedidistillError, PrivacyGateError, StoppedError
from medidistill.files import read_json, write_json, write_text
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # facts by event
from medidistill.pipeline.runfolder.redaction import DETAILS, public_message
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runfolder.sinks import Sink
from medidistill.pipeline.runfolder.withholding import full_text
from medidistill.results.run_status import RunStatus

__all__ = ["FORMAT", "Journal", "State"]

FORMAT = 1
_EVERY = 1.0  # seconds between writes of the status
_EVENT_EVERY = 10.0  # seconds between events of one stage
_OF_FINISHED_RUNS = ("audit", "evaluate", "export", "report")  # commands; the others make the run itself
_WINDOW = 64  # ticks that the remaining time is judged by


class State(enum.StrEnum):
    """How a run stands."""

    RUNNING = "running"
    STOPPED = "stopped"  # by a signal; it can be continued
    FAILED = "failed"
    COMPLETED = "completed"  # what the command was asked to do
    NOT_RELEASED = "not_released"  # all work is done, and the privacy policy refused the release
    UNKNOWN = "unknown"  # no status was ever written


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@dataclass
class Journal:
    """The status and the events of one process at work in a run folder.

    Telling never stops the work: where the disk is full or read-only the stages say so, not the journal.

    Args:
        folder: the run.
        command: the sub-command at work.
        stages: all stages of the run, in order.
        sinks: where else numbers go.
        silent: write nothing; for one of several processes that share a run.
    """

    folder: RunFolder
    command: str = "run"
    stages: tuple[str, ...] = ()
    sinks: tuple[Sink, ...] = ()
    silent: bool = False
    status: RunStatus = field(default_factory=RunStatus)
    _ticks: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _before: RunStatus | None = None  # of a run that had finished, with its release or without
    _written: float = -_EVERY
    _told: float = 0.0
    _stage_began: float = 0.0

    def begin(self, finished: tuple[str, ...]) -> None:
        """Say that a process works here now; `finished` are the stages done before."""
        self._before = self._ended_before()
        self.status = {
            "format": FORMAT,
            "state": State.RUNNING,
            "command": self.command,
            "pid": os.getpid(),
            "started": _now(),
            "stages": list(self.stages),
            "finished": [stage for stage in self.stages if stage in finished],
            "stage": "",
            "error": "",
            "exit_code": None,
        }
        self._reset_progress()
        self.event("run_started", command=self.command, pid=os.getpid(), finished=self.status["finished"])
        self._write()

    def stage_started(self, stage: str) -> None:
        """Say that `stage` is in work."""
        self._stage_began = time.monotonic()
        self.status["stage"] = stage
        if stage in self.status.get("finished", []):
            self.status["finished"].remove(stage)
        self._reset_progress()
        self.event("stage_started", stage=stage)
        self._write()

    def stage_finished(self, stage: str, *, kept: bool = False) -> None:
        """Say that `stage` is done; `kept`: it had been done before."""
        finished = self.status.setdefault("finished", [])
        if stage not in finished:
            finished.append(stage)
        if kept:
            self.event("stage_kept", stage=stage)
        else:
            self.event("stage_finished", stage=stage, seconds=round(time.monotonic() - self._stage_began, 3))
        self._reset_progress()
        self._write()

    def stage_discarded(self, stage: str) -> None:
        """Say that `stage`, which was done before, is to be done anew."""
        if stage in self.status.get("finished", []):
            self.status["finished"].remove(stage)
            self.event("stage_discarded", stage=stage)
            self._write()

    def at(
        self, step: int, total: int, unit: str, *, piece: str = "", done: float | None = None, **figures: float
    ) -> None:
        """Say how far the stage is.

        Args:
            step: units done of the piece in work.
            total: units in all; 0 where that is not known.
            unit: what is counted.
            piece: the part of the stage, for example one arm of the comparison.
            done: share of the whole stage in [0, 1], where `step / total` is only the piece's.
            figures: numbers to show, for example the loss.
        """
        now = time.monotonic()
        share = done if done is not None else (step / total if total else 0.0)
        if self._ticks and share < self._ticks[-1][1]:
            self._ticks.clear()
        self._ticks.append((now, share))
        self.status |= {"step": step, "total": total, "unit": unit, "piece": piece, "figures": figures}
        self._notify_sinks(lambda sink: sink.step(self.status.get("stage", ""), step, figures))
        self.status["eta_seconds"] = self._eta()
        self.status["elapsed_seconds"] = round(now - self._stage_began, 1)
        last = bool(total) and step == total
        if now - self._told >= _EVENT_EVERY or last:
            self._told = now
            self.event(
                "step", stage=self.status.get("stage", ""), piece=piece, step=step, total=total, unit=unit, **figures
            )
        if now - self._written >= _EVERY:
            self._write()

    def _eta(self) -> float | None:
        """Return the seconds left in the stage at the pace of the last ticks; None before there is a pace."""
        if len(self._ticks) < 2:
            return None
        (began, first), (now, share) = self._ticks[0], self._ticks[-1]
        if share <= first:
            return None
        return round((1 - share) * (now - began) / (share - first), 1)

    def end(self, error: BaseException | None, *, released: bool | None = None) -> None:
        """Say how the work ended.

        Args:
            error: what ended it; None: it did what it was asked to do.
            released: whether the run's bundle passed the privacy gate; None where there is no bundle.
        """
        state, line, code = State.COMPLETED, "", 0
        if error is not None:
            state = self._state_after(error)
            code = error.exit_code if isinstance(error, MedidistillError) else 130 if state is State.STOPPED else 1
            line = public_message(error, self.status.get("stage", ""), self.folder.path)
            named = isinstance(error, MedidistillError) and error.private
            if (DETAILS in line or named) and self.folder.ingest.is_dir():
                with contextlib.suppress(MedidistillError, OSError):
                    write_text(self.folder.ingest / DETAILS, full_text(error), mode=0o600)
        if state in (State.FAILED, State.STOPPED) and self._before is not None and self._leaves_whole(error):
            # what was asked of a finished run could not be done, and the run is as finished as it was
            self.event("command_failed", command=self.command, error=line, exit_code=code)
            self.status = {**self._before, "released": released}
            self._write()
            return
        self.status |= {"state": state, "error": line, "exit_code": code, "eta_seconds": None, "released": released}
        if state in (State.COMPLETED, State.NOT_RELEASED):
            self.status["stage"] = ""
        self.event(f"run_{state}", stage=self.status.get("stage", ""), error=line, exit_code=code)
        self._write()

    def _ended_before(self) -> RunStatus | None:
        """Return the status that a run with all its stages ended with; None where it has not."""
        try:
            stored = read_json(self.folder.status_file) if self.folder.status_file.is_file() else {}
        except MedidistillError:
            return None  # damaged: it is written anew
        whole = isinstance(stored, dict) and stored.get("state") in (State.COMPLETED, State.NOT_RELEASED)
        return cast("RunStatus", stored) if whole and stored.get("format") == FORMAT else None

    def _leaves_whole(self, error: BaseException | None) -> bool:
        """Whether a command that ended with `error` has left a finished run whole; a damaged file is the run's."""
        whole = bool(self.stages) and set(self.stages) <= set(self.status.get("finished", ()))
        return whole and self.command in _OF_FINISHED_RUNS and not isinstance(error, IngestError)

    def _state_after(self, error: BaseException) -> State:
        if isinstance(error, StoppedError | KeyboardInterrupt):
            return State.STOPPED
        before = self.stages[: self.stages.index("export")] if "export" in self.stages else ()
        done = self.status.get("finished", ())
        # a gate that refuses before the work is done ends a run that has made nothing
        if isinstance(error, PrivacyGateError) and before and all(stage in done for stage in before):
            return State.NOT_RELEASED
        return State.FAILED

    def event(self, name: str, **facts: Any) -> None:
        """Append one line to `events.jsonl`."""
        if self.silent:
            return
        line = json.dumps({"time": _now(), "event": name, **_plain(facts)}) + "\n"
        with contextlib.suppress(OSError), open(self.folder.events_file, "ab") as file:
            file.write(line.encode())

    def _reset_progress(self) -> None:
        self._ticks.clear()
        self.status |= {"step": 0, "total": 0, "unit": "", "piece": "", "figures": {}}
        self.status |= {"eta_seconds": None, "elapsed_seconds": 0.0}

    def _notify_sinks(self, say: Callable[[Sink], None]) -> None:
        for sink in self.sinks:
            try:
                say(sink)
            except Exception as error:  # noqa: BLE001 (a tracker that is gone must not end a night's work)
                self.sinks = tuple(one for one in self.sinks if one is not sink)
                self.event("sink_lost", sink=type(sink).__name__, error=type(error).__name__)

    def _write(self) -> None:
        self._written = time.monotonic()
        if self.silent:
            return
        self._notify_sinks(lambda sink: sink.status(self.status))
        # a full disk is reported by the stage that meets it
        with contextlib.suppress(MedidistillError):
            write_json(self.folder.status_file, {**_plain(self.status), "updated": _now()})


def _plain(facts: ReadOnlyJsonObject) -> JsonObject:
    """Replace what JSON has no word for: NaN and infinity become null."""
    return {
        key: _plain(value)
        if isinstance(value, Mapping)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in facts.items()
    }
