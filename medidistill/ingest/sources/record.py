"""One labelled picture of a source, and whose it is. Raw patient identifiers end here, in a short hash."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest.demographics import parse_age, parse_sex
from medidistill.ingest.dicom import Header, file_kind, read_header, unknown_kind
from medidistill.ingest.file_discovery import Refused, relative_name
from medidistill.ingest.manifest import Quarantined
from medidistill.ingest.sources.patients import Spellings, hash_patient, identify
from medidistill.patient_units import PatientSource

MOST_FRAMES = 10_000  # a header may claim any number
_OTHER_SPELLING = "its patient ID differs from that of another image in case, spaces, leading zeros or number form only"

__all__ = ["Record", "SourceListing", "error_reason", "hash_patient"]


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
        patient_source: how the patient is identified.
        place: line of the table that names it, for messages; empty without a table.
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
    patient_source: PatientSource = PatientSource.NOTHING
    place: str = field(default="", compare=False)


@dataclass
class SourceListing:
    """What a source holds: records to read, and what had to be set aside.

    Args:
        records: labelled images.
        quarantine: files and rows that are not used.
        warned: files used despite a warning.
        excluded: files that somebody decided not to use.
        notes: what was made of the source, sentences without names of files and patients.
    """

    records: list[Record] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)
    warned: list[Quarantined] = field(default_factory=list)
    excluded: list[Quarantined] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _spellings: Spellings = field(default_factory=Spellings, repr=False)
    _placeholders: int = 0

    def set_aside(self, key: str, reason: str | Exception) -> None:
        """Put a file or row into quarantine."""
        self.quarantine.append(Quarantined(key, reason if isinstance(reason, str) else error_reason(reason)))

    def refuse(self, entry: Refused, root: Path) -> None:
        """Put what the scan refused into quarantine, by its name below `root`."""
        self.set_aside(relative_name(entry.path, root), entry.reason)

    def add(
        self,
        key: str,
        path: Path,
        label: str,
        config: IngestConfig,
        *,
        name: str = "",
        kind: str | None = None,
        patient: str = "",
        sex: str = "",
        age: str = "",
        split: str = "",
        site: str = "",
        view: str = "",
        place: str = "",
    ) -> None:
        """Add a file; what is no picture or cannot be read is set aside.

        The patient is the one given, else the DICOM header's Patient ID, else its Study Instance UID, else one that
        only this file has. Sex and age are those given, else, where `config.demographics` asks for it, the header's.

        Args:
            key: its path relative to the source.
            path: where it lies.
            label: class name.
            config: whether headers give sex and age.
            name: by which it is set aside; empty: the key.
            kind: of the file, as from `file_kind`; None: determined here.
            patient: identifier as a table gives it.
            sex: likewise.
            age: likewise.
            split: likewise, or of a folder.
            site: source or hospital.
            view: as a table gives it.
            place: line of the table.
        """
        name = name or key
        if not label.isprintable():
            self.set_aside(name, "the label holds control characters")
            return
        try:
            kind = file_kind(path) if kind is None else kind
            found_sex, found_age, header = parse_sex(sex), parse_age(age), Header()
            ask = config.demographics == "header" and (not found_sex or found_age is None)
            given = identify(key, patient, "", "")
            if kind == "dicom" and (ask or given.source is not PatientSource.TABLE):
                header = read_header(path)
            if ask:
                found_sex = found_sex or parse_sex(header.sex)
                found_age = parse_age(header.age) if found_age is None else found_age
        except (IngestError, OSError) as error:
            self.set_aside(name, error)
            return
        if not kind:
            self.set_aside(name, unknown_kind(path))
            return
        who = identify(key, patient, header.patient_id, header.study_instance_uid)
        self._placeholders += who.placeholder
        hashed, label = self._spellings.add(who), unicodedata.normalize("NFC", label)
        found = (found_sex, found_age, view, None, who.source, place)
        self.records.append(Record(key, path, label, hashed, split, site, *found))

    def settle_patients(self, config: IngestConfig) -> None:
        """Make one patient of identifiers that look like one, unless `config` keeps them apart; either way is noted."""
        same = self._spellings.same()
        if same:
            merge = config.similar_patient_ids == "merge"
            first: dict[str, str] = {}
            for record in self.records:
                first.setdefault(record.patient_id, record.key)
            for number, record in enumerate(self.records):
                canonical = same.get(record.patient_id, record.patient_id)
                if canonical != record.patient_id:
                    self.warned.append(Quarantined(record.key, _OTHER_SPELLING, first[canonical]))
                    if merge:
                        self.records[number] = replace(record, patient_id=canonical)
            self.notes.append(
                f"{len(same)} patient IDs differ from another one in case, spaces, leading zeros or number form "
                f"(12, 012, 12.0) only: "
                + (
                    f"they are taken as {len(set(same.values()))} patients (ingest.similar_patient_ids: merge)."
                    if merge
                    else "they are kept apart (ingest.similar_patient_ids: keep), so images of one patient may lie in "
                    "different splits."
                )
            )
        if self._placeholders:
            self.notes.append(
                f"The patient ID of {self._placeholders} images is a placeholder such as ANONYMOUS; it is "
                "taken as absent."
            )

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


def error_reason(error: Exception) -> str:
    """Return the reason to show for a file that could not be opened."""
    return str(error) if isinstance(error, IngestError) else f"unreadable ({type(error).__name__})"
