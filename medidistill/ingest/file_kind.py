"""File types, recognised by the first bytes; names and suffixes play no part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

__all__ = ["START", "Encoding", "data_set_encoding", "data_set_offset", "file_kind", "kind_of", "unknown_kind"]

START = 1024  # bytes that suffice to recognise a type
_VRS = frozenset(str(vr) for vr in VR if len(vr) == 2)
_MOST_IMPLICIT = 256  # bytes of a first element without VR: a group length, a character set, an image type
_OTHERS = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"GIF8", "GIF"),
    (b"\x93NUMPY", "NumPy"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"%PDF", "PDF"),
    (b"NRRD", "NRRD"),
    (b"\x5c\x01\0\0", "NIfTI"),
)
_PICTURES = ("TIFF", "BigTIFF", "JPEG 2000", "JPEG XL", "BMP", "PGM", "WebP")


@dataclass(frozen=True)
class Encoding:
    """How the elements of a data set are written.

    Args:
        implicit: without value representations.
        little: in little endian byte order.
    """

    implicit: bool
    little: bool


def data_set_encoding(start: bytes) -> Encoding | None:
    """Return how a data set that begins with these bytes is encoded; None where they begin none.

    Asked are the first two elements: a group of 0002 or 0008, a value representation of the standard or a length that
    the first elements can have, and a second element whose tag follows the first.
    """
    for encoding in (Encoding(False, True), Encoding(False, False), Encoding(True, True)):
        first = _element(start, 0, encoding)
        if first is None or first[0] >> 16 not in (0x0002, 0x0008):
            continue
        tag, end = first
        if encoding.implicit and (tag >> 16 == 2 or end > _MOST_IMPLICIT + 8):
            continue
        if end + 8 > len(start):
            return None if encoding.implicit else encoding
        second = _element(start, end, encoding)
        if second is not None and tag < second[0] and second[0] >> 16 <= 0x7FE0:
            return encoding
    return None


def _element(data: bytes, at: int, encoding: Encoding) -> tuple[int, int] | None:
    """Return the tag of the element at a place and where its value ends; None where there is none."""
    order: Literal["little", "big"] = "little" if encoding.little else "big"
    head = data[at : at + 12]
    if len(head) < 8:
        return None
    tag = int.from_bytes(head[:2], order) << 16 | int.from_bytes(head[2:4], order)
    if encoding.implicit:
        return tag, at + 8 + int.from_bytes(head[4:8], order)
    vr = head[4:6].decode("latin-1")
    if vr not in _VRS:
        return None
    if vr in EXPLICIT_VR_LENGTH_32:
        return tag, at + 12 + int.from_bytes(head[8:12], order)
    return tag, at + 8 + int.from_bytes(head[6:8], order)


def data_set_offset(start: bytes) -> int | None:
    """Return where the file meta information, or the data set, of a DICOM file begins; None for another file.

    Behind the prefix DICM, with or without the preamble of 128 bytes, which may be the beginning of another format
    (PS3.10 7.1); else at byte 0, where the bytes look like a data set.
    """
    if start[128:132] == b"DICM":
        return 132
    if start[:4] == b"DICM":
        return 4
    return 0 if data_set_encoding(start) is not None else None


def kind_of(start: bytes) -> str:
    """Return ``dicom``, ``png``, ``jpeg`` or an empty string for a file that begins with `start` (1,024 bytes)."""
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if start.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "dicom" if data_set_offset(start) is not None else ""


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(START)


def file_kind(path: Path) -> str:
    """Return ``dicom``, ``png``, ``jpeg`` or an empty string, by content; the file's name plays no part."""
    return kind_of(_start(path))


def unknown_kind(path: Path) -> str:
    """Return why a file that `file_kind` does not recognise cannot be read, naming its format where possible."""
    start = _start(path)
    if not start:
        return "empty file"
    name = next((name for magic, name in _OTHERS if start.startswith(magic)), "")
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        name = "WebP"
    elif start.startswith(b"BM") and start[6:10] == bytes(4):
        name = "BMP"
    elif start[:2] in (b"P2", b"P5") and start[2:3].isspace():
        name = "PGM"
    if not name:
        return "neither DICOM nor PNG nor JPEG"
    hint = "; convert it to PNG with all its bits" if name in _PICTURES else ""
    return f"{name}: must be DICOM, PNG or JPEG{hint}"
