"""Completeness of compressed frames, parsed to their end: a frame that cannot be parsed is refused.

Decoders are lenient. They fill in what a damaged stream lacks, and the image looks intact; a JPEG-LS decoder takes
eight seconds of processor time to detect a missing end marker. So every marker segment, scan, tile part and run is
walked before a frame is decoded. That a JPEG scan holds too little for the picture is not seen here, but by the
decoder.

Sources: ITU-T T.81 annex B (JPEG), T.87 annexes A and C (JPEG-LS), T.800 annex A (JPEG 2000), PS3.5 annex G (RLE).
"""

from __future__ import annotations

import itertools
import re

from pydicom.uid import UID, JPEG2000TransferSyntaxes, RLELossless

from medidistill.errors import IngestError
from medidistill.ingest.codestream import Coding, jpeg2000_codestream, read_codestream

__all__ = ["check_complete"]

_EOI, _SOS = 0xD9, 0xDA
_NO_SEGMENT = range(0xD0, 0xD9)  # RST0 to RST7, SOI: never between the segments of a picture
# what ends a scan: a marker. After 0xFF JPEG stuffs a byte 0, JPEG-LS a bit 0; restart markers stand within a scan
_END_OF_SCAN = {
    Coding.JPEG: re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]"),
    Coding.JPEG_LS: re.compile(rb"\xff+[\x80-\xcf\xd8-\xfe]"),
}
_SOT, _SOD, _EOC = 0x90, 0x93, 0xD9
_SEGMENTS_2000 = range(0x50, 0x90)
_RLE_HEADER = 64  # bytes: a count and 15 offsets


def check_complete(frame: bytes, syntax: UID, cells: int, cell_bytes: int) -> None:
    """Walk a compressed frame to its end; what follows the end is ignored.

    Args:
        frame: one frame of encapsulated pixel data.
        syntax: its transfer syntax.
        cells: pixels of the frame.
        cell_bytes: bytes of a pixel cell.

    Raises:
        IngestError: the frame ends early, or holds something that is no part of its coding.
    """
    if syntax == RLELossless:
        _walk_rle(frame, cells, cell_bytes)
    elif syntax in JPEG2000TransferSyntaxes:
        _walk_jpeg_2000(jpeg2000_codestream(frame))
    else:
        header = read_codestream(frame)
        if header is None or header.coding is Coding.JPEG_2000:
            raise _damaged("frame header")
        _walk_jpeg(frame, header.coding)


def _damaged(where: str) -> IngestError:
    return IngestError(f"the compressed picture cannot be parsed to its end: damaged or cut short at its {where}")


def _number(data: bytes, at: int, size: int = 2) -> int:
    if at + size > len(data):
        raise _damaged("end")
    return int.from_bytes(data[at : at + size], "big")


def _walk_jpeg(stream: bytes, coding: Coding) -> None:
    at, scans = 2, 0
    while True:
        if _number(stream, at, 1) != 0xFF:
            raise _damaged("marker segments")
        marker = _number(stream, at + 1, 1)
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _EOI and scans:
            return
        if marker < 0xC0 or marker in _NO_SEGMENT or marker == _EOI or _number(stream, at + 2) < 2:
            raise _damaged("marker segments")
        at += 2 + _number(stream, at + 2)
        if marker == _SOS:
            found = _END_OF_SCAN[coding].search(stream, at)
            if found is None:
                raise _damaged("scan")
            at, scans = found.start(), scans + 1


def _walk_jpeg_2000(stream: bytes) -> None:
    at = _skip_segments(stream, 2, _SOT)
    right, bottom, _, _, width, height, left, top = (_number(stream, place, 4) for place in range(8, 40, 4))
    if not width or not height or right <= left or bottom <= top:
        raise _damaged("tiles")
    tiles = -(-(right - left) // width) * -(-(bottom - top) // height)
    seen: set[int] = set()
    while _number(stream, at) != 0xFF00 | _EOC:
        if _number(stream, at) != 0xFF00 | _SOT or _number(stream, at + 2) != 10:
            raise _damaged("tile parts")
        tile, length = _number(stream, at + 4), _number(stream, at + 6, 4)
        data = _skip_segments(stream, at + 12, _SOD) + 2
        # no two bytes of packets are a marker above 0xFF8F: they are stuffed
        end = at + length if length else stream.find(bytes((0xFF, _EOC)), data)
        if tile >= tiles or end < data or end > len(stream):
            raise _damaged("tile parts")
        seen.add(tile)
        at = end
    if len(seen) < tiles:
        raise _damaged("tiles")


def _skip_segments(stream: bytes, at: int, last: int) -> int:
    """Return where a marker stands that is reached by marker segments alone."""
    while (marker := _number(stream, at)) != 0xFF00 | last:
        if marker >> 8 != 0xFF or marker & 0xFF not in _SEGMENTS_2000 or _number(stream, at + 2) < 2:
            raise _damaged("marker segments")
        at += 2 + _number(stream, at + 2)
    return at


def _walk_rle(frame: bytes, cells: int, cell_bytes: int) -> None:
    """Walk the runs of each segment until they have filled a plane of bytes."""
    if len(frame) < _RLE_HEADER:
        raise _damaged("header")
    count, *offsets = (int.from_bytes(frame[at : at + 4], "little") for at in range(0, _RLE_HEADER, 4))
    bounds = [*offsets[:count], len(frame)]
    if count != cell_bytes or bounds[0] < _RLE_HEADER or sorted(set(bounds)) != bounds:
        raise _damaged("header")
    for at, end in itertools.pairwise(bounds):
        filled = 0
        while filled < cells:
            if at >= end:
                raise _damaged("segments")
            control = frame[at]
            if control < 128:  # so many bytes and one as they are
                at, filled = at + control + 2, filled + control + 1
            elif control > 128:  # the next byte, repeated
                at, filled = at + 2, filled + 257 - control
            else:
                at += 1
        if at > end:
            raise _damaged("segments")
