"""Layout of stored values in pixel cells, from the attributes of an image (PS3.5 8.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.attributes import attribute, whole_number
from medidistill.ingest.notices import Notice

__all__ = ["PixelLayout", "read_layout"]

_MOST_BITS = 16


@dataclass(frozen=True)
class PixelLayout:
    """Bits of a pixel cell and what they mean.

    Args:
        allocated: (0028,0100) Bits Allocated: 8, 16 or 32.
        stored: (0028,0101) Bits Stored: 1 to 16.
        high: (0028,0102) High Bit: `stored` - 1 to `allocated` - 1.
        signed: (0028,0103) Pixel Representation: two's complement.
    """

    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def low_value(self) -> int:
        """Return the smallest stored value."""
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def high_value(self) -> int:
        """Return the largest stored value."""
        return (1 << (self.stored - self.signed)) - 1

    @property
    def shift(self) -> int:
        """Return the number of unused bits below the stored value."""
        return self.high + 1 - self.stored


def read_layout(dataset: Dataset) -> tuple[PixelLayout, tuple[Notice, ...]]:
    """Return the layout of the pixel cells of an image, and the assumptions made.

    Raises:
        IngestError: an attribute that is missing or out of its range; the message names it.
    """
    allocated, stored = whole_number(dataset, "BitsAllocated"), whole_number(dataset, "BitsStored")
    if allocated not in (8, 16, 32):
        raise IngestError(f"{attribute('BitsAllocated')} must be 8, 16 or 32")
    most = min(allocated, _MOST_BITS)
    if not 1 <= stored <= most:
        raise IngestError(f"{attribute('BitsStored')} must be 1 to {most} where Bits Allocated is {allocated}")
    high = whole_number(dataset, "HighBit", -1)
    assumed = high == -1
    high = stored - 1 if assumed else high
    if not stored - 1 <= high < allocated:
        raise IngestError(f"{attribute('HighBit')} must be Bits Stored - 1 to Bits Allocated - 1")
    sign = whole_number(dataset, "PixelRepresentation")
    if sign not in (0, 1):
        raise IngestError(f"{attribute('PixelRepresentation')} must be 0 or 1")
    return PixelLayout(allocated, stored, high, bool(sign)), (Notice.HIGH_BIT_ASSUMED,) if assumed else ()
