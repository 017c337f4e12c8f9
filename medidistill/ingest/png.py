"""PNG with 16 bits and more than one channel: Pillow opens these, but keeps only the high byte of each sample."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medidistill.errors import IngestError
from medidistill.ingest.limits import MOST_PIXELS

__all__ = ["PngHeader", "read_deep_samples", "read_png_header"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


@dataclass(frozen=True)
class PngHeader:
    """The IHDR chunk of a PNG.

    Args:
        width: columns.
        height: rows.
        bits: bits a sample.
        colour: 0 grey, 2 RGB, 3 palette, 4 grey with opacity, 6 RGB with opacity.
        interlaced: Adam7.
    """

    width: int
    height: int
    bits: int
    colour: int
    interlaced: bool

    @property
    def channels(self) -> int:
        """Return the number of samples a pixel."""
        return _CHANNELS.get(self.colour, 1)

    @property
    def deep_colour(self) -> bool:
        """Return whether samples have 16 bits and pixels more than one of them."""
        return self.bits == 16 and self.channels > 1


def read_png_header(path: Path) -> PngHeader | None:
    """Return the header of a PNG, None for another file.

    Raises:
        IngestError: damaged, or more pixels than a radiograph has.

    Source: PNG specification (W3C 2003), 11.2.2.
    """
    with open(path, "rb") as file:
        start = file.read(33)
    if not start.startswith(_SIGNATURE):
        return None
    if start[12:16] != b"IHDR" or len(start) < 33:
        raise IngestError("unreadable (damaged or cut short)")
    width, height = (int.from_bytes(start[at : at + 4], "big") for at in (16, 20))
    if width * height > MOST_PIXELS:
        raise IngestError(f"more than {MOST_PIXELS} pixels claimed")
    return PngHeader(width, height, start[24], start[25], bool(start[28]))


def read_deep_samples(path: Path, header: PngHeader) -> NDArray[np.uint16]:
    """Return the samples of a PNG with 16 bits and two to four channels, (rows, columns, channels).

    Pillow's decoder takes the filters off; it is asked for the high and for the low bytes. Two channels of two bytes
    lie as four of one, and are read as such.

    Raises:
        IngestError: damaged or cut short.
    """
    data = b"".join(body for kind, body in _chunks(path.read_bytes()) if kind == b"IDAT")
    size, interlaced = (header.width, header.height), int(header.interlaced)
    if header.channels == 2:
        image = np.asarray(Image.frombytes("RGBA", size, data, "zip", "RGBA", interlaced))
        high, low = image[..., 0::2], image[..., 1::2]
    else:
        mode = "RGB" if header.channels == 3 else "RGBA"
        # the samples are big endian: read as little endian, the low byte is taken for the high one
        high, low = (
            np.asarray(Image.frombytes(mode, size, data, "zip", f"{mode};16{order}", interlaced)) for order in "BL"
        )
    return np.asarray(high.astype(np.uint16) << 8 | low, dtype=np.uint16)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each chunk. Raises `IngestError` for damage and a missing end."""
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, check = data[at + 4 : at + 8], int.from_bytes(data[end - 4 : end], "big")
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != check:
            raise IngestError("unreadable (damaged or cut short)")
        yield kind, data[at + 8 : end - 4]
        at = end
