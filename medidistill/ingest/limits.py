"""What a file claims about its size, checked before anything of that size is set up."""

from __future__ import annotations

import zlib
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medidistill.errors import IngestError
from medidistill.ingest.attributes import whole_number
from medidistill.ingest.codestream import read_codestream

__all__ = ["MOST_PIXELS", "check_deflated", "check_size", "inflate"]

MOST_PIXELS = 1 << 27  # 134 million; a radiograph has up to 30
_MOST_INFLATED = 1 << 30  # bytes


def check_size(dataset: Dataset, frames: int) -> None:
    """Refuse dimensions that no radiograph has, and a compressed stream of another size than the header says.

    Raises:
        IngestError: the reason.
    """
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if rows < 1 or columns < 1:
        raise IngestError("(0028,0010) Rows and (0028,0011) Columns must be >= 1")
    if rows * columns > MOST_PIXELS:
        raise IngestError(f"more than {MOST_PIXELS} pixels claimed by (0028,0010) Rows and (0028,0011) Columns")
    if not dataset.file_meta.TransferSyntaxUID.is_compressed or dataset.file_meta.TransferSyntaxUID.is_deflated:
        return
    for stream in generate_frames(dataset.PixelData, number_of_frames=frames):
        header = read_codestream(stream)
        if header is not None and (header.rows, header.columns) != (rows, columns):
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


def inflate(data: bytes) -> bytes:
    """Return the data set of a deflated file (PS3.5 A.5), at most 1 GiB.

    Raises:
        IngestError: damaged, cut short, or larger.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = stream.decompress(data, _MOST_INFLATED + 1)
    except zlib.error as error:
        raise IngestError("the deflated data set is damaged") from error
    if len(found) > _MOST_INFLATED:
        raise IngestError(f"deflated file unpacks to more than {_MOST_INFLATED} bytes")
    if not stream.eof:
        raise IngestError("the file ends within its deflated data set")
    return found
