"""JPEG 2000 codestreams without their comments: the encoder's remarks about itself are no part of the image.

Source: ITU-T T.800 annex A.
"""

from __future__ import annotations

__all__ = ["without_comments"]

_SOT, _COM = 0xFF90, 0xFF64


def without_comments(stream: bytes) -> bytes:
    """Return a whole JPEG 2000 codestream without the comments of its main header."""
    kept, at = [stream[:2]], 2
    while (marker := int.from_bytes(stream[at : at + 2], "big")) != _SOT:
        end = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        kept += [] if marker == _COM else [stream[at:end]]
        at = end
    return b"".join([*kept, stream[at:]])
