"""DICOM look-up tables: their encodings, and common errors of their descriptors.

Source: PS3.3 C.11.1.1.1 for the Modality LUT, C.11.2.1.1 for the VOI LUT.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.attributes import attribute
from medidistill.ingest.notices import Notice

__all__ = ["LookupTable", "LutKind", "read_lookup_table"]

_DESCRIPTOR, _DATA = attribute("LUTDescriptor"), attribute("LUTData")


class LutKind(StrEnum):
    """Which table of the display pipeline; the value names its sequence in messages."""

    MODALITY = attribute("ModalityLUTSequence")
    VOI = attribute("VOILUTSequence")


@dataclass(frozen=True)
class LookupTable:
    """A table as it is applied.

    Args:
        entries: (N,) uint16.
        first: the input value that the first entry is for.
        bits: bits an entry: the output range is 0 to 2**bits - 1.
        notices: what had to be assumed of entries and first value.
        depth_notice: what had to be assumed of `bits`; it matters where the output range does.
    """

    entries: NDArray[np.uint16]
    first: int
    bits: int
    notices: tuple[Notice, ...] = ()
    depth_notice: Notice | None = None

    @property
    def top(self) -> float:
        """Return the largest output value."""
        return float(2**self.bits - 1)

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the outputs of values of any shape; outside the table its first and last entry hold."""
        last = len(self.entries) - 1
        index = np.clip(np.rint(values).astype(np.int64) - self.first, 0, last)
        return np.asarray(self.entries[index], dtype=np.float64)


def read_lookup_table(kind: LutKind, item: Dataset, low: float, high: float, little_endian: bool = True) -> LookupTable:
    """Read the item of a LUT sequence.

    The first value mapped is signed where the input may be negative, else unsigned, whatever its value representation:
    an explicit VR holds for all three values of the descriptor, and Pixel Representation speaks of the stored values
    alone. An entry count of 0 means 65,536. Entries are unsigned, and may be typed US, SS, OW, OB or UN; those of 8
    bits or fewer may lie in bytes or in words, as follows from the length of the data.

    Args:
        kind: which table.
        item: the item.
        low: the smallest value that can go in.
        high: the largest.
        little_endian: byte order of the file.

    Raises:
        IngestError: a missing or implausible table; the message names table and attribute.
    """
    descriptor = _words(item, 0x00283002, little_endian)
    if descriptor is None or len(descriptor) != 3:
        raise IngestError(f"{kind}: {_DESCRIPTOR} must hold three values")
    count, start, bits = (int(value) for value in descriptor)
    count = count or 65536
    if not 1 <= bits <= 16:
        raise IngestError(f"{kind}: {_DESCRIPTOR} must give 8 to 16 bits per entry")
    entries, packed = _entries(kind, item, count, bits, little_endian)
    first, flipped = _first_value(kind, start, count, low, high)
    notices = [Notice.LUT_PACKED] if packed else []
    notices += [Notice.LUT_FIRST_VALUE] if flipped else []
    bits = 8 if packed else bits
    used, depth_notice = int(entries.max()).bit_length(), None
    if used > bits:
        bits, depth_notice = used, Notice.LUT_WIDE
    elif 0 < used <= bits - 2:  # one bit may be headroom; two leave three quarters of the display dark
        bits, depth_notice = used, Notice.LUT_NARROW
    return LookupTable(entries, first, bits, tuple(notices), depth_notice)


def _first_value(kind: LutKind, start: int, count: int, low: float, high: float) -> tuple[int, bool]:
    """Return the first input value mapped, and whether the sign that the standard gives it had to be left."""
    signed = start - 65536 if start >= 32768 else start
    stated, other = (signed, start) if low < 0 else (start, signed)
    for first in dict.fromkeys((stated, other)):
        if first <= high and first + count - 1 >= low:
            return first, first != stated
    raise IngestError(f"{kind}: {_DESCRIPTOR} maps no value that the pixels can have")


def _entries(
    kind: LutKind, item: Dataset, count: int, bits: int, little_endian: bool
) -> tuple[NDArray[np.uint16], bool]:
    """Return the entries, and whether they are stored in bytes, contrary to the descriptor."""
    words = _words(item, 0x00283006, little_endian)
    if words is None:
        raise IngestError(f"{kind}: {_DATA} is missing")
    if len(words) >= count:
        return words[:count], False
    data = _bytes(item, words)
    # an odd number of bytes is padded to an even one; twice as many would have been words
    if len(data) in (count, count + count % 2):
        return np.frombuffer(data, "u1", count).astype(np.uint16), bits > 8
    raise IngestError(f"{kind}: {_DATA} hold fewer entries than {_DESCRIPTOR} states")


def _raw(item: Dataset, tag: int) -> Any:
    """Return the value of an element as it stands in the file where nothing has converted it yet, else as converted."""
    try:
        element = item.get_item(tag) if tag in item else None
        value = getattr(element, "value", None)
        if isinstance(value, bytes) or value is None:
            return value
        return item[tag].value
    except Exception as error:  # pydicom converts on access, and damaged values raise anything
        raise IngestError(f"{attribute('LUTData' if tag == 0x00283006 else 'LUTDescriptor')} cannot be read") from error


def _words(item: Dataset, tag: int, little_endian: bool) -> NDArray[np.uint16] | None:
    """Return the values of an element as unsigned words, whatever its VR; None where it is absent or holds none."""
    value = _raw(item, tag)
    if value is None or (isinstance(value, bytes | str | list) and not value):
        return None
    if isinstance(value, bytes):
        even = value[: len(value) // 2 * 2]
        return np.frombuffer(even, "<u2" if little_endian else ">u2").astype(np.uint16)
    try:
        whole = np.atleast_1d(np.asarray(value)).astype(np.int64)
    except (TypeError, ValueError, OverflowError):
        return None
    return (whole & 0xFFFF).astype(np.uint16)


def _bytes(item: Dataset, words: NDArray[np.uint16]) -> bytes:
    """Return the bytes of LUT Data in the order of their entries: of a word the low byte comes first."""
    value = _raw(item, 0x00283006)
    odd = value[-1:] if isinstance(value, bytes) and len(value) % 2 else b""
    if isinstance(value, bytes) and getattr(item.get_item(0x00283006), "VR", None) in ("OB", "UN"):
        return value  # no words, so that no byte order changes them
    return words.astype("<u2").tobytes() + odd
