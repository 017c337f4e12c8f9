"""New values for old ones: dates moved by an offset, times, ages, and dummies by VR."""

from __future__ import annotations

import datetime
import re
from typing import Any

from medidistill.jsontypes import JsonObject  # values of any representation in DICOM

__all__ = ["cap_age", "dummy", "empty", "shift_date", "temporal"]

_DUMMY: JsonObject = {
    "AE": "REMOVED",
    "AS": "000Y",
    "CS": "REMOVED",
    "DS": "0",
    "FD": 0.0,
    "FL": 0.0,
    "IS": "0",
    "LO": "REMOVED",
    "LT": "REMOVED",
    "OB": b"\0\0",
    "OW": b"\0\0",
    "PN": "REMOVED",
    "SH": "REMOVED",
    "SL": 0,
    "SS": 0,
    "ST": "REMOVED",
    "TM": "000000",
    "UC": "REMOVED",
    "UL": 0,
    "US": 0,
    "UT": "REMOVED",
}
_AGE = re.compile(r"\d{3}[DWMY]")
_TIME = r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"
_ZONE = r"([+-](0\d|1[0-4])[0-5]\d)?"


def dummy(vr: str) -> Any:
    """Return an uninformative value that the VR allows, or None where there is none."""
    return _DUMMY.get(vr)


def empty(vr: str) -> Any:
    """Return the zero-length value of a VR."""
    return [] if vr == "SQ" else None


def temporal(vr: str, text: str) -> str:
    """Return a DA, TM or DT as it is, or an empty text where it is none (PS3.5 table 6.2-1) but other digits."""
    text = text.strip(" \0")
    if vr == "TM":
        return text if re.fullmatch(_TIME, text) else ""
    day, rest = text[:8], text[8:]
    try:
        datetime.date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return ""
    if not day.isdigit() or len(day) < 8 or (vr == "DA" and rest):
        return ""
    return text if not rest or re.fullmatch(_TIME + _ZONE, rest) else ""


def shift_date(text: str, offset: datetime.timedelta) -> str:
    """Return a DA or DT moved by whole days, as YYYYMMDD; empty where it is no date of that form.

    The time of a DT is dropped: the second of an exposure finds the patient in any hospital's worklist.
    """
    found = re.fullmatch(r"(\d{4})[.]?(\d{2})[.]?(\d{2})(\d{0,6}(\.\d{1,6})?([+-]\d{4})?)", text.strip())
    if not found:
        return ""
    try:
        day = datetime.date(int(found[1]), int(found[2]), int(found[3])) + offset
    except (ValueError, OverflowError):
        return ""
    return day.strftime("%Y%m%d") if day.year >= 1000 else ""


def cap_age(text: str) -> str:
    """Return an age string with all ages of 90 years and more as ``090Y``; empty where it is no age."""
    text = text.strip()
    if not _AGE.fullmatch(text):
        return ""
    return "090Y" if text.endswith("Y") and int(text[:3]) >= 90 else text
