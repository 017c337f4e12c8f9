"""The bits of a pixel cell that hold the stored value; all others may hold anything (PS3.5 8.1.1, 8.1.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medidistill.errors import IngestError

__all__ = ["mask_unused_bits"]


def mask_unused_bits(
    array: NDArray[Any], bits_allocated: int, bits_stored: int, high_bit: int, signed: bool
) -> NDArray[Any]:
    """Return the stored values of pixel cells: shifted down to bit 0, unused bits cleared, sign extended.

    The bits from `high_bit` down to `high_bit - bits_stored + 1` hold the value (PS3.5 8.1.1). The others may hold
    anything, an overlay for example (PS3.5 8.1.2, retired).

    Args:
        array: pixel cells of any shape and integer type; of each, the lowest `bits_allocated` bits count.
        bits_allocated: (0028,0100), one of 8, 16, 32, 64.
        bits_stored: (0028,0101), 1 to `bits_allocated`.
        high_bit: (0028,0102), `bits_stored - 1` to `bits_allocated - 1`.
        signed: whether (0028,0103) Pixel Representation is 1: two's complement.

    Returns:
        A new array of the same shape, of the signed or unsigned integer type with `bits_allocated` bits, in the
        byte order of the machine.

    Raises:
        IngestError: a value out of its range; the message names the attribute.
    """
    if bits_allocated not in (8, 16, 32, 64):
        raise IngestError(f"(0028,0100) Bits Allocated is {bits_allocated}: must be 8, 16, 32 or 64")
    if not 1 <= bits_stored <= bits_allocated:
        raise IngestError(f"(0028,0101) Bits Stored is {bits_stored}: must be 1 to Bits Allocated, {bits_allocated}")
    if not bits_stored - 1 <= high_bit < bits_allocated:
        raise IngestError(
            f"(0028,0102) High Bit is {high_bit}: must be {bits_stored - 1} (Bits Stored - 1) to {bits_allocated - 1}"
        )
    if array.dtype.kind not in "iu":
        raise IngestError(f"pixels of type {array.dtype}: must be integers")
    width = bits_allocated // 8
    cells = array.astype(f"u{width}")  # wraps negative values to their two's complement
    # to the top of the cell, which drops what is above the value, then down: arithmetic shifts extend the sign
    values = (cells << cells.dtype.type(bits_allocated - 1 - high_bit)).view(f"{'i' if signed else 'u'}{width}")
    return np.asarray(values >> values.dtype.type(bits_allocated - bits_stored))
