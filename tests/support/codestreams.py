"""Radiographs in every coding, and frames that carry a text where a decoder does not look."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.ingest.conftest import make_radiograph

JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
JPEG_LS = (JPEGLSLossless, JPEGLSNearLossless)
HIGH_THROUGHPUT = (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
JPEG_2000 = (JPEG2000Lossless, JPEG2000, *HIGH_THROUGHPUT)
COMPRESSED = (*JPEG, *JPEG_LS, *JPEG_2000, RLELossless)
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
EIGHT_BITS = (JPEGBaseline8Bit, JPEGExtended12Bit)  # no decoder here reads 12 bits of the second

# 16 x 16 pixels of 12 bits, coded by OpenJPH 0.9: no library here writes HTJ2K
_HTJ2K = base64.b64decode(
    "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABCwEB/1AACAACAAAAB/9SAAwAAgABAAIEBEAB/1wACiBweHh4cHB4"
    "/2QAFgABT3BlbkpQSCBWZXIgMC45LjAu/5AACgAAAAABagAB/5PAAW6AffCwR/51OUvya3ux6MhEEwUR0WisoQMtEKADNwDAALYgAFsQAC2w"
    "8Qi4woqlGZYP87sWWnCiuGEJJkIgEZcAuT7gAGdT64xADlYMlmBKDSUzIkIgIpcAddranMhsRHKrbBIOtUAnCEG04AEyTiCBszgAwAF6vAAX"
    "pcAAu5BN03QNr5SjDQENDa/OUebSQAjiS0Jdrw2IR3cpcukSSaXM9FTxb6qKLogb2GTW5dKlf2hUfGnQoEsDSa+6LGiwoP58mBL+DIRTo81Z"
    "/XJAiIIAsDETkQEPZVASacOBaB6OJ0RDVYYS6snQJzgoP4GG5pSfVL6hjeiTJxTBbJlLRCmRrkSPE5U4D3pe8AE27ua/QiTdihKv55MGIQDN"
    "UURn1gFDiRJF1HyIaKKIOi+RRBJ1fiiiRM2Hch7R5ocaaigRomL8CBMIMAP+hiDGsg949hDCIA+/EEBn1wH/2Q=="
)


def picture(side: int = 32, bits: int = 12, seed: int = 0) -> np.ndarray:
    """A bright body with noise, (side, side) uint16, that uses all of its bits."""
    y, x = np.mgrid[0:side, 0:side] / max(1, side - 1)
    clean = 0.85 - 0.5 * np.exp(-(((x - 0.3) / 0.15) ** 2 + ((y - 0.5) / 0.3) ** 2)) - 0.2 * np.abs(x - 0.5)
    noisy = clean + np.random.default_rng(seed).normal(0, 0.02, (side, side))
    return np.clip(np.rint(noisy * (2**bits - 1)), 0, 2**bits - 1).astype(np.uint16)


def htj2k_picture() -> np.ndarray:
    """What `encode` makes a stream of for the syntaxes of HTJ2K."""
    y, x = np.mgrid[0:16, 0:16]
    return ((x * x * 7 + y * 131 + (x * y) % 13 * 50) % 4096).astype(np.uint16)


def encode(pixels: np.ndarray, syntax: UID, bits: int) -> bytes:
    """Return one frame of unsigned `pixels` of `bits` bits in a compressed syntax; DCT has 8 bits."""
    if syntax in HIGH_THROUGHPUT:
        assert np.array_equal(pixels, htj2k_picture())
        return _HTJ2K
    cells = np.ascontiguousarray(pixels, "u1" if bits <= 8 else "<u2")
    if syntax in EIGHT_BITS:
        buffer = io.BytesIO()
        Image.fromarray(cells).save(buffer, "JPEG", quality=90)
        return buffer.getvalue()
    if syntax in JPEG:
        return _lossless_jpeg(cells, bits, 1 if syntax == JPEGLosslessSV1 else 7)
    how: dict[str, Any] = {JPEG2000: {"j2k_cr": [2]}, JPEGLSNearLossless: {"jls_error": 2}}.get(syntax, {})
    frame = get_encoder(syntax).encode(
        cells,
        encoding_plugin={RLELossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", JPEGLSNearLossless: "pyjpegls"}.get(
            syntax, "pylibjpeg"
        ),
        rows=cells.shape[0],
        columns=cells.shape[1],
        samples_per_pixel=1,
        number_of_frames=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=8 * cells.itemsize,
        bits_stored=8 * cells.itemsize if syntax == RLELossless else bits,
        pixel_representation=0,
        pixel_keyword="PixelData",
        **how,
    )
    return bytes(frame)


def _lossless_jpeg(cells: np.ndarray, bits: int, predictor: int) -> bytes:
    """Lossless JPEG (T.81 annex H) with a Huffman table whose 17 codes have 5 bits each."""
    rows, columns = cells.shape
    values = cells.astype(np.int64)
    left, above, corner = (np.zeros_like(values) for _ in range(3))
    left[:, 1:], above[1:], corner[1:, 1:] = values[:, :-1], values[:-1], values[:-1, :-1]
    predicted = {1: left, 7: (left + above) >> 1, 4: left + above - corner}[predictor]
    predicted[0], predicted[1:, 0] = left[0], above[1:, 0]
    predicted[0, 0] = 1 << (bits - 1)
    code = []
    for difference in ((values - predicted + 32768) % 65536 - 32768).ravel().tolist():
        size = abs(difference).bit_length() if difference != -32768 else 16
        extra = difference if difference > 0 else difference + (1 << size) - 1
        code.append(f"{size:05b}" + (f"{extra:0{size}b}" if 0 < size < 16 else ""))
    text = "".join(code)
    text += "1" * (-len(text) % 8)
    scan = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = bytes([bits]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\1\1\x11\0"
    table = b"\0" + bytes([0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    head = _segment(0xC3, frame) + _segment(0xC4, table) + _segment(0xDA, bytes([1, 1, 0, predictor, 0, 0]))
    return b"\xff\xd8" + head + scan + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(content) + 2).to_bytes(2, "big") + content


def put(dataset: Dataset, syntax: UID, *frames: bytes, has_bot: bool = True) -> Dataset:
    """Give a dataset compressed frames, of one fragment each."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(list(frames), has_bot=has_bot)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return dataset


def fragments(*parts: bytes) -> bytes:
    """Encapsulated pixel data of just these items, the first of which is the basic offset table."""
    padded = [part + b"\0" * (len(part) % 2) for part in parts]
    items = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in padded)
    return items + b"\xfe\xff\xdd\xe0\0\0\0\0"


def compressed(syntax: UID, *, bits: int | None = None, side: int = 32, seed: int = 0, **attributes: Any) -> Dataset:
    """A radiograph in a compressed syntax; keyword arguments set attributes."""
    bits = bits or (8 if syntax in EIGHT_BITS else 12)
    pixels = htj2k_picture() if syntax in HIGH_THROUGHPUT else picture(side, bits, seed)
    dataset = make_radiograph(pixels, bits=bits, **attributes)
    return put(dataset, syntax, encode(pixels, syntax, bits))


def frame_of(dataset: Dataset) -> bytes:
    """The first frame of a dataset without its padding."""
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return frame if dataset.file_meta.TransferSyntaxUID == RLELossless else frame.rstrip(b"\0")


def box(kind: bytes, content: bytes, *, wide: bool = False, to_the_end: bool = False) -> bytes:
    """A box of a JP2 file, its length in 4 bytes, in 8, or left open."""
    if wide:
        return b"\0\0\0\1" + kind + (len(content) + 16).to_bytes(8, "big") + content
    return (0 if to_the_end else len(content) + 8).to_bytes(4, "big") + kind + content


def jp2(stream: bytes, extra: bytes = b"", **how: bool) -> bytes:
    """A JPEG 2000 codestream in a JP2 file, behind the box `extra`."""
    size = stream[12:16] + stream[8:12]
    header = box(b"jp2h", box(b"ihdr", size + b"\0\1\x0b\7\0\0") + box(b"colr", b"\1\0\0\0\0\0\x11"))
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + header + extra + box(b"jp2c", stream, **how)


def _scan(stream: bytes) -> int:
    return stream.index(b"\xff\xda")


def _quantization_table(text: bytes) -> bytes:
    return _segment(0xDB, b"\3" + text.ljust(64, b"\1"))


def _huffman_table(text: bytes) -> bytes:
    """A second AC table that no scan refers to; its symbols are the text."""
    return _segment(0xC4, b"\x13" + bytes(15) + bytes([len(text)]) + text)


def _in_tile_part(stream: bytes, text: bytes) -> bytes:
    start = stream.index(b"\xff\x90\x00\x0a")
    comment = _segment(0x64, b"\0\1" + text)
    length = int.from_bytes(stream[start + 6 : start + 10], "big")
    data = stream.index(b"\xff\x93", start)
    longer = (length + len(comment) if length else 0).to_bytes(4, "big")
    return stream[: start + 6] + longer + stream[start + 10 : data] + comment + stream[data:]


def _longer_tile_part(stream: bytes, text: bytes) -> bytes:
    """Bytes behind the last packet, inside of the tile part."""
    start = stream.index(b"\xff\x90\x00\x0a")
    length = int.from_bytes(stream[start + 6 : start + 10], "big")
    longer = (length + len(text) if length else 0).to_bytes(4, "big")
    assert stream.endswith(b"\xff\xd9")
    return stream[: start + 6] + longer + stream[start + 10 : -2] + text + stream[-2:]


def _rle_segments(frame: bytes) -> tuple[list[bytes], int]:
    count, *offsets = (int.from_bytes(frame[at : at + 4], "little") for at in range(0, 64, 4))
    bounds = [*offsets[:count], len(frame)]
    return [frame[a:b] for a, b in itertools.pairwise(bounds)], count


def _rle(segments: list[bytes], header_tail: bytes = b"", gap: bytes = b"") -> bytes:
    offsets, at = [], 64 + len(gap)
    for segment in segments:
        offsets.append(at)
        at += len(segment)
    head = b"".join(number.to_bytes(4, "little") for number in (len(segments), *offsets))
    return (head + header_tail).ljust(64, b"\0")[:64] + gap + b"".join(segments)


def _behind_each_segment(frame: bytes, text: bytes) -> bytes:
    segments, _ = _rle_segments(frame)
    return _rle([segment + text for segment in segments])


def _as_runs_behind(frame: bytes, text: bytes) -> bytes:
    segments, _ = _rle_segments(frame)
    return _rle([segment + bytes([len(text) - 1]) + text for segment in segments])


Place = Callable[[bytes, bytes], bytes]
_JPEG_PLACES: dict[str, Place] = {
    "behind the end": lambda s, t: s + t,
    "another picture behind the end": lambda s, t: s + s[:2] + _segment(0xFE, t) + s[2:],
    "comment first": lambda s, t: s[:2] + _segment(0xFE, t) + s[2:],
    "comment before the scan": lambda s, t: s[: _scan(s)] + _segment(0xFE, t) + s[_scan(s) :],
    "comment behind the scan": lambda s, t: s[:-2] + _segment(0xFE, t) + s[-2:],
    "application segment 0": lambda s, t: s[:2] + _segment(0xE0, b"JFXX\0" + t) + s[2:],
    "application segment 1": lambda s, t: s[:2] + _segment(0xE1, b"Exif\0\0" + t) + s[2:],
    "application segment 14": lambda s, t: s[: _scan(s)] + _segment(0xEE, t) + s[_scan(s) :],
    "application segment behind the scan": lambda s, t: s[:-2] + _segment(0xE5, t) + s[-2:],
    "two comments behind fill bytes": lambda s, t: s[:2] + (b"\xff\xff" + _segment(0xFE, t)) * 2 + s[2:],
    "reserved extension segment": lambda s, t: s[:2] + _segment(0xF2, t) + s[2:],
    "slack of the entropy coder": lambda s, t: s[:-2] + t + s[-2:],
    "unused coding table": lambda s, t: s[: _scan(s)] + _huffman_table(t) + s[_scan(s) :],
    "unused quantization table": lambda s, t: s[: _scan(s)] + _quantization_table(t) + s[_scan(s) :],
}
_JPEG_2000_PLACES: dict[str, Place] = {
    "behind the end": lambda s, t: s + t,
    "another picture behind the end": lambda s, t: s + s[:2] + _segment(0x64, b"\0\1" + t) + s[2:],
    "comment in the main header": lambda s, t: s.replace(b"\xff\x90", _segment(0x64, b"\0\1" + t) + b"\xff\x90", 1),
    "comment in a tile part": _in_tile_part,
    "slack of a tile part": _longer_tile_part,
    "box of a JP2 file": lambda s, t: jp2(s, box(b"xml ", t)),
    "free box of a JP2 file": lambda s, t: jp2(s, box(b"free", t, wide=True)),
    "UUID box of a JP2 file": lambda s, t: jp2(s, box(b"uuid", bytes(16) + t)),
    "box behind the codestream": lambda s, t: jp2(s) + box(b"xml ", t),
    "behind the end within a JP2 box": lambda s, t: jp2(s + t),
}
_RLE_PLACES: dict[str, Place] = {
    "behind the end": lambda s, t: s + t,
    "behind each segment": _behind_each_segment,
    "as runs behind each segment": _as_runs_behind,
    "unused offsets of the header": lambda s, t: _rle(_rle_segments(s)[0], header_tail=t),
    "gap behind the header": lambda s, t: _rle(_rle_segments(s)[0], gap=t + b"\0" * (len(t) % 2)),
}


def places(syntax: UID) -> dict[str, Place]:
    """Return, for a syntax, what puts a text into a frame by the name of the place."""
    if syntax == RLELossless:
        return _RLE_PLACES
    if syntax in JPEG_2000:
        return _JPEG_2000_PLACES
    tables = {"unused coding table", "unused quantization table"}
    return {name: place for name, place in _JPEG_PLACES.items() if syntax in JPEG or name not in tables}


def all_places() -> list[tuple[UID, str]]:
    """Return each compressed syntax with each of its places."""
    return [(syntax, name) for syntax in COMPRESSED for name in places(syntax)]
