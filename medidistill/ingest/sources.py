"""Find the images of a folder, their labels and their patients.

A CSV of labels decides where there is one; else each sub-folder is a class. Patients come from the
CSV, else from the DICOM header, else each file is its own patient. Raw patient identifiers end here:
what leaves this module is a short hash. It keeps names out of tables and messages; it does not
protect an identifier that can be guessed.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean
from medidistill.ingest.dicom import Header, file_kind, read_header
from medidistill.ingest.manifest import Quarantined

__all__ = ["Record", "class_names", "find_records", "hash_patient"]

_DEFAULT_TABLE = "labels.csv"
_COLUMNS = {
    "path": ("path", "file", "filename"),
    "sop_instance_uid": ("sop_instance_uid",),
    "accession_number": ("accession_number",),
    "label": ("label",),
    "patient_id": ("patient_id",),
    "site": ("site", "source"),
    "sex": ("sex",),
    "age": ("age",),
    "split": ("split",),
}
_KEYS = ("path", "sop_instance_uid", "accession_number")
_NOT_IMAGES = {"dicomdir", "thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Record:
    """One labelled image file. `key` is its path relative to the source; `split` is empty where none is given."""

    key: str
    path: Path
    label: str
    patient_id: str
    split: str = ""
    site: str = ""
    sex: str = ""
    age: str = ""


def hash_patient(identifier: str) -> str:
    """Return ``p-`` and 12 hexadecimal digits of the SHA-256 of a patient identifier."""
    return "p-" + hashlib.sha256(identifier.strip().encode()).hexdigest()[:12]


def find_records(source: Path, config: IngestConfig) -> tuple[list[Record], list[Quarantined]]:
    """List the labelled images of a folder, sorted by key, and what had to be set aside.

    Args:
        source: folder with images and `config.labels`, or with one sub-folder a class.
        config: name of the CSV, class names.

    Raises:
        IngestError: the folder is missing or empty, there are no labels, the CSV lacks a column, a label
            is unknown, or a file is listed twice.
    """
    if not source.exists():
        raise IngestError(f"{source}: no such folder")
    if not source.is_dir():
        raise IngestError(f"{source}: is a file; give the folder that holds the images")
    files = _files(source)
    if not files:
        raise IngestError(f"{source}: the folder is empty")
    table = source / config.labels
    if table.is_file():
        records, quarantine = _from_table(source, table, config)
    elif config.labels != _DEFAULT_TABLE:
        guess = did_you_mean(config.labels, [path.name for path in source.glob("*.csv")])
        raise IngestError(f"{table}: no such table of labels{guess}")
    else:
        records, quarantine = _from_folders(source, files)
    return sorted(records, key=lambda r: r.key), sorted(quarantine, key=lambda q: q.key)


def class_names(records: Sequence[Record], config: IngestConfig) -> tuple[str, ...]:
    """Return the class names in label order, after checking each label against `config.classes`.

    Raises:
        IngestError: a label that is no class, a class without images, or fewer than two classes.
    """
    counts = Counter(record.label for record in records)
    names = config.classes or tuple(sorted(counts))
    for label in sorted(set(counts) - set(names)):
        raise IngestError(
            f"label {label!r} of {counts[label]} images is not one of the classes {', '.join(names)}"
            f"{did_you_mean(label, names)}; mend the labels or add it to ingest.classes"
        )
    for name in names:
        if not counts[name]:
            guess = did_you_mean(name, sorted(set(counts) - {name}))
            raise IngestError(
                f"class {name!r} has no usable images; labels found: {', '.join(sorted(counts)) or 'none'}{guess}"
            )
    if len(names) < 2:
        raise IngestError(f"only one class ({', '.join(names)}): a comparison needs at least two")
    return names


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted, without hidden ones and those that systems leave behind."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in found
        if path.name.lower() not in _NOT_IMAGES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _patient_of(path: Path, key: str, known: str = "") -> str:
    """Return the hashed patient: `known`, else the header's, else one that only this file has."""
    identifier, kind = known.strip(), file_kind(path)
    if not kind:
        raise IngestError("neither DICOM nor PNG nor JPEG")
    if not identifier and kind == "dicom":
        identifier = read_header(path).patient_id
    return hash_patient(identifier or f"file\x1f{key}")


def _from_folders(source: Path, files: Iterable[Path]) -> tuple[list[Record], list[Quarantined]]:
    records, quarantine = [], []
    for path in files:
        parts = path.relative_to(source).parts
        if len(parts) < 2:
            continue
        key = "/".join(parts)
        try:
            records.append(Record(key, path, parts[0], _patient_of(path, key)))
        except (IngestError, OSError) as error:
            quarantine.append(Quarantined(key, _why(error)))
    if not records and not quarantine:
        tables = sorted(path.name for path in source.glob("*.csv"))
        hint = f"; set ingest.labels to {tables[0]}" if tables else ""
        raise IngestError(f"{source}: no labels: neither {_DEFAULT_TABLE} nor a sub-folder for each class{hint}")
    return records, quarantine


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, IngestError) else f"unreadable ({type(error).__name__})"


def _read_table(table: Path) -> pd.DataFrame:
    """Return the CSV as text with the columns of `_COLUMNS`, empty where absent, indexed by line number."""
    try:
        with warnings.catch_warnings():
            # rows longer than the header: pandas would drop what is left over, or shift the columns
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                table, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False, index_col=False
            )
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise IngestError(f"{table}: not a readable CSV in UTF-8 ({str(error).splitlines()[0]})") from error
    except OSError as error:
        raise IngestError(f"{table}: cannot be read ({error.strerror})") from error
    present = {str(name).strip().lower(): name for name in frame.columns}
    known = {name: next((present[a] for a in aliases if a in present), None) for name, aliases in _COLUMNS.items()}
    missing = []
    if known["label"] is None:
        missing.append(f"label{did_you_mean('label', present)}")
    if all(known[name] is None for name in _KEYS):
        missing.append(f"path (or sop_instance_uid, accession_number){did_you_mean('path', present)}")
    if missing:
        raise IngestError(f"{table}: needs a column {' and '.join(missing)}; found {', '.join(present) or 'none'}")
    tidy = pd.DataFrame(
        {name: frame[c].str.strip() if c is not None else "" for name, c in known.items()}, index=frame.index
    )
    tidy.index = pd.RangeIndex(2, len(tidy) + 2)  # line 1 is the header
    tidy = tidy[(tidy != "").any(axis=1)]
    if tidy.empty:
        raise IngestError(f"{table}: has no rows")
    return tidy


def _from_table(source: Path, table: Path, config: IngestConfig) -> tuple[list[Record], list[Quarantined]]:
    frame = _read_table(table)
    key_column = next(name for name in _KEYS if (frame[name] != "").any())
    index = _headers(source) if key_column != "path" else {}
    records, quarantine, lines = [], [], defaultdict(list)
    for line, row in zip(frame.index, frame.to_dict("records"), strict=True):
        where = f"{config.labels} line {line}"
        if not row["label"]:
            quarantine.append(Quarantined(where, "no label"))
            continue
        if key_column == "path":
            paths, name = [source / row["path"]], row["path"] or where
        else:
            # identifiers of a study or an image stay out of the tables: the line number is enough
            paths, name = index.get((key_column, row[key_column]), []), where
        if not paths:
            quarantine.append(Quarantined(name, f"no file with this {key_column}"))
        for path in paths:
            try:
                key = _key(source, path)
                lines[key].append(line)
                patient = _patient_of(path, key, row["patient_id"])
            except (IngestError, OSError) as error:
                quarantine.append(Quarantined(name, _why(error)))
                continue
            rest = {field: row[field] for field in ("split", "site", "sex", "age")}
            records.append(Record(key, path, row["label"], patient, **rest))
    twice = {key: found for key, found in lines.items() if len(found) > 1}
    if twice:
        key, found = next(iter(twice.items()))
        raise IngestError(
            f"{table}: {len(twice)} file{' is' if len(twice) == 1 else 's are'} listed more than once "
            f"({key} in lines {', '.join(map(str, found))}); keep one row a file"
        )
    return records, quarantine


def _key(source: Path, path: Path) -> str:
    """Return the path relative to the source. Raises `IngestError` for what is no file inside it."""
    # `..` is resolved but links are not: a folder of links to an archive is a usual source
    inside, root = (Path(os.path.normpath(p.absolute())) for p in (path, source))
    if not inside.is_relative_to(root):
        raise IngestError("outside the input folder")
    if not inside.is_file():
        raise IngestError("no such file")
    return inside.relative_to(root).as_posix()


def _headers(source: Path) -> dict[tuple[str, str], list[Path]]:
    """Return the DICOM files of a folder by (column, value) for the two identifiers a row may be keyed on."""
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _files(source):
        try:
            header = read_header(path) if file_kind(path) == "dicom" else Header("", "", "")
        except (IngestError, OSError):
            continue  # a file that no row can name is no part of the data set
        for column in ("sop_instance_uid", "accession_number"):
            if value := getattr(header, column):
                found[column, value].append(path)
    return found
