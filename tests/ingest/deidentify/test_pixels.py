"""Pixel data are written anew: the stored values come through, and nothing that rode along with them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
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
from medidistill.ingest.decoding import stored_pixels
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.ingest.conftest import make_radiograph
from tests.support.codestreams import (
    COMPRESSED,
    HIGH_THROUGHPUT,
    JPEG,
    JPEG_LS,
    LOSSY,
    all_places,
    compressed,
    encode,
    fragments,
    frame_of,
    htj2k_picture,
    picture,
    places,
    put,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
TEXT = b"operator Quastenflosser saw Koch, Eva"
WORDS = (b"quastenflosser", b"koch", b"eva", b"operator")
PLAIN = DeidentifyConfig()


def through(dataset: Dataset, key: Key, folder: Path) -> tuple[Dataset, bytes]:
    """Write a file, de-identify what is read of it, write that, and return it as read and as bytes."""
    syntax = dataset.file_meta.TransferSyntaxUID
    with silence_pydicom():
        dcmwrite(
            folder / "in.dcm",
            dataset,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
            enforce_file_format=True,
        )
        result = deidentify(read_dicom(folder / "in.dcm"), PLAIN, key)
        dcmwrite(folder / "out.dcm", result.dataset, enforce_file_format=True)
        return pydicom.dcmread(folder / "out.dcm"), (folder / "out.dcm").read_bytes()


def stored(dataset: Dataset) -> np.ndarray:
    return stored_pixels(dataset).values


def holds_a_word(data: bytes) -> bool:
    return any(word in data.lower() for word in WORDS)


def native(syntax: UID, pixels: np.ndarray, **attributes: object) -> Dataset:
    """A radiograph whose pixel cells are `pixels`, whatever its Bits Stored."""
    bits = 8 if pixels.dtype.itemsize == 1 else 12
    dataset = make_radiograph(pixels & (2**bits - 1), bits=bits, **attributes)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = data + b"\0" * (len(data) % 2), syntax
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


@pytest.mark.parametrize(
    ("syntax", "written"),
    [
        *((one, one) for one in NATIVE),
        *((one, JPEGLSLossless) for one in (*JPEG, JPEGLSLossless, JPEGLSNearLossless)),
        *((one, JPEG2000Lossless) for one in (JPEG2000Lossless, JPEG2000)),
        *((one, JPEGLSLossless) for one in HIGH_THROUGHPUT),  # the picture is too small for OpenJPEG
        (RLELossless, RLELossless),
    ],
)
def test_every_syntax_gives_the_pixels_that_it_holds(syntax: UID, written: UID, key: Key, tmp_path: Path) -> None:
    dataset = compressed(syntax) if syntax in COMPRESSED else native(syntax, picture())
    expected = stored(dataset)
    new, _ = through(dataset, key, tmp_path)
    assert new.file_meta.TransferSyntaxUID == written
    assert np.array_equal(stored(new), expected)
    assert expected.std() > 10
    if syntax not in LOSSY:
        assert np.array_equal(expected, htj2k_picture() if expected.shape == (16, 16) else picture())
    method = {JPEG2000: "ISO_15444_1", JPEGLSNearLossless: "ISO_14495_1", HTJ2K: "ISO_15444_15"}.get(
        syntax, "ISO_10918_1"
    )
    assert new.get("LossyImageCompression") == ("01" if syntax in LOSSY else None)
    assert new.get("LossyImageCompressionMethod") == (method if syntax in LOSSY else None)


def test_what_the_header_says_of_loss_stays(key: Key, tmp_path: Path) -> None:
    said = {"LossyImageCompression": "00"}
    assert through(compressed(JPEG2000, **said), key, tmp_path)[0].LossyImageCompression == "00"
    said = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "7",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    new, _ = through(compressed(JPEGLosslessSV1, **said), key, tmp_path)
    assert [new[word].value for word in said] == ["01", 7, "ISO_10918_1"]


@pytest.mark.parametrize(("syntax", "place"), all_places(), ids=str)
def test_a_text_in_a_codestream_is_cut(syntax: UID, place: str, key: Key, tmp_path: Path) -> None:
    clean = compressed(syntax)
    expected, frame = stored(clean), frame_of(clean)
    planted = put(clean, syntax, places(syntax)[place](frame, TEXT))
    if place == "reserved extension segment" or (place == "slack of the entropy coder" and syntax in JPEG_LS):
        with pytest.raises(IngestError, match="unreadable pixels"):  # by the decoder
            through(planted, key, tmp_path)
        return
    new, data = through(planted, key, tmp_path)
    assert holds_a_word((tmp_path / "in.dcm").read_bytes())
    assert not holds_a_word(data)
    assert np.array_equal(stored(new), expected)


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_text_behind_the_last_pixel_is_cut(syntax: UID, key: Key, tmp_path: Path) -> None:
    for pixels in (picture(), picture(31, 8).astype(np.uint8)):
        dataset = native(syntax, pixels)
        dataset.PixelData = dataset.PixelData[: pixels.nbytes] + TEXT + b"\0" * ((pixels.nbytes + len(TEXT)) % 2)
        new, data = through(dataset, key, tmp_path)
        assert not holds_a_word(data)
        assert np.array_equal(stored(new), pixels)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("place", ["fragment behind", "offset table", "extended offset table", "empty fragments"])
def test_a_text_between_the_fragments_is_cut_or_refused(syntax: UID, place: str, key: Key, tmp_path: Path) -> None:
    dataset = compressed(syntax)
    expected, frame = stored(dataset), frame_of(dataset)
    half = len(frame) // 4 * 2
    if place == "fragment behind":
        dataset.PixelData = fragments(b"", frame[:half], frame[half:], TEXT)
    elif place == "offset table":  # a table of nine frames
        dataset.PixelData = fragments(TEXT[:36], frame)
    elif place == "empty fragments":
        dataset.PixelData = fragments(b"", b"", frame, b"", TEXT, b"")
    else:
        dataset.PixelData = fragments(b"", frame, TEXT)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = bytes(8), len(frame).to_bytes(8, "little")
    if place == "offset table":
        with pytest.raises(IngestError, match="another number of frames"):
            through(dataset, key, tmp_path)
        return
    new, data = through(dataset, key, tmp_path)
    assert not holds_a_word(data)
    assert "ExtendedOffsetTable" not in new
    assert np.array_equal(stored(new), expected)


def test_a_text_between_the_frames_of_an_extended_offset_table_is_cut(key: Key, tmp_path: Path) -> None:
    dataset = compressed(JPEG2000Lossless, NumberOfFrames=2)
    frame = frame_of(dataset)
    frame += b"\0" * (len(frame) % 2)
    text = TEXT + b"\0" * (len(TEXT) % 2)
    dataset.PixelData = fragments(b"", frame, text, frame)
    offsets = (0, len(frame) + len(text) + 16)
    dataset.ExtendedOffsetTable = b"".join(one.to_bytes(8, "little") for one in offsets)
    dataset.ExtendedOffsetTableLengths = len(frame).to_bytes(8, "little") * 2
    new, data = through(dataset, key, tmp_path)
    assert not holds_a_word(data)
    assert new.NumberOfFrames == 2
    assert new.pixel_array.shape == (2, 32, 32)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, ExplicitVRLittleEndian])
def test_frames_are_written_one_by_one(syntax: UID, key: Key, tmp_path: Path) -> None:
    """The screens refuse several frames; the engine alone loses none."""
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    pixels = [picture(bits=bits, seed=seed) for seed in range(3)]
    dataset = make_radiograph(pixels[0], bits=bits, NumberOfFrames=3)
    if syntax in COMPRESSED:
        frames = [encode(one, syntax, bits) for one in pixels]
        place = "behind the end"
        put(dataset, syntax, *(places(syntax)[place](frame, TEXT) for frame in frames))
    else:
        dataset.PixelData = b"".join(one.tobytes() for one in pixels) + TEXT + b"\0"
    expected = [stored_pixels(dataset, index).values for index in range(3)]
    new, data = through(dataset, key, tmp_path)
    assert not holds_a_word(data)
    assert all(np.array_equal(stored_pixels(new, index).values, expected[index]) for index in range(3))


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


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_stream_that_is_cut_short_is_refused(syntax: UID, key: Key, tmp_path: Path) -> None:
    dataset = compressed(syntax)
    frame = frame_of(dataset)
    tenths = [len(frame) * tenth // 10 for tenth in range(1, 10)]
    for length in (2, 30, *tenths, len(frame) - 2, len(frame) - 1):
        if syntax == RLELossless and length > len(frame) - 3:
            continue  # may be the padding of a segment
        with pytest.raises(IngestError):
            through(put(dataset, syntax, frame[:length]), key, tmp_path)


def test_pixels_stay_native_where_no_encoder_gives_them_back(key: Key, tmp_path: Path, monkeypatch) -> None:
    def fails(*_: object, **__: object) -> bytes:
        raise RuntimeError("Koch")

    dataset, plain = compressed(JPEG2000Lossless), encode(picture(), RLELossless, 12)
    other = encode(picture(seed=1), RLELossless, 12)
    monkeypatch.setattr("pydicom.pixels.encoders.base.Encoder.encode", fails)
    new, _ = through(dataset, key, tmp_path)
    assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(stored(new), picture())
    monkeypatch.setattr("pydicom.pixels.encoders.base.Encoder.encode", lambda *_, **__: other)
    new, _ = through(put(dataset, RLELossless, plain), key, tmp_path)
    assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(stored(new), picture())


@pytest.mark.parametrize(
    "attributes",
    [{"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, {"PhotometricInterpretation": "PALETTE COLOR"}],
)
def test_colour_is_refused(attributes: dict[str, object], key: Key, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"\(0028,0004\)|must be MONOCHROME1 or MONOCHROME2"):
        through(make_radiograph(picture(), **attributes), key, tmp_path)


def test_a_syntax_without_decoder_is_refused(key: Key, tmp_path: Path) -> None:
    dataset = put(make_radiograph(picture()), MPEG2MPML, TEXT)
    with pytest.raises(IngestError, match="not decoded here"):
        through(dataset, key, tmp_path)
    eight = encode(picture(bits=8), JPEGExtended12Bit, 8)
    twelve = put(
        make_radiograph(picture()), JPEGExtended12Bit, eight.replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc1\0\x0b\x0c")
    )
    with pytest.raises(IngestError, match="JPEG Extended"):
        through(twelve, key, tmp_path)


def _icon(dataset: Dataset) -> None:
    icon = make_radiograph(picture(8, 8), bits=8)
    item = Dataset()
    for element in icon.group_dataset(0x0028):
        item[element.tag] = element
    item.PixelData = icon.PixelData + TEXT + b"\0"
    item["PixelData"].VR = "OB"
    dataset.IconImageSequence = Sequence([item])


def _nested(dataset: Dataset) -> None:
    item = Dataset()
    item.add_new(0x7FE00010, "OW", TEXT + b"\0")
    item.add_new(0x00283006, "OW", TEXT + b"\0")
    dataset.AnatomicRegionSequence = Sequence([item])


def _waveform(dataset: Dataset) -> None:
    item = Dataset()
    item.add_new(0x54001010, "OW", TEXT + b"\0")
    item.ChannelLabel = TEXT.decode()
    dataset.WaveformSequence = Sequence([item])


def _tags(text: bytes) -> list[int]:
    """Tags whose bytes in a little endian file are a text."""
    return [int(group) << 16 | int(element) for group, element in np.frombuffer(text, "<u2").reshape(-1, 2)]


OTHER_BULK = {
    "icon": _icon,
    "pixel data of an item": _nested,
    "waveform": _waveform,
    "float pixel data": lambda d: d.add_new(0x7FE00008, "OF", TEXT + bytes(3)),
    "double float pixel data": lambda d: d.add_new(0x7FE00009, "OD", TEXT + bytes(3)),
    "encapsulated document": lambda d: d.add_new(0x00420011, "OB", TEXT + b"\0"),
    "curve": lambda d: d.add_new(0x50003000, "OW", TEXT + b"\0"),
    "audio": lambda d: d.add_new(0x5000200C, "OW", TEXT + b"\0"),
    "overlay": lambda d: d.add_new(0x60003000, "OW", TEXT + b"\0"),
    "overlay of a high group": lambda d: d.add_new(0x60FE3000, "OB", TEXT + b"\0"),
    "overlay label": lambda d: d.add_new(0x60001500, "LO", TEXT.decode()),
    "palette": lambda d: d.add_new(0x00281201, "OW", TEXT + b"\0"),
    "segmented palette": lambda d: d.add_new(0x00281221, "OW", TEXT + b"\0"),
    "smallest value as text": lambda d: d.add_new(0x00280106, "US", np.frombuffer(TEXT + b"\0", "<u2").tolist()),
    "padding value as text": lambda d: d.add_new(0x00280120, "US", np.frombuffer(TEXT + b"\0", "<u2").tolist()),
    "frame increment pointer": lambda d: d.add_new(0x00280009, "AT", _tags(TEXT + bytes(3))),
    "variable pixel data": lambda d: d.add_new(0x7F000010, "OW", TEXT + b"\0"),
    "coefficients": lambda d: d.add_new(0x7FE00020, "OW", TEXT + b"\0"),
    "digital signature": lambda d: d.add_new(0x04000120, "OB", TEXT + b"\0"),
    "encrypted attributes": lambda d: d.add_new(0x04000520, "OB", TEXT + b"\0"),
    "pixel data provider": lambda d: d.add_new(0x00287FE0, "UR", TEXT.decode()),
    "trailing padding": lambda d: d.add_new(0xFFFCFFFC, "OB", TEXT + b"\0"),
}


# attributes of the picture itself, and two kinds of pixels at once
REFUSED_BULK = {"padding value as text", "smallest value as text", "float pixel data", "double float pixel data"}


@pytest.mark.parametrize("kind", OTHER_BULK)
def test_a_text_in_other_bulk_data_goes_or_is_refused(kind: str, key: Key, tmp_path: Path) -> None:
    dataset = make_radiograph(picture())
    OTHER_BULK[kind](dataset)
    if kind in REFUSED_BULK:
        with pytest.raises(IngestError) as caught:
            through(dataset, key, tmp_path)
        assert not holds_a_word(str(caught.value).encode())
        return
    new, data = through(dataset, key, tmp_path)
    assert holds_a_word((tmp_path / "in.dcm").read_bytes())
    assert not holds_a_word(data)
    assert np.array_equal(stored(new), picture())


@pytest.mark.parametrize("instead", ["FloatPixelData", "DoubleFloatPixelData"])
def test_pixels_of_floating_point_are_refused(instead: str, key: Key, tmp_path: Path) -> None:
    dataset = make_radiograph(picture())
    setattr(dataset, instead, picture().astype("<f8" if instead.startswith("Double") else "<f4").tobytes())
    del dataset.PixelData
    with pytest.raises(IngestError, match="no pixel data"):
        through(dataset, key, tmp_path)


def test_bytes_behind_the_data_set_are_not_read(key: Key, tmp_path: Path) -> None:
    dataset = make_radiograph(picture())
    dataset.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    with open(tmp_path / "in.dcm", "ab") as file:
        file.write(b"\x10\0\x20\0LO" + len(TEXT + b"\0").to_bytes(2, "little") + TEXT + b"\0" + TEXT)
    result = deidentify(read_dicom(tmp_path / "in.dcm"), PLAIN, key)
    buffer = io.BytesIO()
    dcmwrite(buffer, result.dataset, enforce_file_format=True)
    assert not holds_a_word(buffer.getvalue())
