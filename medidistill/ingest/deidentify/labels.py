"""The table of labels after de-identification: the identifiers that it was keyed on are gone from the images."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from medidistill.config import IngestConfig
from medidistill.files import write_text
from medidistill.ingest.deidentify.identifying_values import identifiers
from medidistill.ingest.deidentify.keys import Key
from medidistill.ingest.deidentify.patients import header_patient, identity_of_id
from medidistill.ingest.deidentify.reading import read_as_stored
from medidistill.ingest.deidentify.residual import TextSearch
from medidistill.ingest.header_screening import view_of_text
from medidistill.ingest.sources.patients import hash_patient, normal_id
from medidistill.ingest.sources.record import Record
from medidistill.ingest.sources.table import from_table, read_table
from medidistill.patient_units import PatientSource

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
    table: Path, source: Path, output: Path, sources: Sequence[Path], written: Sequence[str], key: Key
) -> LabelsWritten:
    """Write ``OUT/images/labels.csv``: path, label, split, view and patient of each image that was written.

    No other column is carried. Label and split are written as they stand, so that they are searched for the
    identifiers of the image before; the view becomes `lateral`, `oblique` or `frontal`, or nothing; the patient that
    the table names becomes a pseudonym, that of the header where both have the same ID, and stays empty where the
    table names none.

    Args:
        table: CSV of labels by path, SOP Instance UID or accession number, as `ingest` reads it.
        source: the folder that was read.
        output: the folder that was written.
        sources: the input file of each image.
        written: the images, relative to `output`, in the same order.
        key: the secret that pseudonyms come from.

    Returns:
        What was written; images that no row names have none, and rows of files in quarantine are left out.

    Raises:
        IngestError: an unusable table, or a file that two rows name.
        ResourceError: the table cannot be written.
    """
    targets = dict(zip(sources, written, strict=True))
    found = from_table(Path(source), Path(table), list(targets), IngestConfig(labels=Path(table).name))
    named = [one for one in found.records if one.path in targets]
    withheld, headers = [], []
    for one in named:
        header = read_as_stored(one.path)  # values are decoded on first use: the search for identifiers needs the bytes
        withheld.append(_tells_the_patient(header, one.path, (one.label, one.split)))
        headers.append(("", "") if header is None else header_patient(header))
    patients = _pseudonyms(named, headers, Path(table), key)
    fit = [
        (targets[one.path].removeprefix("images/"), one.label, one.split, view_of_text(one.view), patient)
        for one, patient, told in zip(named, patients, withheld, strict=True)
        if not told
    ]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label", "split", "view", "patient_id"))
    rows.writerows(sorted(fit))
    path = Path(output) / "images" / "labels.csv"
    path.parent.mkdir(parents=True, exist_ok=True)  # where nothing was written, the table has no row
    write_text(path, text.getvalue(), mode=0o600)
    return LabelsWritten(len(fit), len(named) - len(fit))


def _pseudonyms(records: Sequence[Record], headers: Sequence[tuple[str, str]], table: Path, key: Key) -> list[str]:
    """Return the pseudonym of the patient that the table names for each record; empty where it names none.

    Args:
        records: what the table names.
        headers: Patient ID and issuer of each.
        table: holds the identifiers that the records have as hashes.
        key: the secret that pseudonyms come from.
    """
    cells = {hash_patient(cell): cell for cell in map(str, read_table(table)["patient_id"])}
    issuers: dict[str, set[str]] = defaultdict(set)
    for patient, issuer in headers:
        if patient:
            issuers[normal_id(patient)].add(issuer)

    def pseudonym(record: Record) -> str:
        if record.patient_source is not PatientSource.TABLE:
            return ""
        patient = cells[record.patient_id]
        issuer = tuple(issuers[normal_id(patient)])  # a header's pseudonym is made with it
        return key.patient(identity_of_id(patient, issuer[0] if len(issuer) == 1 else ""))

    return [pseudonym(record) for record in records]


def _tells_the_patient(header: Dataset | None, path: Path, texts: Sequence[str]) -> bool:
    """Return whether a text of the table holds an identifier of a DICOM file; pictures have none."""
    if header is None:
        return False
    search = TextSearch(identifiers(header, path))
    return any(search.finds_in_text(text) for text in texts)
