"""A CSV of labels: each row names a file by path, SOP Instance UID or accession number."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean
from medidistill.ingest.dicom import Header, file_kind, read_header
from medidistill.ingest.sources.record import Found, make_record

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


def read_table(table: Path) -> pd.DataFrame:
    """Return the CSV as text with the columns of `_COLUMNS`, empty where absent, indexed by line number.

    Raises:
        IngestError: not a CSV in UTF-8, without rows, or without a column that is needed.
    """
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
        # a file without a header has a patient's row in its place: only names of columns that we know are repeated
        known_names = {name for aliases in _COLUMNS.values() for name in aliases}
        shown = [name for name in present if name in known_names]
        others = f" and {len(present) - len(shown)} of other names" if len(present) > len(shown) else ""
        raise IngestError(
            f"{table}: needs a column {' and '.join(missing)}; found {', '.join(shown) or 'none of ours'}{others}; "
            "the first line must name the columns",
            private=[f"first line: {', '.join(present)}"],
        )
    tidy = pd.DataFrame(
        {name: frame[c].str.strip() if c is not None else "" for name, c in known.items()}, index=frame.index
    )
    tidy.index = pd.RangeIndex(2, len(tidy) + 2)  # line 1 is the header
    tidy = tidy[(tidy != "").any(axis=1)]
    if tidy.empty:
        raise IngestError(f"{table}: has no rows")
    return tidy


def from_table(source: Path, table: Path, files: Sequence[Path], config: IngestConfig) -> Found:
    """Return what the rows of a table name. The first of path, UID, accession number that is filled in counts.

    Args:
        source: the folder that paths are relative to, and that no path may leave.
        table: the CSV.
        files: the files that identifiers are looked up in.
        config: whether headers give sex and age.

    Raises:
        IngestError: an unusable table, or a file that two rows name.
    """
    frame = read_table(table)
    key_column = next(name for name in _KEYS if (frame[name] != "").any())
    index = _headers(files) if key_column != "path" else {}
    found, lines = Found(), defaultdict(list)
    for line, row in zip(frame.index, frame.to_dict("records"), strict=True):
        where = f"{config.labels} line {line}"
        if not row["label"]:
            found.set_aside(where, "no label")
            continue
        if key_column == "path":
            paths, name = [source / row["path"]], row["path"] or where
        else:
            # identifiers of a study or an image stay out of the tables: the line number is enough
            paths, name = index.get((key_column, row[key_column]), []), where
        if not paths:
            found.set_aside(name, f"no file with this {key_column}")
        for path in paths:
            try:
                key = _key(source, path)
                lines[key].append(line)
                rest = {field: row[field] for field in ("split", "site", "sex", "age", "view")}
                record = make_record(key, path, row["label"], config, patient=row["patient_id"], **rest)
            except (IngestError, OSError) as error:
                found.set_aside(name, error)
                continue
            found.records.append(record)
    twice = {key: numbers for key, numbers in lines.items() if len(numbers) > 1}
    if twice:
        numbers = next(iter(twice.values()))
        raise IngestError(
            f"{table}: {len(twice)} file{' is' if len(twice) == 1 else 's are'} listed more than once "
            f"(lines {', '.join(map(str, numbers))}); keep one row a file",
            private=[f"{key} in lines {', '.join(map(str, lines))}" for key, lines in twice.items()],
        )
    return found


def _key(source: Path, path: Path) -> str:
    """Return the path relative to the source. Raises `IngestError` for what is no file inside it."""
    # `..` is resolved but links are not: a folder of links to an archive is a usual source
    inside, root = (Path(os.path.normpath(p.absolute())) for p in (path, source))
    if not inside.is_relative_to(root):
        raise IngestError("outside the input folder")
    if not inside.is_file():
        raise IngestError("no such file")
    return inside.relative_to(root).as_posix()


def _headers(files: Sequence[Path]) -> dict[tuple[str, str], list[Path]]:
    """Return the DICOM files by (column, value) for the two identifiers a row may be keyed on."""
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in files:
        try:
            header = read_header(path) if file_kind(path) == "dicom" else Header()
        except (IngestError, OSError):
            continue  # a file that no row can name is no part of the data set
        for column in ("sop_instance_uid", "accession_number"):
            if value := getattr(header, column):
                found[column, value].append(path)
    return found
