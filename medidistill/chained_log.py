"""Append-only logs: JSON lines, each of which holds the hash of the one before.

A line that was changed, removed, added or moved breaks the chain. Who may write the file can write it anew as a whole,
or cut off its end, and leave a chain that holds: keep the last hash, which `ChainedLog.append` returns, somewhere else;
`Chain.holds` tells whether it is still in the log.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medidistill.errors import IngestError
from medidistill.files import translate_os_errors
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # facts of a log entry, by event

__all__ = ["START", "Chain", "ChainedLog", "check_chain", "entry_line", "make_entry", "read_chain"]

START = "0" * 64  # what the first line has in place of the hash of the one before


def _hash(entry: ReadOnlyJsonObject) -> str:
    text = json.dumps({k: v for k, v in entry.items() if k != "hash"}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make_entry(event: str, line: int, previous: str, facts: ReadOnlyJsonObject) -> JsonObject:
    """Return an entry with its hash.

    Args:
        event: what happened.
        line: number of the entry, from 1.
        previous: hash of the entry before, `START` for the first.
        facts: JSON types.
    """
    entry = {"event": event, "line": line, "previous": previous, **facts}
    return {**entry, "hash": _hash(entry)}


def entry_line(entry: ReadOnlyJsonObject) -> str:
    """Return an entry as a line of the file, with its end."""
    return json.dumps(entry, sort_keys=True, ensure_ascii=True) + "\n"


@dataclass(frozen=True)
class Chain:
    """A log that was read.

    Args:
        entries: what each line holds; an empty mapping for one that is no entry.
        problems: what is wrong, one line each; empty: nothing.
    """

    entries: tuple[ReadOnlyJsonObject, ...]
    problems: tuple[str, ...]

    @property
    def head(self) -> str:
        """The hash of the last entry."""
        return str(self.entries[-1].get("hash", "")) if self.entries else START

    def holds(self, hash_: str) -> bool:
        """Whether an entry has this hash; `START` is in every log."""
        return hash_ == START or any(entry.get("hash") == hash_ for entry in self.entries)


def check_chain(lines: Iterable[str]) -> Chain:
    """Check that each line is as it was written and follows the one before."""
    entries: list[JsonObject] = []
    problems: list[str] = []
    last = START
    for number, line in enumerate(lines, 1):
        entry = _parse(line)
        if not _is_whole(entry):
            problems.append(f"line {number}: changed")
        elif entry.get("previous") != last or entry.get("line") != number:
            problems.append(f"line {number}: does not follow the line before it")
        entries.append(entry)
        last = str(entry.get("hash", ""))
    return Chain(tuple(entries), tuple(problems))


def _parse(line: str) -> JsonObject:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_whole(entry: ReadOnlyJsonObject) -> bool:
    return bool(entry) and entry.get("hash") == _hash(entry)


def read_chain(path: Path) -> Chain:
    """Read and check a log. Raises `IngestError` when it is missing or no text."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise IngestError(f"{path}: no such log") from error
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"{path}: not a readable log ({type(error).__name__})") from error
    chain = check_chain(text.splitlines())
    if text and not text.endswith("\n"):
        cut = f"line {len(chain.entries)}: cut short; its writer was killed, or the disk was full"
        return Chain(chain.entries, (*chain.problems, cut))
    return chain


class ChainedLog:
    """Appends entries to a log that several processes may share; each is on the disk before `append` returns.

    Args:
        path: the file; made where it is absent, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def append(self, event: str, **facts: Any) -> str:
        """Append an entry and return its hash.

        What a killed process wrote in part is cut off, and an entry `repaired` says so.

        Raises:
            ResourceError: it cannot be written; the log is as it was.
            IngestError: the last line of the log was changed; nothing is appended to it.
        """
        with translate_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with translate_os_errors(self.path), os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            lines = whole.splitlines()
            last = _parse(lines[-1].decode("utf-8", errors="replace")) if lines else {"hash": START}
            if lines and not _is_whole(last):
                raise IngestError(f"{self.path}: damaged: its last line was changed; restore the log from a backup")
            new, torn = [], content[len(whole) :]
            if torn:
                repaired = {"bytes": len(torn), "sha256": hashlib.sha256(torn).hexdigest()}
                new.append(make_entry("repaired", len(lines) + 1, last["hash"], repaired))
            before = new[-1] if new else last
            new.append(make_entry(event, len(lines) + len(new) + 1, before["hash"], facts))
            try:
                file.seek(len(whole))
                file.truncate()
                file.write("".join(map(entry_line, new)).encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), len(whole))
                raise
        return str(new[-1]["hash"])
