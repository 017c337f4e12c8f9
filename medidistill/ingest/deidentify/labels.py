"""The table of labels after de-identification: the identifiers that it was keyed on are gone from the images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.files import write_text
from medidistill.ingest.deidentify.identifying_values import identifiers
from medidistill.ingest.deidentify.reading import read_as_stored
from medidistill.ingest.deidentify.residual import TextSearch
from medidistill.ingest.sources.table import from_table

__all__ = ["LabelsWritten", "write_labels"]


@dataclass(frozen=True)
class LabelsWritten:
    """How many images have a row in the new table.

    Args:
        rows: rows written.
        withheld: rows left out because their label or split holds an identifier of their image.
    """

    rows: int
    withheld: int


def write_labels(
    table: Path, source: Path, output: Path, sources: Sequence[Path], written: Sequence[str]
) -> LabelsWritten:
    """Write ``OUT/images/labels.csv``: path, label and split of each image that was written, and no other column.

    A label is written as it stands, so that it is searched for the identifiers of its image before.

    Args:
        table: CSV of labels by path, SOP Instance UID or accession number, as `ingest` reads it.
        source: the folder that was read.
        output: the folder that was written.
        sources: the input file of each image.
        written: the images, relative to `output`, in the same order.

    Returns:
        What was written; images that no row names have none, and rows of files in quarantine are left out.

    Raises:
        IngestError: an unusable table, or a file that two rows name.
        ResourceError: the table cannot be written.
    """
    targets = dict(zip(sources, written, strict=True))
    found = from_table(Path(source), Path(table), list(targets), IngestConfig(labels=Path(table).name))
    named = [one for one in found.records if one.path in targets]
    fit = [one for one in named if not _tells_the_patient(one.path, (one.label, one.split))]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "split"))
    rows.writerows(sorted((targets[one.path].removeprefix("images/"), one.label, one.split) for one in fit))
    path = Path(output) / "images" / "labels.csv"
    path.parent.mkdir(parents=True, exist_ok=True)  # where nothing was written, the table has no row
    write_text(path, text.getvalue(), mode=0o600)
    return LabelsWritten(len(fit), len(named) - len(fit))


def _tells_the_patient(path: Path, texts: Sequence[str]) -> bool:
    """Return whether a text of the table holds an identifier of a DICOM file; pictures have none."""
    dataset = read_as_stored(path)
    if dataset is None:
        return False
    search = TextSearch(identifiers(dataset, path))
    return any(search.finds_in_text(text) for text in texts)
