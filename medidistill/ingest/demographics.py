"""Sex and age as tables and DICOM headers write them, in one spelling for subgroup tables."""

from __future__ import annotations

import re

__all__ = ["OLDEST", "parse_age", "parse_sex"]

OLDEST = 120.0  # years; public collections hold slips such as 411
_SEXES = {"f": "F", "female": "F", "w": "F", "woman": "F", "m": "M", "male": "M", "man": "M", "o": "O", "other": "O"}
_UNITS = {"": 1.0, "y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}  # years


def parse_sex(text: str) -> str:
    """Return `F`, `M`, `O` (other), or an empty string for what is unknown or not understood."""
    return _SEXES.get(text.strip().lower(), "")


def parse_age(text: str) -> float | None:
    """Return an age in years, or None for what is unknown, not understood or outside 0 to 120.

    Args:
        text: years (`54`, `54.5`) or a DICOM age string (`054Y`, `018M`, `006W`, `010D`; PS3.5 6.2).
    """
    found = re.fullmatch(r"(\d{1,4}(?:\.\d{1,6})?)([ymwd]?)", text.strip().lower(), flags=re.ASCII)
    if not found:
        return None
    years = round(float(found[1]) * _UNITS[found[2]], 2)
    return years if years <= OLDEST else None
