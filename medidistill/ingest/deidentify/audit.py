"""The audit log: JSON lines, each of which holds the hash of the one before; values only as keyed hashes.

A changed, removed, added or reordered line breaks the chain; the last line counts the others and carries a seal
that only the holder of the key can make, so that a log that was cut or written anew as a whole shows too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from medidistill.errors import ConfigError, IngestError
from medidistill.files import translate_os_errors
from medidistill.ingest.deidentify.keys import Key

__all__ = ["AuditLog", "verify_audit"]

_START = "0" * 64


def _hash(entry: dict[str, Any]) -> str:
    text = json.dumps({k: v for k, v in entry.items() if k != "hash"}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class AuditLog:
    """Appends entries to a new file, one line each, on the disk before the next file is touched.

    Args:
        path: a file that does not exist yet.
        key: seals the last line.
    """

    def __init__(self, path: Path, key: Key) -> None:
        self.path, self._key = path, key
        self._last, self._count = _START, 0
        self._file: TextIO | None = None

    def __enter__(self) -> AuditLog:
        with translate_os_errors(self.path):
            self._file = open(self.path, "x", encoding="utf-8")
            self.path.chmod(0o600)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, event: str, **facts: Any) -> None:
        """Append an entry. Raises `ResourceError` when it cannot be written."""
        entry = {"event": event, "line": self._count + 1, "previous": self._last, **facts}
        entry["hash"] = _hash(entry)
        assert self._file is not None
        with translate_os_errors(self.path):
            self._file.write(json.dumps(entry, sort_keys=True, ensure_ascii=True) + "\n")
            self._file.flush()
        self._last, self._count = entry["hash"], self._count + 1

    def close(self, **facts: Any) -> None:
        """Append the last entry with its seal."""
        self.add("end", seal=self._key.digest("seal", self._last).hex(), key=self._key.fingerprint, **facts)


def verify_audit(path: Path, key: Key | None = None) -> list[str]:
    """Check the chain of an audit log, and its seal where the key is given.

    Returns:
        What is wrong, one line each; empty: nothing.

    Raises:
        IngestError: no such file, or not text.
        ConfigError: the log was written with another key.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"{path}: not a readable audit log ({type(error).__name__})") from error
    problems: list[str] = []
    last, entry = _START, {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            whole = isinstance(entry, dict) and entry.get("hash") == _hash(entry)
        except json.JSONDecodeError:
            whole, entry = False, {}
        if not whole:
            problems.append(f"line {number}: changed")
            entry = entry if isinstance(entry, dict) else {}
        elif entry.get("previous") != last or entry.get("line") != number:
            problems.append(f"line {number}: does not follow the line before it")
        last, before = entry.get("hash", ""), last
    if not lines or entry.get("event") != "end":
        return [*problems, "no end: the run was cut short, or lines were removed"]
    if key is not None:
        if entry.get("key") != key.fingerprint:
            raise ConfigError(f"{path}: was written with another key (fingerprint {entry.get('key')})")
        if entry.get("seal") != key.digest("seal", before).hex():
            problems.append("seal: was not made with this key")
    return problems
