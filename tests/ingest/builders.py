"""Files for the tests of the readers: every field is set by hand, and what encodes them is not what is tested."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    RLELossless,
)

__all__ = ["chest", "encode_cells", "lut_item", "make_film", "pixel_cells", "png", "retype", "save_film"]

SIDE = 32


def chest(top: int = 4095, side: int = SIDE, seed: int = 0) -> NDArray[np.int64]:
    """Return a smooth picture, (side, side), from about 0.1 to 0.9 of `top`, with its extremes at two corners."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    picture = 0.5 + 0.3 * np.sin(5 * x) * np.cos(4 * y) + 0.08 * rng.standard_normal((side, side))
    picture[0, 0], picture[-1, -1] = 0.0, 1.0
    return np.rint(np.clip(picture, 0, 1) * top).astype(np.int64)


def make_film(
    cells: Any,
    *,
    allocated: int = 16,
    stored: int = 12,
    high: int | None = None,
    signed: bool = False,
    syntax: UID = ExplicitVRLittleEndian,
    number: int = 1,
    **attributes: Any,
) -> Dataset:
    """Return a DX image of pixel cells, bit patterns of `allocated` bits; attributes given as None are left out."""
    array = np.asarray(cells, dtype=np.int64)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, UID(f"2.25.{number}")
    dataset.Modality, dataset.PatientName, dataset.PatientID = "DX", "PHANTOM^TEST", f"PHANTOM-{number}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = array.shape
    dataset.BitsAllocated, dataset.BitsStored = allocated, stored
    dataset.HighBit, dataset.PixelRepresentation = stored - 1 if high is None else high, int(signed)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = (array & ((1 << allocated) - 1)).astype(f"{order}u{allocated // 8}").tobytes()
    data += b"\0" * (len(data) % 2)
    if order == ">" and allocated == 8:  # two pixels a word of OW, the first in its low byte
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    dataset.PixelData = data
    dataset["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def encode_cells(cells: Any, syntax: UID, *, whole: bool = True, **layout: Any) -> Dataset:
    """Return a film whose pixel cells were compressed: all their bits as an archive does, else Bits Stored of them."""
    dataset = make_film(cells, **layout)
    wanted = {name: dataset[name].value for name in ("BitsStored", "HighBit", "PixelRepresentation")}
    if whole:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
            dataset.BitsAllocated,
            dataset.BitsAllocated - 1,
            0,
        )
    if syntax == RLELossless:
        dataset.PixelData = encapsulate([_run_lengths(dataset.PixelData, dataset.BitsAllocated // 8)])
        dataset["PixelData"].VR, dataset.file_meta.TransferSyntaxUID = "OB", syntax
    else:
        dataset.compress(syntax, generate_instance_uid=False)
    for name, value in wanted.items():
        setattr(dataset, name, value)
    return dataset


def _run_lengths(data: bytes, width: int) -> bytes:
    """Return pixel cells of `width` bytes as one RLE frame of literal runs, high bytes first (PS3.5 G.3 to G.5)."""
    segments = []
    for place in reversed(range(width)):
        plane = data[place::width]
        runs = (plane[at : at + 128] for at in range(0, len(plane), 128))
        packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = [64 + sum(map(len, segments[:number])) for number in range(width)]
    return struct.pack("<16L", width, *offsets, *[0] * (15 - width)) + b"".join(segments)


def save_film(path: Path, dataset: Dataset) -> Path:
    """Write a data set as a DICOM file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != DeflatedExplicitVRLittleEndian:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def retype(path: Path, tag: int, old: str, new: str, big: bool = False) -> Path:
    """Change the value representation of the one element with this tag in a file with explicit VR."""
    head = struct.pack(">HH" if big else "<HH", tag >> 16, tag & 0xFFFF)
    data = path.read_bytes()
    assert data.count(head + old.encode()) == 1
    path.write_bytes(data.replace(head + old.encode(), head + new.encode()))
    return path


def lut_item(
    first: int, bits: int, data: Any, kind: str = "OW", count: int | None = None, big: bool = False
) -> Dataset:
    """Return the item of a LUT sequence; `first` is written as a pattern of 16 bits, `data` as `kind` (OW, US, SS)."""
    item = Dataset()
    entries = len(data) if count is None else count
    item.add_new(0x00283002, "US", [entries % 65536, first % 65536, bits])
    if isinstance(data, bytes):
        item.add_new(0x00283006, kind, data)
    elif kind in ("US", "SS"):
        words = np.asarray(data, np.int64) & 0xFFFF
        item.add_new(0x00283006, kind, (words.astype("u2").view("i2") if kind == "SS" else words).tolist())
    else:
        item.add_new(0x00283006, kind, np.asarray(data).astype(">u2" if big else "<u2").tobytes())
    return item


def pixel_cells(values: Any, allocated: int, stored: int, high: int, junk: Any = 0) -> NDArray[np.int64]:
    """Return cells that hold stored values in the bits up to `high`, and `junk` in all others."""
    shift = high + 1 - stored
    mask = ((1 << stored) - 1) << shift
    placed = (np.asarray(values, np.int64) << shift) & mask
    return placed | (np.asarray(junk, np.int64) & ~mask & ((1 << allocated) - 1))


def as_sequence(*items: Dataset) -> Sequence:
    """Return items as the value of a sequence attribute."""
    return Sequence(items)


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_COLOUR_TYPE = {("grey", 1): 0, ("rgb", 3): 2, ("palette", 1): 3, ("grey", 2): 4, ("rgb", 4): 6}


def png(
    samples: Any,
    bits: int,
    kind: str = "grey",
    *,
    interlaced: bool = False,
    chunks: Iterable[tuple[bytes, bytes]] = (),
) -> bytes:
    """Return a PNG of samples, (rows, columns, channels), that uses each of the five filters in turn.

    Args:
        samples: integers of `bits` bits; one channel (grey, palette), two (grey with opacity), three or four (rgb).
        bits: 1, 2, 4, 8 or 16.
        kind: `grey`, `rgb` or `palette`.
        interlaced: in the seven passes of Adam7.
        chunks: kind and content of further chunks before the pixels.

    Source: PNG specification (W3C 2003), 7, 8, 9 and 11.
    """
    array = np.asarray(samples, np.int64)
    array = array[..., None] if array.ndim == 2 else array
    rows, columns, channels = array.shape
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    body = b"".join(_filtered(array[y0::dy, x0::dx], bits) for y0, x0, dy, dx in passes)
    header = struct.pack(">IIBBBBB", columns, rows, bits, _COLOUR_TYPE[kind, channels], 0, 0, int(interlaced))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _filtered(array: NDArray[np.int64], bits: int) -> bytes:
    channels = array.shape[2]
    if not array.size:
        return b""
    if bits == 16:
        lines = [row.astype(">u2").tobytes() for row in array]
    elif bits == 8:
        lines = [row.astype("u1").tobytes() for row in array]
    else:
        lines = [_packed(row.ravel(), bits) for row in array]
    step = max(1, channels * bits // 8)
    out, above = b"", bytes(len(lines[0]))
    for number, line in enumerate(lines):
        method = number % 5
        out += bytes([method]) + _filter_line(method, line, above, step)
        above = line
    return out


def _packed(row: NDArray[np.int64], bits: int) -> bytes:
    text = "".join(f"{int(value):0{bits}b}" for value in row)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def _filter_line(method: int, line: bytes, above: bytes, step: int) -> bytes:
    out = bytearray()
    for at, value in enumerate(line):
        left = line[at - step] if at >= step else 0
        up, corner = above[at], above[at - step] if at >= step else 0
        guess = left + up - corner
        near = min(((abs(guess - one), order, one) for order, one in enumerate((left, up, corner))))[2]
        out.append((value - (0, left, up, (left + up) // 2, near)[method]) % 256)
    return bytes(out)
