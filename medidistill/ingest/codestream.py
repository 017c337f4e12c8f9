"""The frame header of a compressed frame: coding, size, depth and sign, read without decoding.

Sources: ITU-T T.81 (JPEG) annex B, T.87 (JPEG-LS) annex C, T.800 (JPEG 2000) annexes A and I; T.814 (HTJ2K) adds no
marker that matters here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Codestream", "Coding", "jpeg2000_codestream", "read_codestream"]

_SOI, _SOC_SIZ = b"\xff\xd8", b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_JPEG_LS = 0xF7  # SOF55
_START_OF_FRAME = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = range(0xD0, 0xD9)  # RST0 to RST7, SOI: none of them may stand before the frame header


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
        precision: bits a sample, of the first component.
        signed: whether samples are signed; JPEG and JPEG-LS know unsigned ones alone.
        process: low byte of the JPEG start-of-frame marker (0xC0 baseline, 0xC1 extended, 0xC3 lossless), else 0.
        components: samples a pixel.
    """

    coding: Coding
    rows: int
    columns: int
    precision: int
    signed: bool = False
    process: int = 0
    components: int = 1


def read_codestream(frame: bytes) -> Codestream | None:
    """Return the frame header of a JPEG, JPEG-LS or JPEG 2000 stream, also in a JP2 file; None for other bytes.

    Some decoders skip what stands before a marker. Here everything must be in its place: a header that this function
    skipped could claim any size.

    Args:
        frame: one frame of encapsulated pixel data.
    """
    if frame.startswith(_SOI):
        return _jpeg(frame)
    return _jpeg_2000(jpeg2000_codestream(frame))


def _jpeg(frame: bytes) -> Codestream | None:
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        end = at + 2 + _number(frame, at + 2, 2)
        if marker < 0xC0 or marker in _WITHOUT_LENGTH or marker == _START_OF_SCAN or end < at + 4:
            return None
        if marker in _START_OF_FRAME:
            if end > len(frame) or end < at + 10:
                return None
            coding, process = (Coding.JPEG_LS, 0) if marker == _JPEG_LS else (Coding.JPEG, marker)
            rows, columns = _number(frame, at + 5, 2), _number(frame, at + 7, 2)
            return Codestream(coding, rows, columns, frame[at + 4], process=process, components=frame[at + 9])
        at = end
    return None


def _jpeg_2000(stream: bytes) -> Codestream | None:
    if not stream.startswith(_SOC_SIZ) or len(stream) < 45:
        return None
    right, bottom, left, top = (_number(stream, at, 4) for at in (8, 12, 16, 20))
    components, depth = _number(stream, 40, 2), stream[42]  # Ssiz: sign, and precision less 1
    if right < left or bottom < top or _number(stream, 4, 2) != 38 + 3 * components:
        return None
    size = (bottom - top, right - left)
    return Codestream(Coding.JPEG_2000, *size, (depth & 0x7F) + 1, bool(depth & 0x80), components=components)


def jpeg2000_codestream(frame: bytes) -> bytes:
    """Return the codestream in a JP2 file, empty where there is none; other frames as they are.

    Source: T.800 I.4: a box has a length of 4 bytes and a type of 4; length 1 stands for another length of 8 bytes
    behind the type, length 0 for all that follows.
    """
    if not frame.startswith(_JP2_SIGNATURE):
        return frame
    at = 0
    while at + 8 <= len(frame):
        length, head = _number(frame, at, 4), 8
        if length == 1:
            length, head = _number(frame, at + 8, 8), 16
        end = at + length if length else len(frame)
        if end > len(frame) or end < at + head:
            break
        if frame[at + 4 : at + 8] == b"jp2c":
            return frame[at + head : end]
        at = end
    return b""


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
