"""What a compressed frame says of itself: coding, size, depth and sign, read without decoding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Codestream", "Coding", "read_codestream"]

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # ITU-T T.81 table B.1
_JPEG_LS = 0xF7
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


class Coding(StrEnum):
    """Families of codestreams."""

    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"


@dataclass(frozen=True)
class Codestream:
    """The frame header of a codestream.

    Args:
        coding: its family.
        rows: height, pixels.
        columns: width, pixels.
        precision: bits a sample.
        signed: whether samples are signed; JPEG and JPEG-LS know unsigned ones alone.
        process: low byte of the JPEG start-of-frame marker (0xC0 baseline, 0xC1 extended, 0xC3 lossless), else 0.
    """

    coding: Coding
    rows: int
    columns: int
    precision: int
    signed: bool = False
    process: int = 0


def read_codestream(stream: bytes) -> Codestream | None:
    """Return the frame header of a JPEG, JPEG-LS or JPEG 2000 stream (also in a JP2 file); None for other bytes.

    Source: ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1 and I.4.
    """
    if stream[4:8] == b"jP  ":
        at = stream.find(b"jp2c")
        stream = stream[at + 4 :] if at >= 0 else b""
    if stream[:4] == b"\xff\x4f\xff\x51":
        return _jpeg_2000(stream)
    return _jpeg(stream) if stream[:2] == b"\xff\xd8" else None


def _jpeg_2000(stream: bytes) -> Codestream | None:
    if len(stream) < 43:
        return None
    x1, y1, x0, y0 = (int.from_bytes(stream[at : at + 4], "big") for at in (8, 12, 16, 20))
    depth = stream[42]  # Ssiz of the first component: sign, and precision less 1
    return Codestream(Coding.JPEG_2000, y1 - y0, x1 - x0, (depth & 0x7F) + 1, bool(depth & 0x80))


def _jpeg(stream: bytes) -> Codestream | None:
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _SOF or marker == _JPEG_LS:
            rows, columns = (int.from_bytes(stream[at + k : at + k + 2], "big") for k in (5, 7))
            coding, process = (Coding.JPEG_LS, 0) if marker == _JPEG_LS else (Coding.JPEG, marker)
            return Codestream(coding, rows, columns, stream[at + 4], process=process)
        if marker == 0xDA:
            return None
        if marker == 0xFF:  # fill byte
            at += 1
        else:
            at += 2 if marker in _STANDALONE else 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
