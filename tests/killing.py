"""Commands in forked children that are killed at a chosen change of a file, for tests of what goes on afterwards.

A child shares the modules that its parent has loaded, so that many of them cost no import each. The audit hook of the
interpreter tells of every file that is opened for writing, renamed, removed or made, before it happens.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medidistill.cli import main

Hook = Callable[[str, tuple[Any, ...]], None]
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile", "os.truncate"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def changed_path(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return the path that an audit event is about to change, None for one that changes nothing.

    A file that is written under a hidden name and renamed counts once, when it is renamed.
    """
    if event in _CHANGES:
        place = arguments[1] if event in ("os.rename", "shutil.copyfile") else arguments[0]
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
        place = arguments[0]
    else:
        return None
    if not isinstance(place, str | bytes | os.PathLike):
        return None
    path = os.fsdecode(place)
    there = event == "os.mkdir" and os.path.isdir(path)  # noqa: PTH112 (audit hooks see what `Path` opens)
    return None if there or (event == "open" and path.endswith(".part")) else path


@dataclass
class KillAt:
    """An audit hook that kills its process before the change of a given number.

    Args:
        number: from 1; 0: never.
        concerns: whether a change of this path counts.
        count: a file that gets the number of changes so far, one byte each.
    """

    number: int
    concerns: Callable[[str], bool]
    count: Path
    _inside: bool = field(default=False, init=False)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._inside or (path := changed_path(event, arguments)) is None:
            return
        self._inside = True
        try:
            if not self.concerns(path):
                return
            with open(self.count, "ab") as file:
                file.write(b".")
            if self.count.stat().st_size == self.number:
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            self._inside = False


@dataclass
class KeepManifests:
    """An audit hook that notes which files each run has read: the keys of its manifest when that gets its name."""

    log: Path
    _inside: bool = field(default=False, init=False)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.rename" or self._inside or not str(arguments[1]).endswith("/ingest/manifest.csv"):
            return
        self._inside = True
        try:
            keys = [line.partition(",")[0] for line in Path(arguments[0]).read_text().splitlines()[1:]]
            with open(self.log, "a") as file:
                file.write(json.dumps({"run": Path(arguments[1]).parent.parent.name, "keys": keys}) + "\n")
        finally:
            self._inside = False

    def last(self) -> dict[str, set[str]]:
        """Return run -> keys of the manifest that it wrote last."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return {one["run"]: set(one["keys"]) for one in lines}


def start(arguments: list[str], log: Path, *hooks: Hook, prepare: Callable[[], None] | None = None) -> int:
    """Run a command in a child of its own; return its process number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        # not those that pytest captures with
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if prepare is not None:
            prepare()
        for hook in hooks:
            sys.addaudithook(hook)
        code = main(arguments)
        sys.stdout.flush()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def finish(arguments: list[str], log: Path, *hooks: Hook, prepare: Callable[[], None] | None = None) -> int:
    """Run a command and wait for it; return its exit code."""
    return wait(start(arguments, log, *hooks, prepare=prepare))


def reach(child: int, find: Callable[[], bool], seconds: float = 300.0) -> bool:
    """Wait until `find` is true; return False where the child ended before."""
    until = time.monotonic() + seconds
    while not find():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.002)
    return True
