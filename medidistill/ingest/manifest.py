"""The tables of an ingest: what was used, what was set aside and why, and the digest of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medidistill.config import IngestConfig
from medidistill.config import digest as config_digest
from medidistill.errors import QuarantineError
from medidistill.files import write_text

__all__ = [
    "MANIFEST_COLUMNS",
    "Quarantined",
    "check_quarantine",
    "ingest_digest",
    "manifest_table",
    "write_manifest",
    "write_quarantine",
]

MANIFEST_COLUMNS = (
    "key",
    "label",
    "patient_id",
    "patient_source",
    "site",
    "sex",
    "age",
    "split",
    "width",
    "height",
    "sha256",
)
_DIGESTED = ("key", "label", "patient_id", "site", "sex", "age", "split", "sha256")


@dataclass(frozen=True)
class Quarantined:
    """A file or row that was set aside, or used under a warning.

    Args:
        key: its path relative to the source, or the table's name and line; bytes of a name that are not valid UTF-8 are
            written as escapes.
        reason: why; holds no name of a file, so that a report can show it.
        other: key of the image that it duplicates, else empty.
    """

    key: str
    reason: str
    other: str = ""


def manifest_table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return one row an image, in loading order, with the columns `MANIFEST_COLUMNS`; patients as hashes."""
    return pd.DataFrame(list(rows), columns=list(MANIFEST_COLUMNS))


def ingest_digest(manifest: pd.DataFrame, config: IngestConfig) -> str:
    """Return 16 hexadecimal digits that name the files' bytes, what is known of each, and the config."""
    rows = manifest[list(_DIGESTED)].astype(str).to_numpy().tolist()
    return config_digest(rows, config)


def write_manifest(path: Path, manifest: pd.DataFrame) -> None:
    """Write the manifest as CSV, readable by its owner only. Raises `ResourceError`."""
    write_text(path, manifest.to_csv(index=False), mode=0o600)


def write_quarantine(path: Path, quarantine: Sequence[Quarantined]) -> None:
    """Write the quarantine table (key, reason, other) as CSV, readable by its owner only. Raises `ResourceError`."""
    table = pd.DataFrame([asdict(entry) for entry in quarantine], columns=["key", "reason", "other"])
    write_text(path, table.to_csv(index=False), mode=0o600)


def check_quarantine(
    quarantine: Sequence[Quarantined], total: int, config: IngestConfig, folder: Path | None = None
) -> None:
    """Stop when a larger share than `config.max_quarantine` was set aside.

    Args:
        quarantine: what was set aside.
        total: files and rows looked at, those set aside among them.
        config: carries the limit.
        folder: gets `quarantine.csv` before the error; None: the message alone.

    Raises:
        QuarantineError: with the three most frequent reasons and the path of the table.
    """
    if len(quarantine) <= config.max_quarantine * total:
        return
    reasons = Counter(entry.reason for entry in quarantine).most_common(3)
    top = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    table = "no table was written, as no folder was given"
    if folder is not None:
        write_quarantine(folder / "quarantine.csv", quarantine)
        table = f"table: {folder / 'quarantine.csv'}"
    raise QuarantineError(
        f"{len(quarantine)} of {total} files were quarantined, more than max_quarantine={config.max_quarantine:g}: "
        f"{top}; {table}; fix the files or raise ingest.max_quarantine",
        private=[f"{entry.key}: {entry.reason}" for entry in quarantine],
    )
