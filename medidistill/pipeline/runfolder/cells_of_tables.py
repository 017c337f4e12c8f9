"""The cells of tables of labels that may name a file or a patient, of every kind of table that ingest reads."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from medidistill.errors import IngestError

__all__ = ["MOST_BYTES", "TABLES", "cells", "cells_of"]

MOST_BYTES = 1 << 26
TABLES = (".csv", ".tsv", ".txt", ".xlsx")
# columns of a table of labels whose cells name neither a file nor a patient; see docs/ingest.md
_PLAIN_COLUMNS = frozenset({"label", "split", "sex", "gender", "age", "view", "view_position"})
_NAMING_COLUMNS = frozenset(
    {"path", "file", "filename", "sop_instance_uid", "accession_number", "patient_id", "site", "source"}
)
_DELIMITERS = re.compile(r"[,;\t|\"\r\n]+")


def cells_of(table: Path) -> Iterator[str]:
    """Yield the cells of a table that may name somebody; nothing of a file that cannot be opened."""
    try:
        with open(table, "rb") as file:
            data = file.read(MOST_BYTES)
    except OSError:
        return
    yield from cells(data, table)


def cells(data: bytes, name: Path) -> Iterator[str]:
    """Yield the cells that may name somebody, and the names of files in those that are paths.

    The first line counts too, unless it is a header that we know. Of a table that cannot be read as one, everything
    between delimiters counts.

    Args:
        data: the bytes of the table.
        name: its name.
    """
    from medidistill.ingest.sources.sheet import column_word, parse_sheet  # MONAI takes seconds to load

    try:
        sheet = parse_sheet(name, data, _PLAIN_COLUMNS | _NAMING_COLUMNS)
    except IngestError:
        yield from _telling(_DELIMITERS.split(_text(data)))
        return
    header = [column_word(cell) for cell in sheet.header]
    if not _NAMING_COLUMNS & set(header):
        header = [""] * len(header)
        yield from _telling(sheet.header)
    plain = {number for number, word in enumerate(header) if word in _PLAIN_COLUMNS}
    for _, row in sheet.rows:
        yield from _telling([cell for number, cell in enumerate(row) if number not in plain])


def _text(data: bytes) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8", "replace")


def _telling(row: Iterable[str]) -> Iterator[str]:
    """Yield the cells that are more than a short number, and the names of files in those that are paths."""
    for cell in map(str.strip, row):
        if len(cell) > 3 or (len(cell) == 3 and not cell.isdigit()):
            yield cell
            for part in re.split(r"[/\\]", cell):
                if len(part) > 2 and part != cell:
                    yield part
                    if (stem := PurePosixPath(part).stem) != part:
                        yield stem
