"""The audit log: JSON lines, each of which holds the hash of the one before; values only as keyed hashes.

A changed, removed, added or reordered line breaks the chain (`medidistill.chained_log`); the last line counts the
others and carries a seal that only the holder of the key can make, so that a log that was truncated, or rewritten as a
whole, shows too.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from medidistill.chained_log import START, check_chain, entry_line, make_entry
from medidistill.errors import ConfigError, IngestError
from medidistill.files import translate_os_errors
from medidistill.ingest.deidentify.keys import Key

__all__ = ["AuditLog", "verify_audit"]


class AuditLog:
    """Appends entries to a new file, one line each, on the disk before the next file is touched.

    Args:
        path: a file that does not exist yet.
        key: seals the last line.
    """

    def __init__(self, path: Path, key: Key) -> None:
        self.path, self._key = path, key
        self._last, self._count = START, 0
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
        entry = make_entry(event, self._count + 1, self._last, facts)
        assert self._file is not None
        with translate_os_errors(self.path):
            self._file.write(entry_line(entry))
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
    chain = check_chain(lines)
    problems, entry = list(chain.problems), chain.entries[-1] if chain.entries else {}
    if entry.get("event") != "end":
        return [*problems, "no end: the run was cut short, or lines were removed"]
    before = chain.entries[-2].get("hash", "") if len(chain.entries) > 1 else START
    if key is not None:
        if entry.get("key") != key.fingerprint:
            raise ConfigError(f"{path}: was written with another key (fingerprint {entry.get('key')})")
        if entry.get("seal") != key.digest("seal", before).hex():
            problems.append("seal: was not made with this key")
    return problems
