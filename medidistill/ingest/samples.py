"""From the samples that a frame holds to the stored values that its header means (PS3.5 8.1.1, 8.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medidistill.errors import IngestError
from medidistill.ingest.attributes import attribute
from medidistill.ingest.notices import Notice
from medidistill.ingest.pixel_layout import PixelLayout
from medidistill.ingest.stored_bits import mask_unused_bits

__all__ = ["Samples", "stored_values"]


@dataclass(frozen=True)
class Samples:
    """What was decoded, before any attribute of the stored values is applied.

    Args:
        values: (rows, columns) of an integer type: pixel cells, or the numbers of a codestream.
        bits: bits a sample: of the pixel cell, or the precision of the codestream.
        signed: whether the codestream has signed numbers.
        lossy: whether the numbers may differ a little from those that were compressed.
        knows_sign: whether the coding has a sign at all: JPEG 2000 does.
    """

    values: NDArray[Any]
    bits: int
    signed: bool = False
    lossy: bool = False
    knows_sign: bool = False


def stored_values(samples: Samples, layout: PixelLayout) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """Return the stored values, and what had to be assumed.

    Unused bits are cleared and signs extended. Where codestream and header contradict each other, the values are
    read if they mean the same both ways, or if one reading is what writers mean, and refused otherwise.

    Raises:
        IngestError: a contradiction; the message names the attribute.
    """
    if samples.signed and not layout.signed and int(samples.values.min()) < 0:
        raise IngestError(f"{attribute('PixelRepresentation')} is unsigned, but the compressed samples are negative")
    notices: list[Notice] = []
    if layout.signed and not samples.signed and samples.knows_sign:
        notices.append(Notice.UNSIGNED_CODESTREAM)
    if layout.shift and layout.high >= samples.bits:
        raise IngestError(f"{attribute('HighBit')} lies above the {samples.bits} bits of the compressed samples")
    if samples.bits < layout.stored:
        return _narrow(samples, layout), tuple(notices)
    if samples.lossy and not layout.shift and samples.bits > layout.stored and samples.signed is layout.signed:
        values, clipped = _clip(samples.values, layout)
        return values, (*notices, *clipped)
    width = 8 * samples.values.dtype.itemsize
    if not layout.shift and not layout.signed and int(samples.values.max()) <= layout.high_value:
        return samples.values, tuple(notices)
    values = mask_unused_bits(samples.values, width, layout.stored, layout.high, layout.signed)
    if _unused_bits_set(samples.values, values, width, layout):
        if samples.bits != layout.allocated and not samples.lossy:  # no pixel cells were compressed, but numbers
            raise IngestError(f"{attribute('BitsStored')} has no room for the {samples.bits} bits of the samples")
        notices.append(Notice.UNUSED_BITS)
    return values.astype(np.int16 if layout.signed else np.uint16, copy=False), tuple(notices)


def _narrow(samples: Samples, layout: PixelLayout) -> NDArray[Any]:
    """Return samples of fewer bits than Bits Stored, whose values the header can represent."""
    if layout.signed and not samples.signed and int(samples.values.max()) >> (samples.bits - 1):
        raise IngestError(
            f"{attribute('BitsStored')} and {attribute('PixelRepresentation')}: the sign of compressed samples of "
            f"{samples.bits} unsigned bits cannot be told"
        )
    return samples.values.astype(np.int16 if layout.signed else np.uint16)


def _clip(values: NDArray[Any], layout: PixelLayout) -> tuple[NDArray[Any], tuple[Notice, ...]]:
    """Return lossy samples within the range of Bits Stored: masking would turn what overshoots white into black."""
    low, high = int(values.min()), int(values.max())
    room = max(1, (1 << layout.stored) // 8)  # Gibbs ringing: 9 % of the step
    if low < layout.low_value - room or high > layout.high_value + room:
        raise IngestError(f"{attribute('BitsStored')} has no room for the samples of the lossy compression")
    if low >= layout.low_value and high <= layout.high_value:
        return values, ()
    return np.clip(values, layout.low_value, layout.high_value), (Notice.LOSSY_OVERSHOOT,)


def _unused_bits_set(cells: NDArray[Any], values: NDArray[Any], width: int, layout: PixelLayout) -> bool:
    """Return whether unused bits hold anything but zeros or the extended sign.

    Raises:
        IngestError: nothing but low bits hold anything, so that High Bit cannot be right.
    """
    found = cells.astype(f"u{width // 8}").astype(np.int64)
    placed = values.astype(np.int64) << layout.shift
    extended = placed & ((1 << width) - 1)
    plain = placed & ((1 << (layout.high + 1)) - 1)
    differs = (found != extended) & (found != plain)
    if layout.shift and not int((found >> layout.stored).max()) and bool(differs.any()):
        raise IngestError(f"{attribute('HighBit')} is not Bits Stored - 1, but the pixels fill the low bits")
    return bool(differs.any())
