"""Decode and re-encode pixel data, so that only the stored values of the image remain.

What rides along in the file has no way through: bytes behind an end marker or behind the last pixel, comments,
application segments, boxes, spare fragments, offset tables, unused entries of coding tables, slack of the entropy
coder, and what the unused bits of pixel cells hold, overlays among it (PS3.5 8.1.2, retired).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest.attributes import whole_number
from medidistill.ingest.decoding import frame_samples
from medidistill.ingest.deidentify.codestreams import without_comments
from medidistill.ingest.limits import check_size
from medidistill.ingest.pixel_layout import PixelLayout, read_layout
from medidistill.ingest.samples import stored_values
from medidistill.ingest.stored_bits import mask_unused_bits

__all__ = ["write_pixels"]

_PIXEL_DATA = 0x7FE00010
# a lossless syntax of the same family, where there is an encoder for it; what stands here is decoded, nothing else is
_WRITTEN_AS = {
    RLELossless: RLELossless,
    **dict.fromkeys((JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K), JPEG2000Lossless),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), JPEGLSLossless),
    **dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), JPEGLSLossless),
}
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
_ENCODERS = {RLELossless: "pylibjpeg", JPEG2000Lossless: "pylibjpeg", JPEGLSLossless: "pyjpegls"}
_METHODS = {  # PS3.3 C.7.6.1.1.5.1
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
_SMALLEST_2000 = 32  # rows and columns that the five decompositions of OpenJPEG need
_PICTURE_BITS = 6  # a picture has so many bits at least
_FEW = 8  # grey values: fewer are markers or padding, not a picture below an overlay


def write_pixels(source: Dataset, target: Dataset) -> UID:
    """Write the stored values of an image into another dataset, and nothing else of its pixel data.

    Compressed frames are parsed to their end, decoded, and compressed without loss; native ones are cut to their
    length. What was written is decoded again and compared. The values move to the low bits of their cells, and the
    attributes of `target` that describe them are set.

    Args:
        source: a grey image with file meta information; it is not changed.
        target: gets pixel data and their attributes.

    Returns:
        The transfer syntax of `target`: that of `source`, or a lossless one of the same family, or Explicit VR
        Little Endian.

    Raises:
        IngestError: no grey image, pixel data that cannot be parsed or decoded, or an overlay in bits that hold
            pixels.
    """
    if "PixelData" not in target:
        raise IngestError("no pixel data")
    syntax = source.file_meta.TransferSyntaxUID
    _check_grey(source, syntax)
    frames = max(1, whole_number(source, "NumberOfFrames", 1))
    check_size(source, frames)
    layout, _ = read_layout(source)
    _check_declared_overlays(source, layout)
    values = [_values(source, index, layout) for index in range(frames)]
    written = _write(values, layout, source, syntax, target)
    if syntax in _METHODS:
        _mark_lossy(target, syntax, sum(frame.nbytes for frame in values), len(source.PixelData))
    return written


def _check_grey(source: Dataset, syntax: UID) -> None:
    photometric = str(source.get("PhotometricInterpretation", "") or "")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or whole_number(source, "SamplesPerPixel", 1) != 1:
        raise IngestError("photometric interpretation: must be MONOCHROME1 or MONOCHROME2, one sample a pixel")
    if syntax not in _NATIVE and syntax not in _WRITTEN_AS:
        raise IngestError("a transfer syntax that is not decoded here")


def _check_declared_overlays(source: Dataset, layout: PixelLayout) -> None:
    """Refuse an overlay whose attributes place it in bits of the picture: it cannot be cleared without them.

    Source: PS3.5 8.1.2: (60xx,0100) Overlay Bits Allocated above 1 means that the overlay lies in the pixel data.
    """
    for group in range(0x6000, 0x6100, 2):
        allocated, place = (_integer(source, group << 16 | element) for element in (0x0100, 0x0102))
        if (allocated > 1 or place > 0) and layout.shift <= place <= layout.high:
            raise IngestError("(60xx,0102) Overlay Bit Position lies in the bits of the pixels")


def _integer(source: Dataset, tag: int) -> int:
    try:
        return int(source[tag].value) if tag in source else 0
    except (TypeError, ValueError) as error:
        raise IngestError("(60xx,0102) Overlay Bit Position must be one whole number") from error


def _values(source: Dataset, index: int, layout: PixelLayout) -> NDArray[Any]:
    """Return the stored values of a frame in the type that is written; all other bits are 0, or extend the sign."""
    samples = frame_samples(source, index)
    if samples.lossy and samples.bits > layout.stored:
        above = samples.values.astype(np.int64) >> layout.stored
        if not np.isin(above, (0, -1) if samples.signed else (0,)).all():
            raise IngestError("lossy samples above (0028,0101) Bits Stored: what they hold cannot be cleared")
    values, _ = stored_values(samples, layout)
    values = mask_unused_bits(values, _allocated(layout), layout.stored, layout.stored - 1, layout.signed)
    _check_planes(values, layout)
    return values


def _allocated(layout: PixelLayout) -> int:
    return min(layout.allocated, 16)


def _check_planes(values: NDArray[Any], layout: PixelLayout) -> None:
    """Refuse a bit plane that stands apart above the bits of the picture: an overlay that no attribute names.

    It is one where the next lower bit is used nowhere, and where below the set bits there is a picture.
    """
    plain = (values ^ (values >> (8 * values.itemsize - 1)) if layout.signed else values).astype(np.int64)
    used = int(np.bitwise_or.reduce(plain, axis=None))
    for place in range(_PICTURE_BITS + 1, layout.stored):
        if used >> place & 1 and not used >> (place - 1) & 1:
            below = plain[(plain >> place & 1).astype(bool)] & ((1 << place) - 1)
            if used & ((1 << place) - 1) >= 1 << (_PICTURE_BITS - 1) and len(np.unique(below)) > _FEW:
                raise IngestError("a bit plane apart from those of the picture: an overlay in the pixels")


def _write(values: Sequence[NDArray[Any]], layout: PixelLayout, source: Dataset, syntax: UID, target: Dataset) -> UID:
    """Write frames into `target`, compressed where they were and where that gives the same values back."""
    _describe(target, layout, source, len(values))
    if not syntax.is_encapsulated:
        _put_native(target, values, syntax)
        _prove(target, syntax, values)
        return syntax
    written = _WRITTEN_AS[syntax]
    if written == JPEG2000Lossless and min(values[0].shape) < _SMALLEST_2000:
        written = JPEGLSLossless
    try:
        _put_compressed(target, values, layout, written)
        _prove(target, written, values)
    except Exception:  # noqa: BLE001 (encoders raise anything; without one the pixels are written as they are)
        written = ExplicitVRLittleEndian
        _put_native(target, values, written)
        _prove(target, written, values)
    return written


def _describe(target: Dataset, layout: PixelLayout, source: Dataset, frames: int) -> None:
    target.SamplesPerPixel = 1
    target.PhotometricInterpretation = str(source.PhotometricInterpretation)
    target.Rows, target.Columns = whole_number(source, "Rows"), whole_number(source, "Columns")
    target.BitsAllocated, target.BitsStored = _allocated(layout), layout.stored
    target.HighBit, target.PixelRepresentation = layout.stored - 1, int(layout.signed)
    if frames > 1 or "NumberOfFrames" in target:
        target.NumberOfFrames = frames


def _put_native(target: Dataset, values: Sequence[NDArray[Any]], syntax: UID) -> None:
    words = values[0].dtype.newbyteorder("<" if syntax.is_little_endian else ">")
    data = b"".join(frame.astype(words).tobytes() for frame in values)
    vr = "OB" if values[0].itemsize == 1 and not syntax.is_implicit_VR else "OW"
    target[_PIXEL_DATA] = DataElement(_PIXEL_DATA, vr, data + b"\0" * (len(data) % 2))


def _put_compressed(target: Dataset, values: Sequence[NDArray[Any]], layout: PixelLayout, syntax: UID) -> None:
    frames = []
    for frame in values:
        stream = get_encoder(syntax).encode(
            frame,
            encoding_plugin=_ENCODERS[syntax],
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=1,
            number_of_frames=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=8 * frame.itemsize,
            # RLE codes whole cells
            bits_stored=8 * frame.itemsize if syntax == RLELossless else layout.stored,
            pixel_representation=int(layout.signed),
            pixel_keyword="PixelData",
        )
        frames.append(without_comments(stream) if syntax == JPEG2000Lossless else bytes(stream))
    target[_PIXEL_DATA] = DataElement(_PIXEL_DATA, "OB", encapsulate(frames))
    target[_PIXEL_DATA].is_undefined_length = True


def _prove(target: Dataset, syntax: UID, values: Sequence[NDArray[Any]]) -> None:
    """Decode what was written and compare it with what should have been. Raises `IngestError`."""
    image = Dataset()
    for element in target.group_dataset(0x0028):
        image[element.tag] = element
    image[_PIXEL_DATA] = target[_PIXEL_DATA]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    layout, _ = read_layout(image)
    for index, frame in enumerate(values):
        again, _ = stored_values(frame_samples(image, index), layout)
        if not np.array_equal(again, frame):
            raise IngestError("the pixels that were written are not those that were read")


def _mark_lossy(target: Dataset, syntax: UID, native: int, compressed: int) -> None:
    """Record an earlier lossy compression, which the new transfer syntax does not show (PS3.3 C.7.6.1.1.5)."""
    if target.get("LossyImageCompression"):
        return
    target.LossyImageCompression = "01"
    target.LossyImageCompressionRatio = f"{max(1.0, native / max(1, compressed)):.2f}"
    target.LossyImageCompressionMethod = _METHODS[syntax]
