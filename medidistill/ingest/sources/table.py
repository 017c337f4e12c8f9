"""A table of labels: each row names a file by path, SOP Instance UID or accession number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean, one_line
from medidistill.ingest.dicom import Header, file_kind, read_header
from medidistill.ingest.dicom_file import read_dicom_file
from medidistill.ingest.other_objects import kind_of_object
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.ingest.sources.lookup import FileLookup
from medidistill.ingest.sources.patients import identify, normal_id
from medidistill.ingest.sources.record import SourceListing
from medidistill.ingest.sources.sheet import column_word, read_sheet
from medidistill.patient_units import PatientSource

__all__ = ["from_table", "read_table"]

_COLUMNS = {
    "path": ("path", "file", "filename"),
    "sop_instance_uid": ("sop_instance_uid",),
    "accession_number": ("accession_number",),
    "label": ("label",),
    "patient_id": ("patient_id",),
    "site": ("site", "source"),
    "sex": ("sex", "gender"),
    "age": ("age",),
    "view": ("view", "view_position"),
    "split": ("split",),
}
_KEYS = ("path", "sop_instance_uid", "accession_number")
_UNREADABLE = "its header cannot be read: no row can name it"
_DICOM_NAMES = (".dcm", ".dicom", ".ima")
_TEXTS = (".csv", ".tsv", ".txt", ".md", ".json", ".xml", ".htm", ".html", ".log", ".yaml", ".yml")
_FILE_TYPES = (b"PK", b"\x1f\x8b", b"%PDF", b"\x93NUMPY", b"\xd0\xcf\x11\xe0")  # archives, workbooks, documents, arrays
_KNOWN = {alias for aliases in _COLUMNS.values() for alias in aliases}


def read_table(table: Path) -> pd.DataFrame:
    """Return the table as text with the columns of `_COLUMNS`, empty where absent, indexed by line (or row) number.

    The number counts lines of the file: a quotation with a line break in it does not shift those below.

    Raises:
        IngestError: neither CSV nor xlsx, no rows, a column that is needed is missing, or one is there twice.
    """
    sheet = read_sheet(table, _KNOWN)
    words = [column_word(name) for name in sheet.header]
    for word, count in Counter(words).items():
        if count > 1 and word in _KNOWN:
            where = ", ".join(str(i) for i, one in enumerate(words, 1) if one == word)
            raise IngestError(f"{table}: the column {word} is there {count} times (columns {where}); keep one")
    present = {word: place for place, word in enumerate(words) if word}
    known = {name: next((present[a] for a in aliases if a in present), None) for name, aliases in _COLUMNS.items()}
    missing = []
    if known["label"] is None:
        missing.append(f"label{did_you_mean('label', present)}")
    if all(known[name] is None for name in _KEYS):
        missing.append(f"path (or sop_instance_uid, accession_number){did_you_mean('path', present)}")
    if missing:
        # a file without a header has a patient's row in its place: only names of columns that we know are repeated
        known_names = {name for aliases in _COLUMNS.values() for name in aliases}
        shown = [name for name in present if name in known_names]
        others = f" and {len(present) - len(shown)} of other names" if len(present) > len(shown) else ""
        raise IngestError(
            f"{table}: needs a column {' and '.join(missing)}; found {', '.join(shown) or 'none of ours'}{others}; "
            "the first line must name the columns",
            private=[f"first line: {', '.join(sheet.header)}"],
        )
    places = {name: place for name, place in known.items() if place is not None}
    used = [(line, cells) for line, cells in sheet.rows if any(cells[place] for place in places.values())]
    if not used:
        raise IngestError(f"{table}: has no rows")
    return pd.DataFrame(
        {name: [cells[places[name]] if name in places else "" for _, cells in used] for name in _COLUMNS},
        index=pd.Index([line for line, _ in used], name=sheet.unit),
        dtype=str,
    )


def from_table(source: Path, table: Path, files: Sequence[Path], config: IngestConfig) -> SourceListing:
    """Return what the rows of a table name. The first of path, UID, accession number that is filled in counts.

    Where rows name accession numbers, a file that looks like an image and whose header cannot be read is set aside:
    nothing else would tell that an image of an accession is missing. A row with a SOP Instance UID tells that itself.

    Args:
        source: the folder that paths are relative to, and that no path may leave, symbolic links included.
        table: CSV or xlsx.
        files: the files that identifiers and other spellings of a path are looked up in.
        config: whether headers give sex and age, and which links are followed.

    Raises:
        IngestError: an unusable table, or a file that two rows name.
    """
    frame = read_table(table)
    unit = str(frame.index.name)
    key_column = next((name for name in _KEYS if (frame[name] != "").any()), "")
    if not key_column:
        raise IngestError(f"{table}: no row names a file; fill the column path, sop_instance_uid or accession_number")
    index = (
        _Index() if key_column == "path" else _headers(source, (path for path in files if path != table), key_column)
    )
    lookup = FileLookup(source, files, config.follow_links)
    found, lines = SourceListing(), defaultdict(list)
    rows: list[_Row] = []
    for line, *values in frame.itertuples():
        cells = dict(zip(map(str, frame.columns), map(str, values), strict=True))
        where = f"{config.labels} {unit} {line}"
        if not cells["label"]:
            found.set_aside(where, "no label")
            continue
        if key_column == "path":
            paths, name = [cells["path"]] if cells["path"] else [], one_line(cells["path"]) or where
        else:
            # identifiers of a study or an image stay out of the tables: the line number is enough
            paths, name = index.keys.get(cells[key_column], []), where
        if not paths:
            found.set_aside(name, "no path" if key_column == "path" else f"no file with this {key_column}")
        for path in paths:
            try:
                key, file = lookup.find(path)
            except (IngestError, OSError) as error:
                found.set_aside(name, error)
                continue
            lines[key].append(line)
            rows.append(_Row(key, name, file, cells, where))
    index.tell(found, set(lines), key_column)
    twice = {key: numbers for key, numbers in lines.items() if len(numbers) > 1}
    if twice:
        numbers = next(iter(twice.values()))
        raise IngestError(
            f"{table}: {len(twice)} file{' is' if len(twice) == 1 else 's are'} listed more than once "
            f"({unit}s {', '.join(map(str, numbers))}); keep one row a file",
            private=[f"{key} in {unit}s {', '.join(map(str, found))}" for key, found in twice.items()],
        )
    linked = _linked_patients(rows)
    for row in rows:
        rest = {field: row.cells[field] for field in ("split", "site", "sex", "age", "view")}
        patient = linked.get(row.key, row.cells["patient_id"])
        found.add(
            row.key, row.path, row.cells["label"], config, name=row.name, patient=patient, place=row.place, **rest
        )
    if linked:
        found.notes.append(
            f"The column patient_id is filled for some rows only; {len(linked)} images without it have the header's "
            "Patient ID of an image with it and are taken as that patient's."
        )
    return found


@dataclass(frozen=True)
class _Row:
    """A row that names a file: its key, the name it is set aside by, its path, its cells, its line."""

    key: str
    name: str
    path: Path
    cells: dict[str, str]
    place: str

    @property
    def names_patient(self) -> bool:
        return identify(self.key, self.cells["patient_id"], "", "").source is PatientSource.TABLE


def _linked_patients(rows: Sequence[_Row]) -> dict[str, str]:
    """Return the patient of the table for files whose row names none, where the headers link them to rows that do.

    A table that names some patients and headers that name the others may number the same people in two ways.
    """
    named = [row for row in rows if row.names_patient]
    others = [row for row in rows if not row.names_patient]
    by_header: dict[str, str] = {}
    for row in named if others else ():
        if header := _patient_in_header(row):
            by_header[header] = min(by_header.get(header, row.cells["patient_id"]), row.cells["patient_id"])
    found = {row.key: by_header.get(_patient_in_header(row), "") for row in (others if by_header else ())}
    return {key: patient for key, patient in found.items() if patient}


def _patient_in_header(row: _Row) -> str:
    try:
        header = read_header(row.path) if file_kind(row.path) == "dicom" else Header()
    except (IngestError, OSError):
        return ""  # it will be set aside for that when it is added
    who = identify(row.key, "", header.patient_id, "")
    return normal_id(who.raw) if who.source is PatientSource.HEADER else ""


@dataclass
class _Index:
    """What the headers of files say in the column that rows are keyed on.

    Args:
        keys: value -> keys of the files that have it.
        pictures: files that a row might name: DICOM, PNG, JPEG.
        unreadable: keys of files that look like an image and whose header cannot be read.
    """

    keys: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pictures: dict[str, Path] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def tell(self, found: SourceListing, named: Collection[str], column: str) -> None:
        """Set aside what no row can name, and note how many files no row names."""
        others = [key for key, path in self.pictures.items() if key not in named and not _holds_no_image(path)]
        cut = {key for key in others if _ends_early(self.pictures[key])}
        unreadable, unnamed = [*self.unreadable, *cut], len(others) - len(cut)
        if unreadable and column == "accession_number":
            for key in unreadable:
                found.set_aside(key, _UNREADABLE)
        elif unreadable:  # the row of each of them is set aside
            have = "1 file has" if len(unreadable) == 1 else f"{len(unreadable)} files have"
            found.notes.append(f"{have} no header that can be read: no row can name such a file.")
        if unnamed:
            are = "1 image file is" if unnamed == 1 else f"{unnamed} image files are"
            found.notes.append(f"{are} named by no row of the table and left out.")


def _headers(source: Path, files: Iterable[Path], column: str) -> _Index:
    """Return what files say in `column`, one of the two identifiers that a row may be keyed on."""
    index = _Index()
    for path in files:
        key = path.relative_to(source).as_posix()
        try:
            kind = file_kind(path)
            if not kind and not _looks_like_image(path):
                continue
            value = str(getattr(read_header(path), column)) if kind == "dicom" else ""
        except (IngestError, OSError):
            kind, value = "", ""
        if value:
            index.keys[value].append(key)
        if kind:
            index.pictures[key] = path
        else:
            index.unreadable.append(key)
    return index


def _ends_early(path: Path) -> bool:
    """Whether a DICOM file lacks what every image states behind its identifiers, as one that was cut does."""
    try:
        if file_kind(path) != "dicom":
            return False
        with silence_pydicom():
            return "Rows" not in read_dicom_file(path, keywords=("Rows",), pixels=False).dataset
    except Exception:  # noqa: BLE001 (a damaged file raises anything)
        return True


def _holds_no_image(path: Path) -> bool:
    try:
        return file_kind(path) == "dicom" and bool(kind_of_object(path))
    except OSError:
        return False


def _looks_like_image(path: Path) -> bool:
    """Whether a file of unknown content may have been an image: named like one, or neither a text nor of a known type.

    Raises:
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in _DICOM_NAMES:
        return True
    with open(path, "rb") as file:
        start = file.read(1024)
    text = bool(start) and not any(byte < 9 or 13 < byte < 27 for byte in start)
    return suffix not in _TEXTS and not text and not start.startswith(_FILE_TYPES)
