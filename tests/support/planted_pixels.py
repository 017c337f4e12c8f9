"""Places inside pixel data that a text can ride in without being seen: codestreams, fragments, tables, unused bits.

The value stands in no header, so that no search for what the header says can find it: it has to be cut.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

__all__ = ["PIXEL_PLACES", "hidden_text"]


def _text(value: str) -> bytes:
    return f"operator {value} saw this".encode()


def _stream(dataset: Dataset, syntax: UID) -> bytes:
    """Compress a phantom and return its one frame without padding."""
    dataset.compress(syntax, generate_instance_uid=False)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return frame if syntax == RLELossless else frame.rstrip(b"\0")


def _put(dataset: Dataset, stream: bytes) -> None:
    dataset.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
    dataset["PixelData"].is_undefined_length = True


def _jpeg(dataset: Dataset, comment: bytes = b"") -> bytes:
    """Make a phantom a JPEG of 8 bits and return its stream."""
    buffer = io.BytesIO()
    grey = (np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns) >> 4).astype(np.uint8)
    Image.fromarray(grey).save(buffer, "JPEG", comment=comment, quality=90)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.WindowCenter, dataset.WindowWidth = "128", "256"
    dataset.SOPClassUID, dataset.Modality = ComputedRadiographyImageStorage, "CR"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset["PixelData"].VR = "OB"
    return buffer.getvalue()


def _behind(syntax: UID) -> Callable[[Dataset, str], None]:
    def put(dataset: Dataset, value: str) -> None:
        _put(dataset, _stream(dataset, syntax) + _text(value))

    return put


def _behind_jpeg(dataset: Dataset, value: str) -> None:
    _put(dataset, _jpeg(dataset) + _text(value))


def _jpeg_comment(dataset: Dataset, value: str) -> None:
    _put(dataset, _jpeg(dataset, comment=_text(value)))


def _jpeg_comment_after_scan(dataset: Dataset, value: str) -> None:
    stream, text = _jpeg(dataset), _text(value)
    _put(dataset, stream[:-2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + stream[-2:])


def _j2k_comment(value: str) -> bytes:
    text = _text(value)
    return b"\xff\x64" + (len(text) + 4).to_bytes(2, "big") + b"\0\1" + text


def _main_header(dataset: Dataset, value: str) -> None:
    stream = _stream(dataset, JPEG2000Lossless)
    start = stream.index(b"\xff\x90\x00\x0a")
    _put(dataset, stream[:start] + _j2k_comment(value) + stream[start:])


def _tile_part_header(dataset: Dataset, value: str) -> None:
    stream, comment = _stream(dataset, JPEG2000Lossless), _j2k_comment(value)
    start = stream.index(b"\xff\x90\x00\x0a")
    length = int.from_bytes(stream[start + 6 : start + 10], "big")  # 0: to the end
    data = stream.index(b"\xff\x93", start)
    longer = (length + len(comment) if length else 0).to_bytes(4, "big")
    _put(dataset, stream[: start + 6] + longer + stream[start + 10 : data] + comment + stream[data:])


def _box(kind: bytes, data: bytes) -> bytes:
    return (len(data) + 8).to_bytes(4, "big") + kind + data


def _jp2_box(dataset: Dataset, value: str) -> None:
    stream = _stream(dataset, JPEG2000Lossless)
    size = dataset.Rows.to_bytes(4, "big") + dataset.Columns.to_bytes(4, "big")
    header = _box(b"ihdr", size + b"\0\1\x0b\7\0\0") + _box(b"colr", b"\1\0\0" + (17).to_bytes(4, "big"))
    start = _box(b"jP  ", bytes.fromhex("0d0a870a")) + _box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    text = _box(b"xml ", b"<x>" + _text(value) + b"</x>")
    _put(dataset, start + _box(b"jp2h", header) + text + _box(b"jp2c", stream))


def _spare_fragment(dataset: Dataset, value: str) -> None:
    stream, text = _stream(dataset, JPEG2000Lossless), _text(value)
    parts = [b"", stream + b"\0" * (len(stream) % 2), text + b"\0" * (len(text) % 2)]
    dataset.PixelData = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in parts)
    dataset["PixelData"].is_undefined_length = True


def _table_tail(dataset: Dataset, value: str) -> None:
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 12])
    item.add_new(0x00283006, "OW", np.arange(4096).astype("<u2").tobytes() + _text(value).ljust(64, b"\0"))
    dataset.VOILUTSequence = Sequence([item])


def _unused_bits(syntax: UID | None) -> Callable[[Dataset, str], None]:
    def put(dataset: Dataset, value: str) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
        # 12 bits of 16 are stored: four bits of the text ride above each pixel
        nibbles = [half for byte in value.encode() for half in (byte >> 4, byte & 15)]
        pixels[: len(nibbles)] |= np.array(nibbles, "<u2") << 12
        dataset.PixelData = pixels.tobytes()
        if syntax is not None:
            dataset.BitsStored, dataset.HighBit = 16, 15
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.BitsStored, dataset.HighBit = 12, 11

    return put


def hidden_text(dataset: Dataset) -> bytes:
    """Return the text that the four bits above twelve spell; nothing where the pixels cannot be decoded.

    Args:
        dataset: is taken as if every allocated bit were a stored one, in place: a decoder may clear the others.
    """
    try:
        dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
        pixels = np.asarray(dataset.pixel_array)
    except Exception:  # noqa: BLE001 (damaged, or no decoder: nobody reads it)
        return b""
    if pixels.dtype.itemsize != 2:
        return b""
    high = pixels.astype("<u2").ravel() >> 12
    high = high[: len(high) // 2 * 2].reshape(-1, 2)
    return (high[:, 0] << 4 | high[:, 1]).astype(np.uint8).tobytes()


PIXEL_PLACES: dict[str, Callable[[Dataset, str], None]] = {
    "unused bits, uncompressed": _unused_bits(None),
    "unused bits, RLE": _unused_bits(RLELossless),
    "unused bits, JPEG 2000": _unused_bits(JPEG2000Lossless),
    "unused bits, JPEG-LS": _unused_bits(JPEGLSLossless),
    "comment of the JPEG stream": _jpeg_comment,
    "comment behind the scan of JPEG": _jpeg_comment_after_scan,
    "behind the end of JPEG": _behind_jpeg,
    "behind the end of JPEG-LS": _behind(JPEGLSLossless),
    "behind the end of JPEG 2000": _behind(JPEG2000Lossless),
    "comment in the main header of JPEG 2000": _main_header,
    "comment in a tile-part header of JPEG 2000": _tile_part_header,
    "box of a JP2 file": _jp2_box,
    "behind the segments of RLE": _behind(RLELossless),
    "fragment that no frame needs": _spare_fragment,
    "behind the last entry of LUT Data": _table_tail,
}
