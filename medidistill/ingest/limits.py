"""How large a file may be: measured on the bytes that are read and unpacked, before anything of that size is set up."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import get_frame, parse_basic_offsets
from pydicom.filereader import _read_command_set_elements, _read_file_meta_info, read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from medidistill.errors import IngestError
from medidistill.ingest.codestream import read_codestream

__all__ = ["MOST_PIXELS", "check_size", "encapsulated_frame", "read_dicom_file"]

MOST_PIXELS = 1 << 27  # 134 million; a radiograph has up to 30
_MOST_BYTES = 1 << 30  # of a file, and of what a deflated one unpacks to
_MOST_HEADER = 1 << 24  # bytes besides the pixel data: two of them can become an object of a hundred
_MOST_ITEMS = 1 << 16  # of sequences: eight bytes become an object of 700
_CHUNK = 1 << 20
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # (FFFE,E000) in either byte order
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_SIZED = frozenset({*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes})


def read_dicom_file(
    path: Path,
    *,
    stop_before_pixels: bool = False,
    specific_tags: list[str] | None = None,
    most_items: int = _MOST_ITEMS,
    most_header: int = _MOST_HEADER,
) -> FileDataset:
    """Read a DICOM file that stays of a reasonable size when it is unpacked.

    What is measured are the bytes themselves. Lengths that a header states play no part, and neither does the place
    where the transfer syntax stands: it is taken from where pydicom takes it.

    Args:
        path: the file.
        stop_before_pixels: leave pixel data and what follows out.
        specific_tags: keywords of the elements to read; None: all.
        most_items: how many sequence items there may be.
        most_header: how many bytes there may be besides the pixel data.

    Returns:
        What `pydicom.dcmread` returns.

    Raises:
        IngestError: more than 1 GiB in the file or after inflating it, too many items, too large a header.
        Exception: whatever pydicom and zlib raise for a damaged file.
    """
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    size = _measured(data, most_items)
    dataset = dcmread(io.BytesIO(data), stop_before_pixels=stop_before_pixels, specific_tags=specific_tags)
    if specific_tags is None and not stop_before_pixels:
        header = size - sum(_length(dataset, tag) for tag in _PIXELS)
    else:
        header = sum(_length(dataset, tag) for tag in dataset.keys())  # noqa: SIM118 (items would be converted)
    if header > most_header:
        raise IngestError(f"more than {most_header} bytes besides the pixel data")
    return dataset


def _measured(data: bytes, most_items: int) -> int:
    """Return how many bytes pydicom will parse: those of the file, or what its deflated part unpacks to.

    Source: PS3.5 A.5: all after the file meta information is one raw deflate stream (RFC 1951).
    """
    _check_amount(len(data), _items(data), most_items)
    file = io.BytesIO(data)
    read_preamble(file, force=True)
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    if syntax != DeflatedExplicitVRLittleEndian:
        return len(data)
    _read_command_set_elements(file)  # pydicom reads them before it inflates
    inflate, rest = zlib.decompressobj(-zlib.MAX_WBITS), file.read()
    size = items = 0
    while rest and not inflate.eof:
        chunk = inflate.decompress(rest, _CHUNK)
        rest = inflate.unconsumed_tail
        size, items = size + len(chunk), items + _items(chunk)
        _check_amount(size, items, most_items)
    return size


def _items(data: bytes) -> int:
    return sum(data.count(tag) for tag in _ITEM_TAGS)


def _check_amount(size: int, items: int, most_items: int) -> None:
    if size > _MOST_BYTES:
        raise IngestError(f"the file holds, or unpacks to, more than {_MOST_BYTES} bytes")
    if items > most_items:
        raise IngestError(f"more than {most_items} sequence items")


def _length(dataset: Dataset, tag: int) -> int:
    """Return the bytes of an element whose value was not converted yet, 0 for others."""
    element = dataset.get_item(tag)
    return len(element.value or b"") if isinstance(element, RawDataElement) else 0


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
        raise IngestError(f"the fragments of the pixel data cannot be read ({type(error).__name__})") from error
    raise IngestError("the offset table lists another number of frames than (0028,0008) Number of Frames says")


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
    if dataset.file_meta.TransferSyntaxUID not in _SIZED:
        return  # native, or RLE: as many pixels as the header says
    for index in range(frames):
        header = read_codestream(encapsulated_frame(dataset, index, frames))
        if header is None:
            raise IngestError("the compressed picture does not begin with a header that tells its size")
        if (header.rows, header.columns) != (rows, columns):
            raise IngestError("the compressed picture has another size than (0028,0010) Rows, (0028,0011) Columns say")
        if header.components != int(dataset.get("SamplesPerPixel", 1) or 1):
            raise IngestError("the compressed picture has other components than (0028,0002) Samples per Pixel says")
