"""Long work as the same command line in a process of its own, which no page, reload or end of the app can kill.

A job holds the lock file of its folder for as long as it lives, because the file is open in the process that was
started: the kernel frees it, whatever ends the process. So a job is found again by its folder alone, by any browser
and by an app that was started later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError

__all__ = ["Job", "start"]

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


@dataclass(frozen=True)
class Job:
    """One piece of work, known by its folder.

    Args:
        folder: holds `job.json`, `log.txt`, `lock` and, at the end, `exit`.
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

    def error(self) -> str:
        """Return why it failed, in one line; empty where it did not."""
        code = self.exit_code
        if self.is_running() or code == 0 or not self.exists:
            return ""
        told = [line for line in self.lines() if line.startswith("medidistill: error: ")]
        if told:
            return told[-1].removeprefix("medidistill: error: ")
        return _CODES.get(code or 0, "it ended without a word (killed, or the machine was switched off)")

    def stop(self) -> None:
        """Ask it to stop: what it finished is kept."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(json.loads((self.folder / "job.json").read_text())["group"]), signal.SIGTERM)


def start(folder: Path, arguments: Sequence[str]) -> Job:
    """Run `medidistill ARGUMENTS` in a session of its own.

    Args:
        folder: of the job; what an earlier job of the same folder left is replaced.
        arguments: of the command line.

    Raises:
        ConfigError: the job is at work already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    with open(folder / "lock", "a") as lock, open(folder / "log.txt", "ab") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("this run is at work already; stop it first, or wait for its end") from error
        (folder / "exit").unlink(missing_ok=True)
        begun = folder / "begun"
        begun.unlink(missing_ok=True)
        log.truncate(0)
        command = ["/bin/sh", "-c", _SHELL, "medidistill", sys.executable, "-m", "medidistill", *arguments]
        process = subprocess.Popen(  # noqa: S603 (our own command, no shell text from outside)
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock.fileno(),),
            env={**os.environ, "MEDIDISTILL_EXIT": str(folder / "exit"), "MEDIDISTILL_BEGUN": str(begun)},
        )
        note = {"group": process.pid, "command": arguments[0], "started": time.time()}
        (folder / "job.json").write_text(json.dumps(note))
        until = time.monotonic() + _BEGINS  # before that, nobody would hear a request to stop
        while not begun.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
    return Job(folder)
