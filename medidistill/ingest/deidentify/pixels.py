"""Pixel data without what rides along: unused bits, bytes after the last pixel, comments."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.codestreams import without_comments

__all__ = ["tidy_pixels"]


def tidy_pixels(source: Dataset, target: Dataset) -> None:
    """Cut native pixel data to its length, clear its unused bits, take comments out of streams; in place in `target`.

    Old films keep overlays in the unused high bits of each pixel (PS3.5 8.1.2, retired), and anything can follow
    the last pixel. Compressed data cannot be cleared without decoding; an overlay in them is refused.

    Raises:
        IngestError: pixel data cut short, an overlay inside compressed pixels, or unused bits elsewhere than above the
            pixels.
    """
    if "PixelData" not in target:
        raise IngestError("no pixel data")
    syntax = source.file_meta.TransferSyntaxUID
    overlays = (source.get(group << 16 | 0x0102) for group in range(0x6000, 0x6020, 2))  # overlay bit position
    embedded = any(one is not None and one.value for one in overlays)
    if syntax.is_compressed and not syntax.is_deflated:
        if embedded:
            raise IngestError("an overlay inside compressed pixels")
        frames = generate_frames(target.PixelData, number_of_frames=int(target.get("NumberOfFrames", 1) or 1))
        target.PixelData = encapsulate([without_comments(frame) for frame in frames])
        return
    allocated, stored = int(target.BitsAllocated), int(target.BitsStored)
    samples = int(target.Rows) * int(target.Columns) * int(target.get("SamplesPerPixel", 1))
    length = samples * int(target.get("NumberOfFrames", 1) or 1) * allocated // 8
    data = target.PixelData[:length]
    if len(data) < length or length == 0:
        raise IngestError(f"pixel data cut short: {len(data)} of {length} bytes")
    if stored != allocated:
        if allocated not in (8, 16) or not 0 < stored < allocated or int(target.HighBit) != stored - 1:
            raise IngestError("unused bits elsewhere than above the pixels")
        order, sign = "<" if syntax.is_little_endian else ">", "i" if target.PixelRepresentation else "u"
        values = np.frombuffer(data, dtype=f"{order}{sign}{allocated // 8}")
        shift = values.dtype.type(allocated - stored)
        data = ((values << shift).astype(values.dtype) >> shift).astype(values.dtype).tobytes()
    target.PixelData = data + b"\0" * (len(data) % 2)
