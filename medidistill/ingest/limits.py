"""Size limits of files, checked on the bytes read and unpacked before memory of that size is allocated."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame, parse_basic_offsets
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from medidistill.errors import IngestError
from medidistill.ingest.attributes import whole_number
from medidistill.ingest.codestream import read_codestream

__all__ = [
    "DIRECTORY",
    "MOST_PIXELS",
    "RADIOGRAPH",
    "Bounds",
    "check_header",
    "check_items",
    "check_size",
    "encapsulated_frame",
    "inflate",
    "read_bounded",
]

MOST_PIXELS = 1 << 27  # 134 million; a radiograph has up to 30
_MOST_BYTES = 1 << 30  # of a file, and of what a deflated one unpacks to
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # (FFFE,E000) in either byte order
_SIZED = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes})


@dataclass(frozen=True)
class Bounds:
    """What a data set may hold besides its pixel data: parsing makes hundreds of bytes of a few.

    Args:
        items: of sequences: 8 bytes become an object of 700.
        header: bytes: a number of two becomes an object of a hundred.
    """

    items: int
    header: int


RADIOGRAPH = Bounds(items=1 << 16, header=1 << 24)
DIRECTORY = Bounds(items=1 << 20, header=1 << 28)  # one item an image


def read_bounded(file: BinaryIO) -> bytes:
    """Return what is left of a file. Raises `IngestError` where that is more than 1 GiB."""
    data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise IngestError(f"file of more than {_MOST_BYTES} bytes")
    return data


def inflate(data: bytes) -> bytes:
    """Return the data set of a deflated file (PS3.5 A.5), at most 1 GiB.

    Raises:
        IngestError: damaged, cut short, or larger.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = stream.decompress(data, _MOST_BYTES + 1)
    except zlib.error as error:
        raise IngestError("the deflated data set is damaged") from error
    if len(found) > _MOST_BYTES:
        raise IngestError(f"deflated file unpacks to more than {_MOST_BYTES} bytes")
    if not stream.eof:
        raise IngestError("the file ends within its deflated data set")
    return found


def check_items(data: bytes, bounds: Bounds = RADIOGRAPH) -> None:
    """Refuse a data set of more sequence items than `bounds` allows, before it is parsed. Raises `IngestError`."""
    if sum(data.count(tag) for tag in _ITEM_TAGS) > bounds.items:
        raise IngestError(f"more than {bounds.items} sequence items")


def check_header(size: int, bounds: Bounds = RADIOGRAPH) -> None:
    """Refuse a header of more bytes than `bounds` allows, before its values are converted. Raises `IngestError`."""
    if size > bounds.header:
        raise IngestError(f"more than {bounds.header} bytes besides the pixel data")


def encapsulated_frame(dataset: Dataset, index: int, frames: int) -> bytes:
    """Return the compressed bytes of one frame, as they lie in its fragments.

    Args:
        dataset: with encapsulated pixel data.
        index: which frame, from 0.
        frames: how many there are by the header.

    Raises:
        IngestError: damaged fragments, or an offset table that lists another number of frames.
    """
    try:
        extended = None
        listed = {len(parse_basic_offsets(dataset.PixelData)) or frames}
        if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
            extended = (bytes(dataset.ExtendedOffsetTable), bytes(dataset.ExtendedOffsetTableLengths))
            listed |= {len(table) // 8 for table in extended}
        if listed == {frames}:
            return get_frame(dataset.PixelData, index, number_of_frames=frames, extended_offsets=extended)
    except Exception as error:  # damaged items raise anything
        raise IngestError(f"the fragments of (7FE0,0010) Pixel Data cannot be read ({type(error).__name__})") from error
    raise IngestError("the offset table lists another number of frames than (0028,0008) Number of Frames")


def check_size(dataset: Dataset, frames: int) -> None:
    """Refuse dimensions that no radiograph has, and a compressed picture of a size other than the header's.

    Raises:
        IngestError: the reason.
    """
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if rows < 1 or columns < 1:
        raise IngestError("(0028,0010) Rows and (0028,0011) Columns must be >= 1")
    if rows * columns > MOST_PIXELS:
        raise IngestError(f"more than {MOST_PIXELS} pixels claimed by (0028,0010) Rows and (0028,0011) Columns")
    if dataset.file_meta.TransferSyntaxUID not in _SIZED:
        return  # native, or RLE: the header determines the number of pixels
    for index in range(frames):
        header = read_codestream(encapsulated_frame(dataset, index, frames))
        if header is None:
            raise IngestError("the compressed picture does not begin with a header that gives its size")
        if (header.rows, header.columns) != (rows, columns):
            raise IngestError("the compressed picture differs in size from (0028,0010) Rows and (0028,0011) Columns")
        if header.components != whole_number(dataset, "SamplesPerPixel", 1):
            raise IngestError("the compressed picture differs in components from (0028,0002) Samples per Pixel")
