"""PNG and JPEG pictures: nothing but their pixels is written, and those only where no text was found in them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.text import MIN_LETTERS, letters_in_row
from medidistill.ingest.raster import read_raster

__all__ = ["bare_picture", "foreign_chunks"]

_NEEDED = {b"IHDR", b"IDAT", b"IEND"}


def bare_picture(path: Path) -> bytes:
    """Return a picture as a grey PNG of 8 or 16 bits without metadata.

    Raises:
        IngestError: rows of letters near a border, or no picture that the reader takes.
    """
    picture = read_raster(path)
    if letters_in_row(picture) >= MIN_LETTERS:
        raise IngestError("letters in the pixels near a border")
    values: NDArray[np.uint8 | np.uint16] = np.rint(picture * 255).astype(np.uint8)
    if not np.array_equal(values / np.float32(255), picture):
        values = np.rint(picture * 65535).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def foreign_chunks(data: bytes) -> list[str]:
    """Read a written PNG again and return what it holds beyond its pixels, by chunk; empty: nothing.

    Source: PNG specification (W3C 2003), 5.3.
    """
    found, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, check = data[at + 4 : at + 8], int.from_bytes(data[end - 4 : end], "big")
        if kind not in _NEEDED or end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != check:
            found.append(kind.decode("latin-1"))
        at = end
    return found if at == len(data) else [*found, "bytes after the end"]
