"""One labelled picture of a source, and whose it is. Raw patient identifiers end here, in a short hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest.demographics import parse_age, parse_sex
from medidistill.ingest.dicom import file_kind, read_header, unknown_kind
from medidistill.ingest.manifest import Quarantined

MOST_FRAMES = 10_000  # a header may claim any number

__all__ = ["Found", "Record", "hash_patient", "make_record", "why"]


@dataclass(frozen=True)
class Record:
    """One labelled image file.

    Args:
        key: its path relative to the source.
        path: where it lies.
        label: class name.
        patient_id: hashed identifier.
        split: as given, else empty.
        site: source or hospital, empty where unknown.
        sex: `F`, `M`, `O` or empty.
        age: years, None where unknown.
        view: as the table gives it (`PA`, `lateral`), else empty.
        frame: which of several frames, from 0; None for a file that is one picture.
    """

    key: str
    path: Path
    label: str
    patient_id: str
    split: str = ""
    site: str = ""
    sex: str = ""
    age: float | None = None
    view: str = ""
    frame: int | None = None


@dataclass
class Found:
    """What a source holds: records to read, and what had to be set aside."""

    records: list[Record] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)

    def set_aside(self, key: str, reason: str | Exception) -> None:
        """Put a file or row into quarantine."""
        self.quarantine.append(Quarantined(key, reason if isinstance(reason, str) else why(reason)))

    def split_frames(self) -> None:
        """Make each frame of a DICOM file with several a record of its own, `#1` and so on behind its key."""
        split: list[Record] = []
        for record in self.records:
            try:
                frames = read_header(record.path).frames if file_kind(record.path) == "dicom" else 1
            except (IngestError, OSError) as error:
                self.set_aside(record.key, error)
                continue
            if frames == 1:
                split.append(record)
            else:
                split += [
                    replace(record, key=f"{record.key}#{n + 1}", frame=n) for n in range(min(frames, MOST_FRAMES))
                ]
        self.records = split


def why(error: Exception) -> str:
    """Return the reason to show for a file that could not be opened."""
    return str(error) if isinstance(error, IngestError) else f"unreadable ({type(error).__name__})"


def hash_patient(identifier: str) -> str:
    """Return ``p-`` and 12 hexadecimal digits of the SHA-256 of a patient identifier.

    It keeps names out of tables and messages; it does not protect an identifier that can be guessed.
    """
    return "p-" + hashlib.sha256(identifier.strip().encode()).hexdigest()[:12]


def make_record(
    key: str,
    path: Path,
    label: str,
    config: IngestConfig,
    *,
    patient: str = "",
    sex: str = "",
    age: str = "",
    split: str = "",
    site: str = "",
    view: str = "",
) -> Record:
    """Return the record of a file.

    The patient is the one given, else the DICOM header's, else one that only this file has. Sex and age are those
    given, else, where `config.demographics` asks for it, the header's.

    Raises:
        IngestError: not a picture, or an unreadable header.
        OSError: it cannot be opened.
    """
    kind, patient = file_kind(path), patient.strip()
    if not kind:
        raise IngestError(unknown_kind(path))
    found_sex, found_age = parse_sex(sex), parse_age(age)
    ask = config.demographics == "header" and (not found_sex or found_age is None)
    if kind == "dicom" and (ask or not patient):
        header = read_header(path)
        patient = patient or header.patient_id
        if ask:
            found_sex = found_sex or parse_sex(header.sex)
            found_age = parse_age(header.age) if found_age is None else found_age
    return Record(key, path, label, hash_patient(patient or f"file\x1f{key}"), split, site, found_sex, found_age, view)
