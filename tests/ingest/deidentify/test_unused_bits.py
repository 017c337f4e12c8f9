"""Text in the bits of the cells that the picture leaves free: cleared, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import Key
from tests.ingest.conftest import make_radiograph
from tests.ingest.deidentify.pixel_example import NATIVE, TEXT, holds_a_word, native, stored, through
from tests.support.codestreams import (
    COMPRESSED,
    encode,
    picture,
    put,
)

# bits of the pixels, bits stored, High Bit, signed
LAYOUTS = [
    (12, 11, False),
    (12, 11, True),
    (12, 15, False),
    (10, 13, False),
    (15, 14, False),
    (8, 7, False),
    (8, 15, True),
]
LITERAL = (*NATIVE, RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLossless, JPEGLosslessSV1)


@pytest.mark.parametrize("syntax", LITERAL)
@pytest.mark.parametrize(("bits", "high", "signed"), LAYOUTS)
def test_text_drawn_in_unused_bits_is_cleared(
    syntax: UID, bits: int, high: int, signed: bool, key: Key, tmp_path: Path
) -> None:
    values = picture(48, bits).astype(np.int64) - (2 ** (bits - 1) if signed else 0)
    drawing = Image.new("L", (48, 48))
    ImageDraw.Draw(drawing).text((4, 16), "KOCH EVA", fill=255)
    text = (np.asarray(drawing) > 90).astype(np.int64) * 0xFFFF
    shift = high + 1 - bits
    free = 0xFFFF & ~((2**bits - 1) << shift)
    cells = (((values % 2**bits) << shift) | (text & free)).astype(np.uint16)
    if syntax in NATIVE:
        dataset = native(syntax, cells)
    else:
        dataset = put(make_radiograph(cells, bits=16), syntax, encode(cells, syntax, 16))
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, high
    dataset.PixelRepresentation = int(signed)
    dataset.add_new(0x60000100, "US", 16)  # said or not, it makes no difference
    dataset.add_new(0x60000102, "US", 0 if shift else 15)
    new, _ = through(dataset, key, tmp_path)
    assert (new.BitsStored, new.HighBit, new.PixelRepresentation) == (bits, bits - 1, int(signed))
    assert np.array_equal(stored(new), values)
    cells = pydicom.pixels.pixel_array(new, correct_unused_bits=False).astype(np.int64)
    assert np.array_equal(cells % 2**bits, values % 2**bits)
    assert set(np.unique(cells >> bits)) <= ({0, -1} if signed else {0})  # the sign extended, or nothing


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_the_unused_bit_of_a_byte_is_cleared(syntax: UID, key: Key, tmp_path: Path) -> None:
    values = picture(32, 7)
    for shift, high in ((0, 6), (1, 7)):
        cells = (values << shift | (0x80 if shift == 0 else 1)).astype(np.uint8)
        dataset = make_radiograph(cells, bits=8)
        if syntax in COMPRESSED:
            put(dataset, syntax, encode(cells, syntax, 8))
        dataset.BitsStored, dataset.HighBit = 7, high
        new, _ = through(dataset, key, tmp_path)
        assert (new.BitsStored, new.HighBit) == (7, 6)
        assert np.array_equal(stored(new), values)
        assert int(stored(new).max()) < 128


@pytest.mark.parametrize("place", [0, 5, 11])
def test_an_overlay_declared_in_the_bits_of_the_pixels_is_refused(place: int, key: Key, tmp_path: Path) -> None:
    for group in (0x6000, 0x601E, 0x60FE):
        dataset = native(ExplicitVRLittleEndian, picture())
        dataset.add_new(group << 16 | 0x0100, "US", 16)
        dataset.add_new(group << 16 | 0x0102, "US", place)
        with pytest.raises(IngestError, match=r"\(60xx,0102\) Overlay Bit Position lies in the bits of the pixels"):
            through(dataset, key, tmp_path)


def test_an_overlay_of_its_own_data_is_no_reason_to_refuse(key: Key, tmp_path: Path) -> None:
    dataset = native(ExplicitVRLittleEndian, picture())
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", TEXT + b"\0")
    new, data = through(dataset, key, tmp_path)
    assert not holds_a_word(data)
    assert np.array_equal(stored(new), picture())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("place", [13, 14, 15])
def test_a_plane_apart_from_the_picture_is_refused_though_no_attribute_names_it(
    syntax: UID, place: int, key: Key, tmp_path: Path
) -> None:
    """Bits Stored says 16, the picture has 12, and a text is drawn in one bit above them."""
    drawing = Image.new("1", (48, 48))
    ImageDraw.Draw(drawing).text((4, 16), "KOCH EVA", fill=1)
    cells = picture(48) | (np.asarray(drawing).astype(np.uint16) << place)
    dataset = make_radiograph(cells, bits=16)
    if syntax in COMPRESSED:
        put(dataset, syntax, encode(cells, syntax, 16))
    with pytest.raises(IngestError, match="a bit plane apart from those of the picture"):
        through(dataset, key, tmp_path)


@pytest.mark.parametrize(
    "cells",
    [
        picture(bits=16),
        np.where(picture() > 3000, 0x8000, picture()),  # padding of one value
        np.where(picture() > 3000, 0xFFFF, picture()),  # saturated
        np.array([[0, 1 << 15], [1 << 14, 0]]).repeat(16, 0).repeat(16, 1),
        picture() << 4,
    ],
    ids=["16 bits", "one value apart", "saturated", "two values", "low bits empty"],
)
def test_pictures_with_few_values_apart_are_no_overlays(cells: np.ndarray, key: Key, tmp_path: Path) -> None:
    dataset = make_radiograph(cells, bits=16)
    assert np.array_equal(stored(through(dataset, key, tmp_path)[0]), cells)


def test_lossy_samples_above_bits_stored_are_refused(key: Key, tmp_path: Path) -> None:
    """Clearing bits of lossy samples would leave the traces of a text in the others."""
    cells = picture() | ((np.indices((32, 32)).sum(0) // 4 % 2).astype(np.uint16) << 15)
    dataset = put(make_radiograph(cells, bits=16), JPEG2000, encode(cells, JPEG2000, 16))
    dataset.BitsStored, dataset.HighBit = 12, 11
    with pytest.raises(IngestError, match=r"\(0028,0101\) Bits Stored"):
        through(dataset, key, tmp_path)
