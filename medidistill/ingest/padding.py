"""Stored values that are padding: (0028,0120) Pixel Padding Value (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.attributes import attribute, numbers, whole_number
from medidistill.ingest.notices import Notice
from medidistill.ingest.pixel_layout import PixelLayout

__all__ = ["padding_range"]


def padding_range(dataset: Dataset, layout: PixelLayout) -> tuple[tuple[int, int] | None, Notice | None]:
    """Return the smallest and largest stored value that are padding, None where there is none, and a notice.

    Both attributes are read by Pixel Representation, whatever their own value representation: some writers type those
    of signed pixels US, with or without extended sign. The limit may lie on either side of the value. What no stored
    value can be is not applied.

    Raises:
        IngestError: one of the two is no whole number of 16 bits.
    """
    stated = bool(numbers(dataset, "PixelPaddingValue"))
    limited = bool(numbers(dataset, "PixelPaddingRangeLimit"))
    if not stated:
        return None, Notice.PADDING_LIMIT_ALONE if limited else None
    value = _stored_value(dataset, "PixelPaddingValue", layout)
    if value is None:
        return None, Notice.PADDING_OUT_OF_RANGE
    limit = _stored_value(dataset, "PixelPaddingRangeLimit", layout) if limited else value
    if limit is None:
        return (value, value), Notice.PADDING_LIMIT_OUT_OF_RANGE
    return (min(value, limit), max(value, limit)), None


def _stored_value(dataset: Dataset, keyword: str, layout: PixelLayout) -> int | None:
    """Return an attribute of 16 bits as a stored value, None where no pixel can have it."""
    number = whole_number(dataset, keyword)
    if not -0x8000 <= number <= 0xFFFF:
        raise IngestError(f"{attribute(keyword)} must be a number of 16 bits")
    cell = number & 0xFFFF
    value = cell - 0x10000 if layout.signed and cell >= 0x8000 else cell
    if layout.low_value <= value <= layout.high_value:
        return value
    if layout.signed and layout.high_value < cell < 1 << layout.stored:  # sign not extended
        return cell - (1 << layout.stored)
    return None
