"""What a file claims about its size, checked before anything of that size is set up."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medidistill.errors import IngestError

__all__ = ["MOST_PIXELS", "check_deflated", "check_size", "codestream_size"]

MOST_PIXELS = 1 << 27  # 134 million; a radiograph has up to 30
_MOST_INFLATED = 1 << 30  # bytes
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF markers, that of JPEG-LS among them


def codestream_size(stream: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream claims, None for other codecs and damage."""
    if stream[:4] == b"\xff\x4f\xff\x51":  # SOC, SIZ: ITU-T T.800 A.5.1
        x1, y1, x0, y0 = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
        return y1 - y0, x1 - x0
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _JPEG_FRAMES:  # ITU-T T.81 B.2.2
            return int.from_bytes(stream[at + 5 : at + 7], "big"), int.from_bytes(stream[at + 7 : at + 9], "big")
        if marker == 0xDA:
            return None
        at += 1 if marker == 0xFF else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def check_size(dataset: Dataset, frames: int) -> None:
    """Refuse dimensions that no radiograph has, and a compressed stream of another size than the header says.

    Raises:
        IngestError: the reason.
    """
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows < 1 or columns < 1:
        raise IngestError("(0028,0010) Rows and (0028,0011) Columns must be >= 1")
    if rows * columns > MOST_PIXELS:
        raise IngestError(f"more than {MOST_PIXELS} pixels claimed by (0028,0010) Rows and (0028,0011) Columns")
    if not dataset.file_meta.TransferSyntaxUID.is_compressed or dataset.file_meta.TransferSyntaxUID.is_deflated:
        return
    for stream in generate_frames(dataset.PixelData, number_of_frames=frames):
        size = codestream_size(stream)
        if size is not None and size != (rows, columns):
            raise IngestError("the compressed picture has another size than (0028,0010) Rows, (0028,0011) Columns say")


def check_deflated(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than 1 GiB; other files pass. Raises `IngestError`."""
    with open(path, "rb") as file:
        start = file.read(144)
        if start[132:136] != b"\x02\x00\x00\x00":
            return
        meta = file.read(min(int.from_bytes(start[140:144], "little"), 1 << 16))
        if DeflatedExplicitVRLittleEndian.encode() not in meta:
            return
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        data = file.read()
        while data and not inflate.eof:
            size += len(inflate.decompress(data, 1 << 20))
            data = inflate.unconsumed_tail
            if size > _MOST_INFLATED:
                raise IngestError(f"deflated file unpacks to more than {_MOST_INFLATED} bytes")
