"""New values for old ones: dates moved by an offset, dummies by VR, and what a VR allows."""

from __future__ import annotations

import datetime
import re
from typing import Any

__all__ = ["age_capped", "conforms", "dummy", "empty", "is_temporal", "shift_date"]

_DUMMY: dict[str, Any] = {
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
_FORMS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "DS": re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *"),
    "IS": re.compile(r" *[+-]?\d{1,10} *"),
}


def dummy(vr: str) -> Any:
    """Return a value that says nothing and is allowed for the VR, or None where there is none."""
    return _DUMMY.get(vr)


def empty(vr: str) -> Any:
    """Return the zero-length value of a VR."""
    return [] if vr == "SQ" else None


def conforms(vr: str, text: str) -> bool:
    """Return whether a text is what the VR allows (PS3.5 table 6.2-1)."""
    return _FORMS[vr].fullmatch(text) is not None


def is_temporal(text: str) -> bool:
    """Return whether a text looks like a date, a time or both, and like nothing else."""
    return re.fullmatch(r"[0-9.:+\- ]{2,26}", text) is not None


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


def age_capped(text: str) -> str:
    """Return an age string with all ages of 90 years and more as ``090Y``; empty where it is no age."""
    text = text.strip()
    if not conforms("AS", text):
        return ""
    return "090Y" if text.endswith("Y") and int(text[:3]) >= 90 else text
