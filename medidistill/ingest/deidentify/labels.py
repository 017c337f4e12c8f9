"""The table of labels after de-identification: the identifiers that it was keyed on are gone from the images."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.files import write_text
from medidistill.ingest.deidentify.folder import DeidentifyResult
from medidistill.ingest.sources.table import from_table

__all__ = ["write_labels"]


def write_labels(table: Path, source: Path, output: Path, result: DeidentifyResult) -> int:
    """Write ``OUT/images/labels.csv``: path, label and split of each image that was written, and no other column.

    Args:
        table: CSV of labels by path, SOP Instance UID or accession number, as `ingest` reads it.
        source: the folder that was read.
        output: the folder that was written.
        result: what was written.

    Returns:
        The number of rows; images that no row names have none, and rows of files in quarantine are left out.

    Raises:
        IngestError: an unusable table, or a file that two rows name.
        ResourceError: the table cannot be written.
    """
    targets = dict(zip(result.sources, result.written, strict=True))
    found = from_table(Path(source), Path(table), list(targets), IngestConfig(labels=Path(table).name))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "split"))
    named = [
        (targets[one.path].removeprefix("images/"), one.label, one.split)
        for one in found.records
        if one.path in targets
    ]
    rows.writerows(sorted(named))
    write_text(Path(output) / "images" / "labels.csv", text.getvalue(), mode=0o600)
    return len(named)
