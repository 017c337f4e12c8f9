"""JPEG, JPEG-LS and JPEG 2000 streams without comments and application segments, which can hold any text."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["without_comments"]

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f"
_STOP = {_JPEG: 0xDA, _JPEG_2000: 0x90}  # start of scan, start of tile part: pixels follow
# APP0 (density), APP8 (JPEG-LS colour transform) and APP14 (Adobe colour transform) decide how pixels are decoded
_DROP = {
    _JPEG: frozenset({0xFE, *range(0xE1, 0xF0)}) - {0xE8, 0xEE},
    _JPEG_2000: frozenset({0x64}),
}


def _segments(stream: bytes, kind: bytes) -> Iterator[bytes]:
    """Yield the marker segments of the header that stay, and then the rest."""
    at = 2
    while at + 4 <= len(stream) and stream[at] == 0xFF and stream[at + 1] != _STOP[kind]:
        if stream[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        if stream[at + 1] not in _DROP[kind]:
            yield stream[at:end]
        at = end
    yield stream[at:]


def without_comments(stream: bytes) -> bytes:
    """Return a frame without comments and application segments; other codecs and damaged headers as they are."""
    kind = stream[:2]
    return kind + b"".join(_segments(stream, kind)) if kind in _STOP else stream
