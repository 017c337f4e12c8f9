"""Stored values by High Bit, Bits Stored and Pixel Representation, whatever the transfer syntax (PS3.5 8.1.1, 8.2)."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest.dicom import decode, read_radiograph
from medidistill.ingest.notices import Notice

from .builders import SIDE, chest, encode_cells, make_film, pixel_cells, save_film

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
PACKED = (RLELossless, JPEG2000Lossless, JPEGLSLossless)
CHEQUERS = np.indices((SIDE, SIDE)).sum(axis=0) // 4 % 2 * 0xFFFFFFFF  # what old films drew in the unused bits


def by_arithmetic(values, stored, signed):
    """The picture of stored values without any transformation: their range becomes [0, 1]."""
    low = -(2 ** (stored - 1)) if signed else 0
    return ((np.asarray(values, np.float64) - low) / (2**stored - 1)).astype(np.float32)


def film_of(cells, syntax, **layout):
    return make_film(cells, syntax=syntax, **layout) if syntax in NATIVE else encode_cells(cells, syntax, **layout)


@pytest.mark.parametrize("syntax", [*NATIVE, *PACKED])
@pytest.mark.parametrize(
    ("stored", "high", "signed", "junk"),
    [
        *[(12, 11, False, 0), (12, 15, False, 0), (12, 13, False, 0), (8, 15, False, 0), (16, 15, False, 0)],
        *[(12, 11, False, CHEQUERS), (12, 13, False, CHEQUERS), (12, 15, False, CHEQUERS), (10, 9, False, CHEQUERS)],
        *[(12, 11, True, 0), (12, 15, True, 0), (12, 11, True, CHEQUERS), (16, 15, True, 0)],
    ],
)
def test_unused_bits_are_no_part_of_the_picture(tmp_path, syntax, stored, high, signed, junk):
    values = chest(2**stored - 1) - (2 ** (stored - 1) if signed else 0)
    cells = pixel_cells(values, 16, stored, high, junk)
    path = save_film(tmp_path / "a", film_of(cells, syntax, stored=stored, high=high, signed=signed))
    film = read_radiograph(path)
    np.testing.assert_allclose(film.rendered.picture, by_arithmetic(values, stored, signed), atol=1e-6)
    assert (Notice.UNUSED_BITS in film.rendered.notices) is bool(np.any(junk))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("allocated", [8, 16, 32])
@pytest.mark.parametrize("stored", [1, 2, 7, 8, 9, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_depth_in_every_cell(tmp_path, syntax, allocated, stored, signed):
    if stored > allocated:
        pytest.skip("more bits than the cell has")
    rng = np.random.default_rng(stored)
    low = -(2 ** (stored - 1)) if signed else 0
    values = rng.integers(low, low + 2**stored, (SIDE, SIDE))
    values[0, :2] = low, low + 2**stored - 1
    high = min(allocated - 1, stored + 1)
    cells = pixel_cells(values, allocated, stored, high, rng.integers(0, 2**32, (SIDE, SIDE)))
    film = film_of(cells, syntax, allocated=allocated, stored=stored, high=high, signed=signed)
    path = save_film(tmp_path / "a", film)
    np.testing.assert_allclose(read_radiograph(path).rendered.picture, by_arithmetic(values, stored, signed), atol=1e-6)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("stored", [2, 6, 7, 8, 9, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_depth_of_a_codestream(tmp_path, syntax, stored, signed):
    values = chest(2**stored - 1) - (2 ** (stored - 1) if signed else 0)
    cells, allocated = values & (2**stored - 1), 8 if stored <= 8 else 16
    film = encode_cells(
        values if signed and syntax == JPEG2000Lossless else cells,
        syntax,
        whole=False,
        allocated=allocated,
        stored=stored,
        signed=signed and syntax == JPEG2000Lossless,
    )
    film.PixelRepresentation = int(signed)
    picture = read_radiograph(save_film(tmp_path / "a", film)).rendered.picture
    np.testing.assert_allclose(picture, by_arithmetic(values, stored, signed), atol=1e-6)


def test_sign_extended_or_not_is_the_same_picture(tmp_path):
    values = chest() - 2048
    pictures = []
    for cells in (values, values & 0xFFF):
        film = read_radiograph(save_film(tmp_path / "a", make_film(cells, signed=True)))
        assert not film.rendered.notices
        pictures.append(film.rendered.picture)
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("syntax", [*NATIVE, *PACKED])
def test_as_pydicom_reads_it_where_no_bit_is_unused(tmp_path, syntax):
    values = chest(4095) - 2048
    layout = {"stored": 12, "signed": True}
    native = syntax in NATIVE
    film = make_film(values, syntax=syntax, **layout) if native else encode_cells(values, syntax, whole=False, **layout)
    path = save_film(tmp_path / "a", film)
    dataset = pydicom.dcmread(path)
    assert np.array_equal(decode(dataset), pixel_array(dataset))
    assert np.array_equal(decode(dataset), values)


def test_values_are_the_same_after_every_element_was_looked_at(tmp_path):
    """De-identification walks the data set before it decodes: no value may depend on what was converted before."""
    cells = pixel_cells(chest(), 16, 12, 15, CHEQUERS)
    path = save_film(tmp_path / "a", encode_cells(cells, JPEG2000Lossless, stored=12, high=15))
    fresh, walked = pydicom.dcmread(path), pydicom.dcmread(path)
    assert len(list(walked.iterall())) > 10
    assert np.array_equal(decode(fresh), decode(walked))
    assert np.array_equal(decode(fresh), chest())


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"BitsAllocated": 12}, r"\(0028,0100\) Bits Allocated must be 8, 16 or 32"),
        ({"BitsStored": 0}, r"\(0028,0101\) Bits Stored must be 1 to 16"),
        ({"BitsStored": 17}, r"\(0028,0101\) Bits Stored must be 1 to 16"),
        ({"HighBit": 10}, r"\(0028,0102\) High Bit must be Bits Stored - 1 to Bits Allocated - 1"),
        ({"HighBit": 16}, r"\(0028,0102\) High Bit must be"),
        ({"PixelRepresentation": 2}, r"\(0028,0103\) Pixel Representation must be 0 or 1"),
        *[({name: None}, "is missing") for name in ("BitsAllocated", "BitsStored", "PixelRepresentation", "Rows")],
        ({"BitsStored": [12, 12]}, r"\(0028,0101\) Bits Stored must be one whole number"),
    ],
)
def test_rejects_attributes_by_name(tmp_path, attributes, message):
    path = save_film(tmp_path / "a", make_film(chest(), **attributes))
    with pytest.raises(IngestError, match=message):
        read_radiograph(path)


def test_without_high_bit_it_is_assumed_and_said(tmp_path):
    film = read_radiograph(save_film(tmp_path / "a", make_film(chest(), HighBit=None)))
    np.testing.assert_allclose(film.rendered.picture, chest() / 4095, atol=1e-6)
    assert film.rendered.notices == (Notice.HIGH_BIT_ASSUMED,)


def test_rejects_high_bit_15_of_pixels_in_the_low_bits(tmp_path):
    path = save_film(tmp_path / "a", make_film(chest(), stored=12, high=15))
    with pytest.raises(IngestError, match=r"\(0028,0102\) High Bit is not .*, but the pixels fill the low bits"):
        read_radiograph(path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_rejects_high_bit_above_the_samples(tmp_path, syntax):
    film = encode_cells(chest(), syntax, whole=False, stored=12)
    film.HighBit = 15
    with pytest.raises(IngestError, match=r"\(0028,0102\) High Bit lies above the 12 bits of the compressed samples"):
        read_radiograph(save_film(tmp_path / "a", film))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_rejects_samples_of_more_bits_than_bits_stored(tmp_path, syntax):
    film = encode_cells(chest(), syntax, whole=False, stored=12)
    film.BitsStored, film.HighBit = 10, 9
    with pytest.raises(IngestError, match=r"\(0028,0101\) Bits Stored has no room for the 12 bits of the samples"):
        read_radiograph(save_film(tmp_path / "a", film))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_samples_of_fewer_bits_than_bits_stored_are_numbers(tmp_path, syntax):
    film = encode_cells(chest(1023), syntax, whole=False, stored=10)
    film.BitsStored, film.HighBit = 12, 11
    picture = read_radiograph(save_film(tmp_path / "a", film)).rendered.picture
    np.testing.assert_allclose(picture, chest(1023) / 4095, atol=1e-6)


def test_signed_samples_under_an_unsigned_header_are_rejected_where_they_are_negative(tmp_path):
    film = encode_cells(chest() - 2048, JPEG2000Lossless, whole=False, stored=12, signed=True)
    film.PixelRepresentation = 0
    with pytest.raises(IngestError, match=r"\(0028,0103\) Pixel Representation is unsigned"):
        read_radiograph(save_film(tmp_path / "a", film))
    film = encode_cells(chest(2047), JPEG2000Lossless, whole=False, stored=12, signed=True)
    film.PixelRepresentation = 0
    picture = read_radiograph(save_film(tmp_path / "b", film)).rendered.picture
    np.testing.assert_allclose(picture, chest(2047) / 4095, atol=1e-6)


def test_unsigned_samples_under_a_signed_header_are_said(tmp_path):
    values = chest() - 2048
    film = encode_cells(values & 0xFFF, JPEG2000Lossless, whole=False, stored=12)
    film.PixelRepresentation = 1
    found = read_radiograph(save_film(tmp_path / "a", film)).rendered
    np.testing.assert_allclose(found.picture, by_arithmetic(values, 12, True), atol=1e-6)
    assert found.notices == (Notice.UNSIGNED_CODESTREAM,)


def test_rejects_a_sign_that_cannot_be_told(tmp_path):
    film = encode_cells(chest(1023), JPEGLSLossless, whole=False, stored=10)
    film.BitsStored, film.HighBit, film.PixelRepresentation = 12, 11, 1
    with pytest.raises(IngestError, match="the sign of compressed samples of 10 unsigned bits cannot be told"):
        read_radiograph(save_film(tmp_path / "a", film))


def test_white_that_a_lossy_codec_overshoots_stays_white(tmp_path):
    from openjpeg.utils import encode_array
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000

    values = np.zeros((64, 64), np.uint16)
    values[16:48, 16:48] = 4095  # ringing at the edges leaves the range of 12 bits
    film = make_film(values, stored=12)
    film.PixelData = encapsulate([encode_array(values, bits_stored=16, compression_ratios=[15])])
    film["PixelData"].VR, film.file_meta.TransferSyntaxUID = "OB", JPEG2000
    found = read_radiograph(save_film(tmp_path / "a", film)).rendered
    assert Notice.LOSSY_OVERSHOOT in found.notices
    assert found.picture[20:44, 20:44].min() > 0.9
    assert found.picture[:10].max() < 0.1


@pytest.mark.parametrize("frame", [0, 1, 2])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_each_frame_has_its_own_stored_values(tmp_path, syntax, frame):
    frames = [chest(seed=seed) for seed in range(3)]
    cells = pixel_cells(np.concatenate(frames), 16, 12, 15, np.tile(CHEQUERS, (3, 1)))
    film = make_film(cells, stored=12, high=15, Rows=SIDE, NumberOfFrames=3)
    if syntax.is_encapsulated:
        film.BitsStored, film.HighBit = 16, 15
        film.compress(syntax, generate_instance_uid=False)
        film.BitsStored = 12
    picture = read_radiograph(save_film(tmp_path / "a", film), frame).rendered.picture
    np.testing.assert_allclose(picture, frames[frame] / 4095, atol=1e-6)
