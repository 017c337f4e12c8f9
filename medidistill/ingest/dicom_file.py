"""Reads DICOM files as they are found: with or without preamble, file meta information and transfer syntax.

`pydicom.dcmread` refuses a file without prefix, drops the whole data set where the file ends within an element, and
lets bytes behind the pixels replace elements before them. Here the parts of pydicom are put together so that each of
these is read, or named.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medidistill.errors import IngestError
from medidistill.ingest.file_kind import START, Encoding, data_set_encoding, data_set_offset, unknown_kind
from medidistill.ingest.limits import RADIOGRAPH, Bounds, check_header, check_items, inflate, read_bounded
from medidistill.ingest.notices import Notice

__all__ = ["DicomFile", "read_dicom_file"]

_PIXELS = {0x7FE00008, 0x7FE00009, 0x7FE00010}
_PLAIN = {
    Encoding(implicit=True, little=True): ImplicitVRLittleEndian,
    Encoding(implicit=False, little=True): ExplicitVRLittleEndian,
    Encoding(implicit=False, little=False): ExplicitVRBigEndian,
}
_FIRST = 1 << 18  # bytes: a header is shorter, and what is behind it need not be read
_ELEMENT_HEAD = 8  # bytes of the shortest element
_UNDEFINED = 0xFFFFFFFF  # length of encapsulated pixel data
_SYNTAX = "(0002,0010) Transfer Syntax UID"


@dataclass(frozen=True)
class DicomFile:
    """A data set and the assumptions made to read it.

    Args:
        dataset: up to its pixel data; `file_meta.TransferSyntaxUID` is set.
        notices: in the order in which they came up.
    """

    dataset: Dataset
    notices: tuple[Notice, ...] = ()


def read_dicom_file(
    path: Path, *, keywords: Sequence[str] = (), pixels: bool = True, bounds: Bounds = RADIOGRAPH
) -> DicomFile:
    """Read a DICOM file up to and with its pixel data; what follows them is ignored.

    Size is measured on the bytes of the file, and on those that it unpacks to (`medidistill.ingest.limits`).

    Args:
        path: the file.
        keywords: read these attributes alone; empty: all.
        pixels: False: stop before the pixel data.
        bounds: how much there may be besides the pixel data.

    Raises:
        IngestError: what is missing, contradictory or too large, without a value of the header.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as opened:
        if not pixels and len(start := opened.read(_FIRST)) == _FIRST:
            try:
                found, whole = _read(path, start, keywords, pixels, bounds)
            except Exception:  # noqa: BLE001 (it may end within an element)
                whole = False
            if whole:
                return found
        opened.seek(0)
        return _read(path, read_bounded(opened), keywords, pixels, bounds)[0]


def _read(path: Path, data: bytes, keywords: Sequence[str], pixels: bool, bounds: Bounds) -> tuple[DicomFile, bool]:
    """Read a file of which these bytes are all, or the first; return whether the end of the reading was reached."""
    offset = data_set_offset(data[:START])
    if offset is None:
        raise IngestError(unknown_kind(path))
    check_items(data, bounds)
    file = io.BytesIO(data)
    file.seek(offset)
    notices = [] if offset == 132 else [Notice.NO_PREAMBLE]
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = _transfer_syntax(meta)
    body = file
    if syntax == DeflatedExplicitVRLittleEndian:
        content = inflate(data[file.tell() :])
        check_items(content, bounds)
        body = io.BytesIO(content)
    encoding = _encoding(syntax, _peek(body))
    if syntax is None:
        notices.append(Notice.NO_TRANSFER_SYNTAX)
    stop, begin = _Stop(pixels), body.tell()
    tags: list[BaseTag | int] = [tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None]
    dataset = read_dataset(body, encoding.implicit, encoding.little, stop_when=stop, specific_tags=tags or None)
    kept = sum(map(_raw_length, (dataset.get_item(tag) for tag in dataset.keys())))  # noqa: SIM118
    pixel_data = sum(_raw_length(dataset.get_item(tag)) for tag in _PIXELS)
    check_header(kept - pixel_data if keywords else body.tell() - begin - pixel_data, bounds)
    if syntax is not None and dataset.original_encoding[0] is not encoding.implicit:
        notices.append(Notice.OTHER_VR_ENCODING)
    if pixels and not keywords:
        _check_whole(dataset, stop, body.seek(0, io.SEEK_END))
    if syntax is None and stop.last in _PIXELS and stop.length == _UNDEFINED:
        raise IngestError(f"{_SYNTAX} is missing: compressed pixel data cannot be read without it")
    dataset.file_meta = FileMetaDataset(meta)
    dataset.file_meta.TransferSyntaxUID = syntax or UID(_PLAIN[encoding])
    return DicomFile(dataset, tuple(notices)), stop.ended


def _raw_length(element: object) -> int:
    """Return the bytes of an element whose value was not converted yet, 0 for others."""
    return len(element.value or b"") if isinstance(element, RawDataElement) else 0


class _Stop:
    """Ends the reading behind the pixel data, or before them, and notes what came last."""

    def __init__(self, pixels: bool) -> None:
        self.pixels, self.last, self.length, self.ended = pixels, 0, 0, False

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:
        if self.last in _PIXELS or (tag in _PIXELS and not self.pixels):
            self.ended = True
            return True
        self.last, self.length = int(tag), length
        return False


def _transfer_syntax(meta: Dataset) -> UID | None:
    """Return the transfer syntax of file meta information without padding, None where there is none."""
    try:
        value = str(meta.get("TransferSyntaxUID") or "").strip(" \0")
    except Exception as error:  # damaged values raise anything
        raise IngestError(f"{_SYNTAX} cannot be read ({type(error).__name__})") from error
    if not value:
        return None
    syntax = UID(value)
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise IngestError(f"{_SYNTAX} is none of the standard: private, unknown or damaged")
    return syntax


def _peek(body: BinaryIO) -> bytes:
    at = body.tell()
    start = body.read(START)
    body.seek(at)
    if not start:
        raise IngestError("the file ends behind its file meta information: no data set")
    return start


def _encoding(syntax: UID | None, start: bytes) -> Encoding:
    """Return how the data set is encoded, by its transfer syntax, else by its first elements."""
    found = data_set_encoding(start)
    if syntax is None:
        if found is None:
            raise IngestError(f"{_SYNTAX} is missing, and the data set does not show its encoding")
        return found
    stated = Encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    if found is not None and found.little is not stated.little:
        orders = ("little", "big") if stated.little else ("big", "little")
        raise IngestError(f"{_SYNTAX} is {orders[0]} endian, but the data set is {orders[1]} endian")
    return stated


def _check_whole(dataset: Dataset, stop: _Stop, size: int) -> None:
    """Refuse a data set that ends within an element. Raises `IngestError`."""
    where = "(7FE0,0010) Pixel Data" if stop.last in _PIXELS else "its header"
    if stop.last not in dataset:  # pydicom drops all it has read
        raise IngestError(f"the file ends within {where}, or is damaged there")
    element: Any = dataset.get_item(stop.last)
    value = getattr(element, "value", None)
    spare = 1 if stop.last in _PIXELS else 0  # a pad byte; `decoding` counts the pixels
    cut = isinstance(value, bytes) and stop.length != _UNDEFINED and len(value) + spare < stop.length
    if isinstance(element, RawDataElement) and stop.last not in _PIXELS:
        rest = size - element.value_tell - len(element.value or b"")
        cut = cut or 0 < rest < _ELEMENT_HEAD
    if cut:
        raise IngestError(f"the file ends within {where}")
