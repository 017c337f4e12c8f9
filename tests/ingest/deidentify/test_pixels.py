"""Pixel data are written anew: the stored values come through, and nothing that rode along with them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest.decoding import stored_pixels
from medidistill.ingest.deidentify import Key, deidentify
from medidistill.ingest.deidentify.reading import read_dicom
from tests.ingest.conftest import make_radiograph
from tests.ingest.deidentify.pixel_example import NATIVE, PLAIN, TEXT, holds_a_word, native, stored, through
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
