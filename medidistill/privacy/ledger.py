"""Ledger of releases: repeated releases of a cohort compose.

The ledger is a JSON file that stays where the patients' data are. Each release lists hashes of its patients, so that
the next one detects a patient released before; all releases that share a patient with it are composed, which is
conservative where cohorts overlap in part. A release without a mechanism makes every later epsilon infinite.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import glob
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medidistill.errors import IngestError, ResourceError
from medidistill.files import read_json, translate_os_errors, write_json
from medidistill.jsontypes import JsonObject  # entries of any version, kept as they are
from medidistill.privacy.accounting import SubsampledGaussian

__all__ = ["Ledger"]

FORMAT = 1
_LOCK_TIMEOUT_S = 60.0


def _hashes(patients: Iterable[str]) -> list[str]:
    return sorted({hashlib.sha256(f"ledger\x1f{name}".encode()).hexdigest()[:16] for name in patients})


def _read(path: Path) -> list[JsonObject]:
    plain: JsonObject = read_json(path) if path.exists() else {"format": FORMAT, "releases": []}
    try:
        if plain["format"] > FORMAT:
            raise IngestError(f"{path}: format {plain['format']} is newer than {FORMAT}; upgrade medidistill")
        return list(plain["releases"])
    except (KeyError, TypeError) as error:
        raise IngestError(
            f"{path}: not a ledger ({error}); restore it from a backup; nothing is released without it"
        ) from error


class Ledger:
    """The releases so far.

    Args:
        path: the file; absent means none.

    Raises:
        IngestError: damaged, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.releases = _read(path)

    def before(self, patients: Iterable[str], name: str) -> tuple[list[SubsampledGaussian], int]:
        """Return the mechanisms, and the number of releases without one, that read any of these patients.

        Args:
            patients: identifiers of the patients of the next release.
            name: digest of that set; releasing the same bytes again costs nothing.
        """
        mine = set(_hashes(patients))
        shared = [r for r in self.releases if r["set"] != name and mine & set(r["patients"])]
        mechanisms = [SubsampledGaussian(**m) for r in shared for m in r["mechanisms"]]
        return mechanisms, sum(not r["mechanisms"] for r in shared)

    def holds(self, patients: Iterable[str], name: str) -> bool:
        """Return whether the release of this set of these patients is counted."""
        mine = _hashes(patients)
        return any(old["set"] == name and old["patients"] == mine for old in self.releases)

    def add(self, patients: Iterable[str], name: str, mechanisms: Sequence[SubsampledGaussian], **facts: Any) -> bool:
        """Record a release; the same set of the same patients is one entry. Return whether the entry is new."""
        entry = {
            "set": name,
            "patients": _hashes(patients),
            "mechanisms": [asdict(m) for m in mechanisms],
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **facts,
        }
        if self.holds(patients, name):
            return False
        self._write([*self.releases, entry])
        return True

    def take_back(self) -> None:
        """Remove the last entry, whose bundle could not be written."""
        self._write(self.releases[:-1])

    def _write(self, releases: list[JsonObject]) -> None:
        write_json(self.path, {"format": FORMAT, "releases": releases}, mode=0o600)
        self.releases = releases

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the ledger's lock inside the block, and re-read the file first.

        Raises:
            ResourceError: another release takes longer than a minute, or the folder cannot be written.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        with translate_os_errors(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(handle, "r+b") as file:
            until = time.monotonic() + _LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise ResourceError(f"{self.path}: another release is being written; try again") from None
                time.sleep(0.05)
            with translate_os_errors(self.path):
                for left in self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part"):
                    left.unlink(missing_ok=True)  # what a killed process had begun to write
            self.releases = _read(self.path)
            yield
