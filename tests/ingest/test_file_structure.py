"""DICOM files without preamble, meta information or transfer syntax, in every byte order: read, or named."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest import dicom_file
from medidistill.ingest.dicom import file_kind, read_header, read_radiograph, unknown_kind
from medidistill.ingest.notices import Notice
from medidistill.ingest.other_objects import kind_of_object

from .builders import chest, encode_cells, make_film

WINDOW = {"WindowCenter": "2000", "WindowWidth": "3500", "VOILUTFunction": "LINEAR_EXACT"}
PREFIX = b"\0" * 128 + b"DICM"


def body(syntax=ExplicitVRLittleEndian, **attributes):
    """The data set alone, as `syntax` encodes it."""
    film = make_film(chest(), syntax=syntax, SpecificCharacterSet="ISO_IR 100", **WINDOW, **attributes)
    return encoded(film, syntax)


def encoded(film, syntax):
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    write_dataset(buffer, film)
    return buffer.getvalue()


def element(group, number, vr, value):
    """One element with explicit VR, little endian."""
    value += b"\0" * (len(value) % 2)
    length = len(value).to_bytes(2, "little") if vr != b"OB" else b"\0\0" + len(value).to_bytes(4, "little")
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + length + value


def meta(syntax, *, group_length=None, pad=b"\0"):
    """File meta information; `syntax` None and `group_length` '' leave these elements out."""
    parts = element(2, 1, b"OB", b"\0\1") + element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.1.1")
    parts += element(2, 3, b"UI", b"2.25.1")
    if syntax is not None:
        text = str(syntax).encode()
        parts += element(2, 0x10, b"UI", text + pad * (len(text) % 2))
    parts += element(2, 0x12, b"UI", b"1.2.3")
    if group_length == "":
        return parts
    length = len(parts) if group_length is None else group_length
    return element(2, 0, b"UL", length.to_bytes(4, "little")) + parts


def read(tmp_path, data):
    path = tmp_path / "film"
    path.write_bytes(data)
    return read_radiograph(path).rendered


def expected():
    return np.clip((chest() - 2000) / 3500 + 0.5, 0, 1)


EXPLICIT, IMPLICIT, BIG = ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian


@pytest.mark.parametrize(
    ("data", "notices"),
    [
        (PREFIX + meta(EXPLICIT) + body(), []),
        (PREFIX + meta(IMPLICIT) + body(IMPLICIT), []),
        (PREFIX + meta(BIG) + body(BIG), []),
        (body(), [Notice.NO_PREAMBLE, Notice.NO_TRANSFER_SYNTAX]),
        (body(IMPLICIT), [Notice.NO_PREAMBLE, Notice.NO_TRANSFER_SYNTAX]),
        (body(BIG), [Notice.NO_PREAMBLE, Notice.NO_TRANSFER_SYNTAX]),
        (meta(EXPLICIT) + body(), [Notice.NO_PREAMBLE]),
        (meta(BIG) + body(BIG), [Notice.NO_PREAMBLE]),
        (b"DICM" + meta(EXPLICIT) + body(), [Notice.NO_PREAMBLE]),
        (PREFIX + body(), [Notice.NO_TRANSFER_SYNTAX]),
        (PREFIX + meta(None) + body(), [Notice.NO_TRANSFER_SYNTAX]),
        (PREFIX + meta(None) + body(IMPLICIT), [Notice.NO_TRANSFER_SYNTAX]),
        (PREFIX + meta(None) + body(BIG), [Notice.NO_TRANSFER_SYNTAX]),
        (PREFIX + meta("") + body(), [Notice.NO_TRANSFER_SYNTAX]),
        (PREFIX + meta(EXPLICIT) + body(IMPLICIT), [Notice.OTHER_VR_ENCODING]),
        (PREFIX + meta(IMPLICIT) + body(), [Notice.OTHER_VR_ENCODING]),
        (PREFIX + meta(EXPLICIT, pad=b" ") + body(), []),
        (PREFIX + meta(BIG, pad=b" ") + body(BIG), []),
        (PREFIX + meta(EXPLICIT, group_length=0) + body(), []),
        (PREFIX + meta(EXPLICIT, group_length=9999) + body(), []),
        (PREFIX + meta(EXPLICIT, group_length="") + body(), []),
        (b"II*\0" + bytes(124) + b"DICM" + meta(EXPLICIT) + body(), []),
        (b"\x89PNG\r\n\x1a\n" + bytes(120) + b"DICM" + meta(EXPLICIT) + body(), []),
    ],
)
def test_read_with_what_is_missing_said(tmp_path, data, notices):
    found = read(tmp_path, data)
    np.testing.assert_allclose(found.picture, expected(), atol=1e-6)
    assert list(found.notices) == notices
    assert file_kind(tmp_path / "film") == "dicom"
    assert read_header(tmp_path / "film").patient_id == "PHANTOM-1"


@pytest.mark.parametrize(
    "tail",
    [
        *(b"\0", b"\0" * 500, b"\xff" * 500, b"text behind the pixels", bytes(range(256)) * 4),
        element(0x28, 0x1050, b"DS", b"9999"),  # an element before, again: the first one counts
        element(0x7FE0, 0x10, b"OB", b"\0" * 64) + element(0x28, 0x1051, b"DS", b"1"),
        body()[:900],
    ],
)
def test_bytes_behind_the_pixels_change_nothing(tmp_path, tail):
    found = read(tmp_path, PREFIX + meta(EXPLICIT) + body() + tail)
    np.testing.assert_allclose(found.picture, expected(), atol=1e-6)


def deflated(data):
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


@pytest.mark.parametrize("start", [PREFIX, b""])
@pytest.mark.parametrize("group_length", [None, ""])
@pytest.mark.parametrize("tail", [b"", b"\0", b"\0" * 100])
def test_deflated(tmp_path, start, group_length, tail):
    syntax = DeflatedExplicitVRLittleEndian
    found = read(tmp_path, start + meta(syntax, group_length=group_length) + deflated(body()) + tail)
    np.testing.assert_allclose(found.picture, expected(), atol=1e-6)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("side", [32, 31])
def test_pixels_of_8_bits_in_words(tmp_path, syntax, side):
    """OW in big endian swaps each pair of pixels; an odd number is padded, and one pad byte may be missing."""
    values = chest(255, side)
    film = make_film(values, allocated=8, stored=8, syntax=syntax)
    whole = PREFIX + meta(syntax) + encoded(film, syntax)
    np.testing.assert_allclose(read(tmp_path, whole).picture, values / 255, atol=1e-6)
    if side % 2 and syntax != BIG:
        np.testing.assert_allclose(read(tmp_path, whole[:-1]).picture, values / 255, atol=1e-6)


WHOLE = PREFIX + meta(EXPLICIT) + body()
COMPRESSED = encode_cells(chest(), JPEG2000Lossless, stored=12)
COMPRESSED_BODY = encoded(COMPRESSED, EXPLICIT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (WHOLE[:-100], r"the file ends within \(7FE0,0010\) Pixel Data"),
        (WHOLE[:400], "the file ends within its header"),
        (PREFIX + meta(EXPLICIT), "the file ends behind its file meta information: no data set"),
        (PREFIX + meta(JPEG2000Lossless) + COMPRESSED_BODY[:-200], r"the file ends within \(7FE0,0010\) Pixel Data"),
        (PREFIX + meta("1.2.840.113619.5.2") + body(IMPLICIT), r"\(0002,0010\) Transfer Syntax UID is none of the"),
        (PREFIX + meta("1.2.840.10008.1.2.4.9999") + body(), r"\(0002,0010\) Transfer Syntax UID is none of the"),
        (PREFIX + meta("1.2.840.10008.5.1.4.1.1.1.1") + body(), r"\(0002,0010\) Transfer Syntax UID is none of the"),
        (
            PREFIX + meta(JPEGLosslessSV1) + body(),
            r"is compressed, but .* is not encapsulated",
        ),
        (PREFIX + meta(EXPLICIT) + COMPRESSED_BODY, r"is uncompressed, but \(7FE0,0010\) Pixel Data is encapsul"),
        (PREFIX + meta(None) + COMPRESSED_BODY, r"\(0002,0010\) Transfer Syntax UID is missing: compressed pixel data"),
        (COMPRESSED_BODY, r"\(0002,0010\) Transfer Syntax UID is missing: compressed pixel data"),
        (PREFIX + meta(JPEGLSLossless) + COMPRESSED_BODY, r"is JPEG-LS, but \(7FE0,0010\) Pixel Data holds JPEG 2000"),
        (PREFIX + meta(RLELossless) + COMPRESSED_BODY, "cut short at its header"),
        (PREFIX + meta("1.2.840.10008.1.2.4.55") + COMPRESSED_BODY, r"unreadable pixels \(JPEG .*, no decoder"),
        (PREFIX + meta(EXPLICIT) + body(BIG), r"\(0002,0010\) .* is little endian, but the data set is big endian"),
        (PREFIX + meta(BIG) + body(), r"\(0002,0010\) .* is big endian, but the data set is little endian"),
        (PREFIX + meta(None) + b"\x01\x02\x03\x04 words", r"is missing, and the data set does not show its encoding"),
        (PREFIX + meta(DeflatedExplicitVRLittleEndian) + body(), "the deflated data set is damaged"),
        (PREFIX + meta(DeflatedExplicitVRLittleEndian) + deflated(body())[:-50], "ends within its deflated data set"),
        (PREFIX + meta(EXPLICIT) + body(PixelData=b""), r"\(7FE0,0010\) Pixel Data is empty"),
        (PREFIX + meta(EXPLICIT) + body(PixelData=None), r"no pixel data \(modality DX\)"),
        (PREFIX + meta(EXPLICIT) + body(PixelData=None, FloatPixelData=b"\0" * 4096), "floating-point pixel data"),
    ],
)
def test_refused_with_what_is_missing(tmp_path, data, message):
    with pytest.raises(IngestError, match=message) as caught:
        read(tmp_path, data)
    assert "PHANTOM" not in str(caught.value)
    assert "Error" not in str(caught.value)


@pytest.mark.parametrize("frames", ["0", ""])
def test_no_frames_are_one(tmp_path, frames):
    film = PREFIX + meta(EXPLICIT) + body(NumberOfFrames=frames)
    np.testing.assert_allclose(read(tmp_path, film).picture, expected(), atol=1e-6)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "empty file"),
        (b"path,label\na.dcm,cat\n", "neither DICOM nor PNG nor JPEG"),
        (b"\x08\x00 a text that begins like a group", "neither DICOM nor PNG nor JPEG"),
        (b"\x08\x00\x05\x00", "neither DICOM nor PNG nor JPEG"),
        (b"\x02\x00\x00\x00\x01\x00\x00\x00", "neither DICOM nor PNG nor JPEG"),
        (b"BMI,age\n1,2\n", "neither DICOM nor PNG nor JPEG"),
        (b"P5A", "neither DICOM nor PNG nor JPEG"),
        (b"II*\0" + bytes(200), "TIFF: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"MM\0*" + bytes(200), "TIFF: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"\xff\x4f\xff\x51", "JPEG 2000: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"BM\x36\0\x0c\0\0\0\0\0\x36\0\0\0", "BMP: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"P5\n4 4\n255\n", "PGM: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"),
        (b"GIF89a", "GIF: must be DICOM, PNG or JPEG"),
        (b"\x1f\x8b\x08", "gzip: must be DICOM, PNG or JPEG"),
        (b"PK\x03\x04", "zip: must be DICOM, PNG or JPEG"),
    ],
)
def test_other_files_are_named(tmp_path, start, message):
    path = tmp_path / "film.dcm"
    path.write_bytes(start)
    assert file_kind(path) == ""
    assert unknown_kind(path) == message
    with pytest.raises(IngestError, match=message.split(":")[0]):
        read_radiograph(path)


def test_headers_are_told_by_content_alone(tmp_path):
    """Random bytes are no data set without preamble."""
    rng = np.random.default_rng(0)
    path = tmp_path / "noise"
    for _ in range(300):
        path.write_bytes(bytes([8, 0]) + rng.bytes(600))
        assert file_kind(path) == ""


def test_damage_that_only_describes_the_film_costs_no_film(tmp_path):
    """View and body part are what a header says besides: sequences that are none are left aside."""
    film = make_film(chest(), **WINDOW)
    for tag, vr in ((0x00540220, "OB"), (0x00082218, "OB"), (0x00185101, "OB"), (0x00200020, "OB")):
        film.add_new(tag, vr, b"no sequence at all, but \xff\xfe\0\1 bytes\0")
    data = PREFIX + meta(EXPLICIT) + encoded(film, EXPLICIT)
    for tag in (b"\x54\x00\x20\x02", b"\x08\x00\x18\x22"):
        data = data.replace(tag + b"OB", tag + b"UN")
    np.testing.assert_allclose(read(tmp_path, data).picture, expected(), atol=1e-6)


def test_a_header_is_read_without_the_pixels_of_a_large_film(tmp_path, save, monkeypatch):
    path = save(tmp_path / "film", np.zeros((800, 800)), PatientID="PHANTOM-7")
    monkeypatch.setattr(dicom_file, "read_bounded", lambda file: pytest.fail("the whole file was read"))
    assert read_header(path).patient_id == "PHANTOM-7"
    assert not kind_of_object(path)


@pytest.mark.parametrize("deflate", [False, True])
def test_a_header_longer_than_its_first_part_is_read_to_its_end(tmp_path, radiograph, deflate):
    noise = np.random.default_rng(0).integers(0, 256, 400_000, dtype=np.uint8).tobytes()
    dataset = radiograph(np.zeros((500, 500)), PatientID="PHANTOM-7")
    dataset.add_new(0x00080018, "UI", "2.25.7")
    dataset.private_block(0x0009, "PHANTOM", create=True).add_new(0x01, "OB", noise)
    if deflate:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "film", enforce_file_format=True)
    assert read_header(tmp_path / "film").patient_id == "PHANTOM-7"


@pytest.mark.parametrize("first", [140, 400, 600, 1000, 1500])
@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)
def test_it_does_not_matter_where_the_first_part_ends(tmp_path, radiograph, monkeypatch, syntax, first):
    film = make_film(chest(), syntax=syntax, PatientID="PHANTOM-7", StudyInstanceUID="2.25.9")
    film.save_as(tmp_path / "film", enforce_file_format=True)
    whole = read_header(tmp_path / "film")
    monkeypatch.setattr(dicom_file, "_FIRST", first)
    assert read_header(tmp_path / "film") == whole
    assert whole.patient_id == "PHANTOM-7"
