"""Which studies to fetch."""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError, IngestError, did_you_mean

__all__ = ["Query", "answers", "nothing_fits", "read_accessions"]

_LAST = "99999999"
_DATE = re.compile(r"\d{8}")
_DATES = re.compile(r"\d{8}(-\d{8})?|\d{8}-|-\d{8}")


@dataclass(frozen=True)
class Query:
    """Studies by date or accession number, and the modalities to take from them.

    Args:
        dates: `YYYYMMDD`, or a range `YYYYMMDD-YYYYMMDD` with either end open; empty: any.
        accessions: accession numbers, asked for one by one; empty: any.
        modalities: only series of these are fetched.

    Raises:
        ConfigError: neither a date nor accession numbers, which would ask for the whole archive; a bad date.
    """

    dates: str = ""
    accessions: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ("CR", "DX")

    def __post_init__(self) -> None:
        if self.dates and not _DATES.fullmatch(self.dates):
            raise ConfigError(f"--dates {self.dates}: must look like 20260101 or 20260101-20260331")
        days = [day for day in self.dates.split("-") if day]
        for day in days:
            try:
                datetime.datetime.strptime(day, "%Y%m%d")
            except ValueError:
                raise ConfigError(
                    f"--dates {self.dates}: {day} is no day of the calendar; write year, month and day, as 20260331"
                ) from None
        if days != sorted(days):
            raise ConfigError(f"--dates {self.dates}: ends before it begins; write the earlier day first")
        if not self.dates and not self.accessions:
            raise ConfigError("name --dates or --accessions: without either the query would ask for the whole archive")

    def filters(self) -> list[dict[str, str]]:
        """Return the matching keys of each query to send, by keyword of the study level."""
        keys = [{"AccessionNumber": number} for number in self.accessions] or [{}]
        return [{**one, **({"StudyDate": self.dates} if self.dates else {})} for one in keys]


def answers(keys: Mapping[str, str], accession: str, date: str) -> bool:
    """Return whether a study is one that a query asks for: an archive may ignore a key that it does not support.

    Args:
        keys: one of `Query.filters`; `*` and `?` of an accession number stand for any characters and for one.
        accession: what the archive says of the study; empty: nothing, which fits no number.
        date: its study date, likewise.
    """
    number, (first, dash, last) = keys.get("AccessionNumber", ""), keys.get("StudyDate", "").partition("-")
    wanted = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in number.strip())
    if number and not re.fullmatch(wanted, accession.strip(" \0")):
        return False
    day = date.strip(" \0").replace(".", "")  # the form before 1993 has full stops
    if not (first or last):
        return True
    last = last or (_LAST if dash else first)
    return bool(_DATE.fullmatch(day)) and first <= day <= last


def nothing_fits(archive: str, studies: int) -> IngestError:
    """Return the error of a query to which an archive answered with other studies alone."""
    return IngestError(
        f"{archive}: answered with other studies alone ({studies}): none has the accession number or study date asked "
        "for; does it support queries by (0008,0050) Accession Number and (0008,0020) Study Date, and return both?"
    )


def read_accessions(table: Path) -> tuple[str, ...]:
    """Return the distinct accession numbers of a CSV with a column `accession_number`, in order.

    Raises:
        IngestError: no such file or column, or no number in it. Matching characters are refused: a number is one.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
            if "accession_number" not in names:
                guess = did_you_mean("accession_number", names)
                raise IngestError(f"{table}: needs a column accession_number{guess}")
            values = [(row[names["accession_number"]] or "").strip() for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IngestError(f"{table}: cannot be read as CSV in UTF-8 ({type(error).__name__})") from error
    found = tuple(dict.fromkeys(value for value in values if value))
    if not found:
        raise IngestError(f"{table}: holds no accession numbers")
    for line, value in enumerate(values, 2):
        if re.search(r"[*?\\]", value) or len(value) > 16:
            raise IngestError(f"{table} line {line}: an accession number has up to 16 characters and none of * ? \\")
    return found
