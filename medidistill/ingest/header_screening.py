"""View, directions and body part of an image, from its header.

Only the terms of this module are returned, never a value of a header.
"""

from __future__ import annotations

import re
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

__all__ = ["body_part", "directions", "view", "view_of_text"]

LATERAL, OBLIQUE, OTHER_PART = "lateral", "oblique", "other"

_LATERAL = {"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "L LAT", "R LAT", "LEFT LATERAL", "RIGHT LATERAL"}
_OBLIQUE = {"RAO", "LAO", "RPO", "LPO", "RLO", "LLO", "OBLIQUE"}
_FRONTAL = {"AP", "PA"}
# PS3.16 CID 4010 in SNOMED CT, and the codes that earlier editions gave the same views
_LATERAL_CODES = {"399173006", "399198007", "399067008", "R-10236", "R-10232", "R-102CD"}
_FRONTAL_CODES = {"399348003", "272479007", "399033003", "R-10206", "R-40888", "R-10214", "R-10202"}
_CHEST_CODES = {
    *("816094009", "51185008", "T-D3000"),  # chest; its former concept; the former code
    *("39607008", "T-28000", "86598002", "72410000"),  # lung, apex of lung, mediastinum
    *("416550000", "416775004", "416319003", "417437006", "416152001", "38266002"),  # regions that hold the chest
}
_CHEST = re.compile(r"CHEST|THORA|TORAX|LUNG|PULMO|POUMON|WHOLEBODY|CHABD|CHSABD")
_SIDE = re.compile(r"\b(lat|lateral|seitlich|profil)\b", flags=re.IGNORECASE)
_FRONT = re.compile(r"\b(?:ap|pa|frontal)\b|\b(?:a\.p\.|p\.a\.)", flags=re.IGNORECASE)
_DIRECTION = re.compile(r"[APRLHF]{1,3}")
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")


def _value(dataset: Dataset, keyword: str) -> Any:
    """Return a value, None where it is absent or damaged: no image is lost over a merely descriptive attribute."""
    try:
        return dataset.get(keyword)
    except Exception:  # noqa: BLE001 (pydicom converts on access, and damaged values raise anything)
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip()


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    value = _value(dataset, keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else []


def view_of_text(text: str) -> str:
    """Return `lateral`, `oblique`, `frontal`, or an empty string, for a view position or a column of a table."""
    value = text.strip().upper()
    if value in _LATERAL:
        return LATERAL
    if value in _OBLIQUE:
        return OBLIQUE
    return "frontal" if value in _FRONTAL or value == "FRONTAL" else ""


def directions(dataset: Dataset) -> tuple[str, str] | None:
    """Return where the rows and the columns of an image run to, by (0020,0020) Patient Orientation.

    Each is up to three of the letters A, P, R, L, H, F (PS3.3 C.7.6.1.1.1), the main direction first, or empty where
    the value is missing or no direction. None: nothing is stated.
    """
    value = _value(dataset, "PatientOrientation")
    values = [str(one or "").strip(" \0").upper() for one in ([value] if isinstance(value, str) else value or ())]
    if not any(values):
        return None
    if len(values) > 2:
        return "", ""
    rows, columns = (one if _DIRECTION.fullmatch(one) else "" for one in (*values, "")[:2])
    return rows, columns


def view(dataset: Dataset) -> str:
    """Return `lateral`, `oblique` or `frontal`, or an empty string where the header gives none.

    Asked in this order: (0054,0220) View Code Sequence, (0018,5101) View Position, (0020,0020) Patient Orientation
    (rows or columns that run to the front or the back of the patient make a side view), the descriptions of series
    and protocol.
    """
    for item in _items(dataset, "ViewCodeSequence"):
        code = _text(item, "CodeValue")
        if code in _LATERAL_CODES:
            return LATERAL
        if code in _FRONTAL_CODES:
            return "frontal"
    if found := view_of_text(_text(dataset, "ViewPosition")):
        return found
    if any(one[:1] in ("A", "P") for one in directions(dataset) or ()):  # the main direction of each
        return LATERAL
    words = " ".join(_text(dataset, keyword).replace("_", " ") for keyword in _DESCRIPTIONS)
    return LATERAL if _SIDE.search(words) and not _FRONT.search(words) else ""


def body_part(dataset: Dataset) -> str:
    """Return `other` where (0018,0015) Body Part Examined or (0008,2218) Anatomic Region names no part of the chest."""
    named = _text(dataset, "BodyPartExamined").upper().replace(" ", "")
    if named:
        return "" if _CHEST.search(named) else OTHER_PART
    codes = {_text(item, "CodeValue") for item in _items(dataset, "AnatomicRegionSequence")} - {""}
    return OTHER_PART if codes and not codes & _CHEST_CODES else ""
