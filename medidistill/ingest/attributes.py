"""Values of a data set, typed; an error names the attribute and never repeats its value, which could hold a name."""

from __future__ import annotations

import math
from typing import Any

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from medidistill.errors import IngestError

__all__ = ["attribute", "items", "number", "numbers", "text", "whole_number"]


def attribute(keyword: str) -> str:
    """Return tag and name of a standard attribute, for messages: `(0028,0101) Bits Stored`."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


def _values(dataset: Dataset, keyword: str) -> list[Any]:
    """Return the values of an attribute; an empty list where it is absent or empty."""
    try:
        value = dataset.get(keyword)
    except Exception as error:  # pydicom converts on access, and damaged values raise anything
        raise IngestError(f"{attribute(keyword)} cannot be read ({type(error).__name__})") from error
    if value is None:
        return []
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    return [] if all(one is None or one in ("", b"") for one in values) else values


def whole_number(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """Return the one integer of an attribute, or `default` where it is absent or empty.

    Raises:
        IngestError: absent without a default, several values, or no integer.
    """
    values = _values(dataset, keyword)
    if not values:
        if default is None:
            raise IngestError(f"{attribute(keyword)} is missing")
        return default
    try:
        found = int(values[0])
        whole = len(values) == 1 and not isinstance(values[0], bytes) and found == float(values[0])
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise IngestError(f"{attribute(keyword)} must be one whole number")
    return found


def numbers(dataset: Dataset, keyword: str) -> list[float | None]:
    """Return the values of a numeric attribute, None for each empty one.

    Raises:
        IngestError: a value that is no number, or not finite.
    """
    found: list[float | None] = []
    for value in _values(dataset, keyword):
        if value is None or value == "":
            found.append(None)
            continue
        try:
            found.append(float(value))
        except (TypeError, ValueError) as error:
            raise IngestError(f"{attribute(keyword)} must be a number") from error
        if not math.isfinite(float(value)):
            raise IngestError(f"{attribute(keyword)} must be finite")
    return found


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the one value of a numeric attribute, None where it is absent or empty. Raises `IngestError`."""
    found = numbers(dataset, keyword)
    if len(found) > 1:
        raise IngestError(f"{attribute(keyword)} must hold one value")
    return found[0] if found else None


def text(dataset: Dataset, keyword: str) -> str:
    """Return the first value of an attribute as text without padding; empty where it is absent."""
    values = _values(dataset, keyword)
    return str(values[0] or "").strip(" \0") if values else ""


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence. Raises `IngestError` where the attribute holds something else."""
    values = _values_of_sequence(dataset, keyword)
    if not all(isinstance(one, Dataset) for one in values):
        raise IngestError(f"{attribute(keyword)} must be a sequence")
    return values


def _values_of_sequence(dataset: Dataset, keyword: str) -> list[Any]:
    try:
        value = dataset.get(keyword)
        return list(value) if value else []
    except Exception as error:  # see `_values`
        raise IngestError(f"{attribute(keyword)} cannot be read ({type(error).__name__})") from error
