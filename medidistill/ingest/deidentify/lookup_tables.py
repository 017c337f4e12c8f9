"""Look-up tables without what follows their last entry, and without the padding of their bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medidistill.errors import IngestError

__all__ = ["trim_lookup_tables"]

_DESCRIPTOR, _DATA = 0x00283002, 0x00283006


def trim_lookup_tables(target: Dataset, little_endian: bool = True) -> None:
    """Cut LUT Data at every depth to the entries that LUT Descriptor counts; in place.

    Entries of 8 bits may lie in bytes or in words, as follows from the length of the data (PS3.3 C.11.1.1.1,
    C.11.2.1.1).

    Args:
        target: a dataset.
        little_endian: byte order of its words.

    Raises:
        IngestError: a different number of entries, or entries of more bits than the descriptor states that form no
            curve.
    """
    for element in list(target):
        if element.VR == "SQ":
            for item in element.value or ():
                trim_lookup_tables(item, little_endian)
    if _DATA not in target:
        if _DESCRIPTOR in target:
            raise IngestError("(0028,3002) LUT Descriptor without (0028,3006) LUT Data, or with data of another VR")
        return
    try:
        count, _, bits = (int(value) for value in target[_DESCRIPTOR].value)
    except (KeyError, TypeError, ValueError) as error:
        raise IngestError("(0028,3006) LUT Data without the three values of (0028,3002) LUT Descriptor") from error
    element, order = target[_DATA], "<u2" if little_endian else ">u2"
    entries, words = _trimmed(element.value, element.VR in ("OB", "UN"), order, count % 65536 or 65536)
    if int(entries.max()) >> max(1, bits) and not _is_curve(entries):
        raise IngestError(
            "(0028,3006) LUT Data hold more bits than (0028,3002) LUT Descriptor states, and form no curve"
        )
    element.VR, element.value = "OW", words.astype(order).tobytes()


def _trimmed(value: Any, is_bytes: bool, order: str, count: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the entries of a table, and the words that hold them and nothing else."""
    if isinstance(value, bytes):
        even = len(value) // 2 * 2
        words, spare = np.frombuffer(value[:even], order).astype(np.uint16), value[even:]
    else:
        words, spare = _whole_numbers(value), b""
    if len(words) >= count:
        return words[:count], words[:count]
    # of a word the low byte comes first
    data = value if is_bytes and isinstance(value, bytes) else words.astype("<u2").tobytes() + spare
    if len(data) not in (count, count + count % 2):
        raise IngestError("(0028,3006) LUT Data differ in number of entries from (0028,3002) LUT Descriptor")
    packed = np.frombuffer(data, np.uint8, count)
    even_bytes = packed.tobytes() + b"\0" * (count % 2)
    return packed.astype(np.uint16), np.frombuffer(even_bytes, "<u2").astype(np.uint16)


def _whole_numbers(value: Any) -> NDArray[np.uint16]:
    try:
        numbers = np.atleast_1d(np.asarray([] if value is None else value)).astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise IngestError("(0028,3006) LUT Data must be whole numbers") from error
    return (numbers & 0xFFFF).astype(np.uint16)


def _is_curve(entries: NDArray[np.uint16]) -> bool:
    """Return whether entries rise or fall all along, as those of a display curve do and those of a text do not."""
    steps = np.diff(entries.astype(np.int64))
    return bool((steps >= 0).all() or (steps <= 0).all())
