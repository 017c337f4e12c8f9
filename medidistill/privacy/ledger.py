"""What was released from whom: repeated releases of a cohort add up.

The ledger is a JSON file that stays where the patients' data are. Each release lists hashes of its patients, so that
the next one can tell whether it touches anybody again; all releases that share a patient with it are composed, which is
cautious where cohorts overlap in part. A release without a mechanism makes every later sum infinite.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medidistill.errors import IngestError
from medidistill.files import read_json, write_json
from medidistill.privacy.accounting import Sampled

__all__ = ["Ledger"]

FORMAT = 1


def _hashes(patients: Iterable[str]) -> list[str]:
    return sorted({hashlib.sha256(f"ledger\x1f{name}".encode()).hexdigest()[:16] for name in patients})


class Ledger:
    """The releases so far.

    Args:
        path: the file; absent means none.

    Raises:
        IngestError: damaged, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        plain: dict[str, Any] = read_json(path) if path.exists() else {"format": FORMAT, "releases": []}
        try:
            if plain["format"] > FORMAT:
                raise IngestError(f"{path}: format {plain['format']} is newer than {FORMAT}; upgrade medidistill")
            self.releases: list[dict[str, Any]] = plain["releases"]
        except (KeyError, TypeError) as error:
            raise IngestError(f"{path}: not a ledger ({error}); restore it, nothing is released without") from error

    def before(self, patients: Iterable[str], name: str) -> tuple[list[Sampled], int]:
        """Return the mechanisms, and the number of releases without one, that touched any of these patients.

        Args:
            patients: identifiers of those whom the next release touches.
            name: digest of that set; having released the same bytes before costs nothing again.
        """
        mine = set(_hashes(patients))
        shared = [r for r in self.releases if r["set"] != name and mine & set(r["patients"])]
        mechanisms = [Sampled(**m) for r in shared for m in r["mechanisms"]]
        return mechanisms, sum(not r["mechanisms"] for r in shared)

    def add(self, patients: Iterable[str], name: str, mechanisms: Sequence[Sampled], **facts: Any) -> None:
        """Write down a release; the same set of the same patients is one entry."""
        entry = {
            "set": name,
            "patients": _hashes(patients),
            "mechanisms": [asdict(m) for m in mechanisms],
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **facts,
        }
        if not any(old["set"] == name and old["patients"] == entry["patients"] for old in self.releases):
            self.releases.append(entry)
            write_json(self.path, {"format": FORMAT, "releases": self.releases}, mode=0o600)
