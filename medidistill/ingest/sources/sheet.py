"""The cells of a table that a spreadsheet or a script has written: CSV of many kinds, or an Excel workbook.

Only unambiguous formats are read: byte order marks, UTF-16, `sep=;`, semicolons, tabs. Where a guess could change a
value, such as the code page of bytes that are not UTF-8, the table is refused with its line.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import re
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl

from medidistill.errors import IngestError
from medidistill.ingest.sources.archive import check_archive

__all__ = ["Sheet", "column_word", "parse_sheet", "read_sheet"]

_MOST_BYTES = 1 << 30
_OLE2 = bytes.fromhex("d0cf11e0a1b11ae1")
_MARKS = (  # UTF-32 before UTF-16: its mark begins with the other's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEPARATOR = re.compile(r'\A"?sep=(.)"?[ \t;,]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Args:
        header: names of the columns as written, stripped.
        rows: (line of the file or row of the sheet, from 1; as many cells as the header has, stripped), without rows
            that are all empty.
        unit: what the numbers count: `line` or `row`.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    unit: str = "line"


def column_word(name: str) -> str:
    """Return the name of a column in lower case, spaces and hyphens as underscores."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def read_sheet(path: Path, known: Collection[str]) -> Sheet:
    """Read a CSV or an Excel workbook (xlsx).

    Args:
        path: the file; its kind is determined by content.
        known: names of columns (`column_word`) by which the delimiter is recognised.

    Raises:
        IngestError: neither, or what cannot be read, and in which line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise IngestError(f"{path}: larger than {_MOST_BYTES} bytes: no table of labels")
        data = path.read_bytes()
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_sheet(path, data, known)


def parse_sheet(path: Path, data: bytes, known: Collection[str]) -> Sheet:
    """Read the bytes of a table as `read_sheet` does.

    Args:
        path: what messages call it.
        data: all of its bytes.
        known: names of columns (`column_word`) by which the delimiter is recognised.

    Raises:
        IngestError: neither CSV nor a workbook, or what cannot be read, and in which line.
    """
    if data.startswith(b"PK\x03\x04"):
        return _check(path, _workbook_rows(path, data), "row")
    if data.startswith(_OLE2):
        raise IngestError(f"{path}: an Excel workbook of the old kind or with a password: save it as CSV or xlsx")
    text = _decoded(path, data)
    if not text.strip():
        raise IngestError(f"{path}: not a readable CSV: it is empty")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise IngestError(f"{path}: not a readable CSV: line {line} holds a zero byte")
    told, skipped = _SEPARATOR.match(text), 0
    if told:
        text, skipped = text[told.end() :], 1
    delimiter = told[1] if told else _delimiter(text, known)
    return _check(path, _csv_rows(path, text, delimiter, skipped), "line")


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding:
        encoding = _without_mark(data[:200])
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n|\r|\n", data[: error.start])) + 1
        if encoding != "utf-8":
            raise IngestError(f"{path}: not a readable CSV in {encoding}: damaged in line {line}") from error
        raise IngestError(
            f"{path}: not a readable CSV in UTF-8: line {line} holds the byte 0x{data[error.start]:02X}, as Windows "
            "and Latin code pages write accents; save it as `CSV UTF-8`"
        ) from error


def _without_mark(start: bytes) -> str:
    """Return the encoding of a text that has no byte order mark: UTF-16 where every second byte is zero."""
    if len(start) > 3 and not any(start[1::2]) and all(start[0 : len(start) & ~1 : 2]):
        return "utf-16-le"
    if len(start) > 3 and not any(start[0::2]) and all(start[1::2]):
        return "utf-16-be"
    return "utf-8"


def _delimiter(text: str, known: Collection[str]) -> str:
    """Return the delimiter under which the header holds most of the known columns; a comma where none does."""

    def score(delimiter: str) -> tuple[int, int]:
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            header = next((row for row in rows if any(cell.strip() for cell in row)), [])
        except csv.Error:
            return 0, 0
        return sum(column_word(name) in known for name in header), len(header)

    scores = {delimiter: score(delimiter) for delimiter in _DELIMITERS}
    best = max(_DELIMITERS, key=scores.__getitem__)
    return best if scores[best][0] else ","


def _csv_rows(path: Path, text: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line that a row begins in, cells)."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = skipped + 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            what = "a quotation mark is opened and not closed, or stands within a cell that has none around it"
            raise IngestError(f"{path}: not a readable CSV: the row of line {line}: {what} ({error})") from error
        if row is None:
            return
        yield line, row
        line = rows.line_num + skipped + 1


def _workbook_rows(path: Path, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield (row, cells) of the first sheet of a workbook."""
    check_archive(path, io.BytesIO(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                raise IngestError(f"{path}: neither CSV nor an Excel workbook (xlsx)")  # noqa: TRY301
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what other programs note there is often wrong
            for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
                yield number, [_cell(value) for value in row]
        finally:
            book.close()
    except IngestError:
        raise
    except Exception as error:  # the reader raises anything on a damaged workbook
        raise IngestError(f"{path}: not a readable Excel workbook ({type(error).__name__})") from error


def _cell(value: Any) -> str:
    """Return the text of a cell: whole numbers without a decimal point, dates as YYYY-MM-DD."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)


def _check(path: Path, rows: Iterator[tuple[int, Sequence[str]]], unit: str) -> Sheet:
    """Return the header and the rows under it, each as long as the header."""
    header: tuple[str, ...] = ()
    found: list[tuple[int, tuple[str, ...]]] = []
    for number, row in rows:
        cells = tuple(cell.strip() for cell in row)
        if not any(cells):
            continue
        if not header:
            header = cells
            continue
        if any(cells[len(header) :]):
            raise IngestError(
                f"{path}: not a readable CSV: {unit} {number} has {len(cells)} cells, the header has {len(header)}; "
                "a value that holds the delimiter (such as 1,234) must stand in quotation marks"
            )
        found.append((number, cells[: len(header)] + ("",) * (len(header) - len(cells))))
    return Sheet(header, tuple(found), unit)
