"""Long work as the same command line in a process of its own, which no page, reload or end of the app can kill.

A job holds the lock file of its folder for as long as it lives, because the file is open in the process that was
started: the kernel frees it, whatever ends the process. So a job is found again by its folder alone, by any browser
and by an app that was started later.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medidistill.errors import ConfigError
from view_models import queueing

__all__ = ["Job", "Progress", "start"]

# the outer shell outlives a SIGTERM to the group, so that the code of what it started is always written; the inner
# one says that there is something to stop
_INNER = 'echo > "$MEDIDISTILL_BEGUN"; exec "$@"'
_SHELL = f'trap : TERM INT; /bin/sh -c \'{_INNER}\' sh "$@"; echo $? > "$MEDIDISTILL_EXIT"'
_BEGINS = 10.0  # seconds, at most; milliseconds where the machine is idle
_LOG_END = 65536  # bytes
_CODES = {
    137: "the system ended it, mostly for lack of memory: choose smaller images or a narrower network",
    139: "it crashed; please report this with the last lines of the log",
}


# `reading X-rays:  35%|###  | 42/120 [00:03<00:07, ...]`
_BAR = re.compile(r"(?:(?P<what>[^:|]+): +)?(?P<share>\d{1,3})%\|[^|]*\| *(?P<count>\S+/\S+)")


@dataclass(frozen=True)
class Progress:
    """What a progress bar says: the share that is done in [0, 1], and what is counted, in words."""

    share: float
    text: str


@dataclass(frozen=True)
class Job:
    """One piece of work, known by its folder.

    Args:
        folder: holds `job.json`, `log.txt`, `lock`, from the moment at which it works `working`, and, at the end,
            `exit`.
    """

    folder: Path

    @property
    def exists(self) -> bool:
        """Whether it was ever started."""
        return (self.folder / "job.json").is_file()

    def is_running(self) -> bool:
        """Whether its process lives."""
        try:
            with open(self.folder / "lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def _note(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self.folder / "job.json").read_text())
            if isinstance(found, dict):
                return found
        return {}

    @property
    def arguments(self) -> tuple[str, ...]:
        """The command line that it was started with; empty where an earlier version did not keep it."""
        return tuple(map(str, self._note.get("arguments", ())))

    @property
    def started(self) -> float | None:
        """When it was started, in seconds since 1970."""
        found = self._note.get("started")
        return float(found) if isinstance(found, int | float) else None

    def spans(self, began: str) -> bool:
        """Whether it ran when a process began, as an ISO time in whole seconds: then that was its process."""
        if self.started is None:
            return False
        try:
            moment = datetime.datetime.fromisoformat(began).timestamp()
            ended = float("inf") if self.is_running() else (self.folder / "exit").stat().st_mtime
        except ValueError:
            return False
        except OSError:
            ended = float("inf")  # the machine went down with it
        return int(self.started) <= moment <= ended

    @property
    def estimate(self) -> dict[str, float]:
        """Stage -> seconds that it was expected to take; empty where nobody estimated."""
        return {str(stage): float(seconds) for stage, seconds in self._note.get("estimate", {}).items()}

    def ahead(self) -> int:
        """Return how many jobs of its queue are to end before it begins; 0 once it works."""
        note = self._note
        if "ticket" not in note or (self.folder / "working").exists() or not self.is_running():
            return 0
        return queueing.ahead(Path(note["queue"]), note["ticket"])

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs, and where the machine went down with it."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "exit").read_text())
        return None

    def lines(self, most: int = 12) -> list[str]:
        """Return the last lines that it wrote; of a progress bar the last state."""
        try:
            with open(self.folder / "log.txt", "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_END))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return []
        kept = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
        return [line for line in kept if line][-most:]

    def progress(self) -> Progress | None:
        """Return what its progress bar says now; None where the last line is none."""
        for line in reversed(self.lines(2)):
            if found := _BAR.match(line):
                return Progress(int(found["share"]) / 100, f"{found['what'] or 'At work'}: {found['count']}")
        return None

    def error(self) -> str:
        """Return why it failed, in one line; empty where it did not."""
        code = self.exit_code
        if self.is_running() or code == 0 or not self.exists:
            return ""
        told = [line for line in self.lines() if line.startswith("medidistill: error: ")]
        if told:
            return told[-1].removeprefix("medidistill: error: ")
        return _CODES.get(code or 0, "it terminated unexpectedly (killed, or the machine was switched off)")

    def stop(self) -> None:
        """Ask it to stop: what it finished is kept."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError, PermissionError, KeyError):
                os.killpg(int(self._note["group"]), signal.SIGTERM)


def start(
    folder: Path,
    arguments: Sequence[str],
    *,
    queue: Path | None = None,
    estimate: Mapping[str, float] | None = None,
    script: Path | None = None,
) -> Job:
    """Run `medidistill ARGUMENTS`, or a script of the app with them, in a session of its own.

    Args:
        folder: of the job; what an earlier job of the same folder left is replaced.
        arguments: of the command line.
        queue: folder of the tickets of a queue, in which the job waits its turn; None: it begins at once.
        estimate: stage -> seconds that it is expected to take; kept with the job.
        script: a Python file to run instead of the command line.

    Raises:
        ConfigError: the job is at work already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(open(folder / "lock", "a"))
        log = stack.enter_context(open(folder / "log.txt", "ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("this run is at work already; stop it first, or wait for its end") from error
        begun, working = folder / "begun", folder / "working"
        for left in (folder / "exit", begun, working):
            left.unlink(missing_ok=True)
        log.truncate(0)
        program = ["-P", str(script)] if script is not None else ["-m", "medidistill"]
        command, held = [sys.executable, *program, *arguments], [lock.fileno()]
        note: dict[str, Any] = {"command": arguments[0], "arguments": list(arguments), "started": time.time()}
        note["estimate"] = dict(estimate or {})
        if queue is not None:
            drawn = stack.enter_context(queueing.drawn_ticket(queue, folder.name))
            ticket = Path(drawn.name).name.removeprefix(".")
            held.append(drawn.fileno())
            note |= {"queue": str(queue), "ticket": ticket}
            command = [sys.executable, queueing.__file__, str(queue), ticket, str(working), *command]
        process = subprocess.Popen(  # noqa: S603 (our own command, no shell text from outside)
            ["/bin/sh", "-c", _SHELL, "medidistill", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=held,
            env={**os.environ, "MEDIDISTILL_EXIT": str(folder / "exit"), "MEDIDISTILL_BEGUN": str(begun)},
        )
        (folder / "job.json").write_text(json.dumps(note | {"group": process.pid}))
        until = time.monotonic() + _BEGINS  # before that, nobody would hear a request to stop
        while not begun.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
    return Job(folder)
