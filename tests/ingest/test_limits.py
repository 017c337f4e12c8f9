"""Files that claim little and become much: refused on the bytes, by the reader and by the de-identification alike."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from medidistill.errors import IngestError
from medidistill.ingest import decoding
from medidistill.ingest.codestream import Codestream, Coding, read_codestream
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.dicom import read_header, read_image
from medidistill.ingest.dicom_file import read_dicom_file
from tests.ingest.conftest import make_radiograph
from tests.support.codestreams import box, jp2

READERS = (read_image, read_header, read_dicom)
PIXELS = np.arange(64 * 96).reshape(64, 96) % 4096


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element of Explicit VR Little Endian with a length of two bytes."""
    value += b"\0" * (len(value) % 2)
    return (
        (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr + len(value).to_bytes(2, "little")
    ) + value


def deflated(path: Path, content: bytes, meta: bytes | None = None) -> Path:
    """A file whose meta information holds the deflated transfer syntax and no group length."""
    meta = element(0x00020010, b"UI", DeflatedExplicitVRLittleEndian.encode()) if meta is None else meta
    stream = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    path.write_bytes(b"\0" * 128 + b"DICM" + meta + stream.compress(content) + stream.flush())
    return path


def body(dataset: pydicom.Dataset) -> bytes:
    """What stands behind the file meta information, in Explicit VR Little Endian."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def sequence(items: int, order: str = "little") -> bytes:
    tag = bytes.fromhex("08001822" if order == "little" else "00082218") + b"SQ\0\0\xff\xff\xff\xff"
    one, end = ("feff00e0", "feffdde0") if order == "little" else ("fffee000", "fffee0dd")
    return tag + (bytes.fromhex(one) + bytes(4)) * items + bytes.fromhex(end) + bytes(4)


@pytest.mark.parametrize(
    "meta",
    [
        element(0x00020000, b"UL", bytes(4)),  # a group length of 0
        element(0x00020000, b"UL", (4000).to_bytes(4, "little")),
        b"",  # none
        element(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.1") + element(0x00020003, b"UI", b"2.25.1"),
        element(0x00020013, b"SH", b"PHANTOM")
        + b"\x02\x00\x02\x01OB\0\0"
        + (70000).to_bytes(4, "little")
        + bytes(70000),
    ],
    ids=["length 0", "length too long", "no length", "other elements first", "70,000 bytes first"],
)
def test_deflated_bomb_whatever_the_file_meta_information_says(tmp_path, radiograph, monkeypatch, meta: bytes) -> None:
    syntax = element(0x00020010, b"UI", DeflatedExplicitVRLittleEndian.encode())
    path = deflated(tmp_path / "a", body(radiograph(np.zeros((800, 800)))), meta + syntax)
    for read in READERS:
        read(path)
    monkeypatch.setattr("medidistill.ingest.limits._MOST_BYTES", 1 << 20)
    for read in READERS:
        with pytest.raises(IngestError, match="unpacks to more than 1048576 bytes"):
            read(path)


def test_large_file_is_refused_before_it_is_parsed(tmp_path, save, monkeypatch) -> None:
    path = save(tmp_path / "a", np.zeros((100, 100)))
    monkeypatch.setattr("medidistill.ingest.limits._MOST_BYTES", 10000)
    for read in READERS:
        with pytest.raises(IngestError, match="more than 10000 bytes"):
            read(path)


@pytest.mark.parametrize(
    ("syntax", "order"),
    [
        (ExplicitVRLittleEndian, "little"),
        (ExplicitVRBigEndian, "big"),
        (DeflatedExplicitVRLittleEndian, "little"),
    ],
)
def test_millions_of_sequence_items_are_refused(tmp_path, syntax, order: str) -> None:
    path, content = tmp_path / "a", sequence(70_000, order)
    if syntax == DeflatedExplicitVRLittleEndian:
        assert deflated(path, content).stat().st_size < 2000
    else:
        path.write_bytes(b"\0" * 128 + b"DICM" + element(0x00020010, b"UI", syntax.encode()) + content)
    for read in READERS:
        with pytest.raises(IngestError, match="more than 65536 sequence items"):
            read(path)


def test_sequence_items_in_the_file_meta_information_are_refused(tmp_path) -> None:
    items = sequence(70_000)
    (tmp_path / "a").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00" + items[2:])
    with pytest.raises(IngestError, match="sequence items"):
        read_dicom_file(tmp_path / "a")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_header_of_17_million_bytes_is_refused(tmp_path, radiograph, syntax) -> None:
    dataset = radiograph(np.zeros((8, 8)))
    dataset.add_new(0x00181618, "DS", "1")
    content = body(dataset)
    at = content.index(b"\x18\x00\x18\x16DS")
    many = b"1\\" * (17 << 19)
    long = content[:at] + b"\x18\x00\x18\x16UT\0\0" + len(many).to_bytes(4, "little") + many + content[at + 10 :]
    if syntax == DeflatedExplicitVRLittleEndian:
        deflated(tmp_path / "a", long)
    else:
        (tmp_path / "a").write_bytes(b"\0" * 128 + b"DICM" + element(0x00020010, b"UI", syntax.encode()) + long)
    for read in (read_image, read_dicom):
        with pytest.raises(IngestError, match="more than 16777216 bytes besides the pixel data"):
            read(tmp_path / "a")


def test_large_pixel_data_are_no_header(tmp_path, save) -> None:
    path = save(tmp_path / "a", np.zeros((3000, 3000)))
    assert path.stat().st_size > 1 << 24
    assert read_image(path).shape == (3000, 3000)


def stream_of(syntax: str, pixels=PIXELS) -> bytes:
    if syntax == "JPEG":
        buffer = io.BytesIO()
        Image.fromarray((pixels >> 4).astype(np.uint8)).save(buffer, "JPEG")
        return buffer.getvalue()
    dataset = make_radiograph(pixels)
    dataset.compress({"JPEG-LS": JPEGLSLossless}.get(syntax, JPEG2000Lossless))
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    return jp2(stream) if syntax == "JP2" else stream


@pytest.mark.parametrize("syntax", ["JPEG", "JPEG-LS", "J2K", "JP2"])
def test_sizes_of_codestreams(syntax: str) -> None:
    expected = {
        "JPEG": Codestream(Coding.JPEG, 64, 96, 8, process=0xC0),
        "JPEG-LS": Codestream(Coding.JPEG_LS, 64, 96, 12),
    }
    assert read_codestream(stream_of(syntax)) == expected.get(syntax, Codestream(Coding.JPEG_2000, 64, 96, 12))


def test_sizes_in_jp2_boxes_of_every_form() -> None:
    stream = stream_of("J2K")
    for how in ({}, {"wide": True}, {"to_the_end": True}):
        assert read_codestream(jp2(stream, **how)) == Codestream(Coding.JPEG_2000, 64, 96, 12)


@pytest.mark.parametrize(
    "frame",
    [
        *[b"", b"RLE", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xda\0\0\0\0\0", b"\xff\xd8\xff\xc0\0\x0b\x08\0\x40\0"],
        b"\xff\xd8junk" + stream_of("JPEG")[2:],  # decoders skip to the next marker
        b"\xff\xd8\xff\xc0\0\x02" + stream_of("JPEG")[2:],
        stream_of("J2K")[:40],
        stream_of("J2K")[:2] + b"\xff\x64\0\4\0\1" + stream_of("J2K")[2:],
        jp2(b""),
        jp2(stream_of("J2K"))[:60],
        box(b"jP  ", b"\r\n\x87\n") + box(b"free", b"") * 2,
        box(b"jP  ", b"\r\n\x87\n") + b"\0\0\0\2jp2c",
    ],
)
def test_no_size_where_the_header_is_not_in_its_place(frame: bytes) -> None:
    assert read_codestream(frame) is None


def encapsulated(radiograph, syntax, frames: list[bytes], bits: int = 12, **attributes) -> pydicom.Dataset:
    dataset = radiograph(PIXELS >> (12 - bits), bits=bits, **attributes)
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def test_a_stream_that_hides_its_size_is_refused(tmp_path, radiograph) -> None:
    stream = stream_of("JPEG")
    for number, frame in enumerate((b"\xff\xd8junk" + stream[2:], stream[2:])):
        dataset = encapsulated(radiograph, JPEGBaseline8Bit, [frame], bits=8)
        dataset.save_as(tmp_path / str(number), enforce_file_format=True)
        with pytest.raises(IngestError, match="does not begin with a header that gives its size"):
            read_image(tmp_path / str(number))


def test_a_jp2_file_of_another_size_is_refused(tmp_path, radiograph) -> None:
    stream = stream_of("J2K")
    for rows, match in ((64, None), (60000, "differs in size from")):
        lie = jp2(stream[:8] + (96).to_bytes(4, "big") + rows.to_bytes(4, "big") + stream[16:])
        encapsulated(radiograph, JPEG2000Lossless, [lie]).save_as(tmp_path / str(rows), enforce_file_format=True)
        if match is None:
            assert read_image(tmp_path / str(rows)).shape == (64, 96)
        else:
            with pytest.raises(IngestError, match=match):
                read_image(tmp_path / str(rows))


def test_a_stream_of_thousands_of_components_is_refused(tmp_path, radiograph) -> None:
    stream, components = stream_of("J2K"), 16384
    siz = (38 + 3 * components).to_bytes(2, "big") + stream[6:40] + components.to_bytes(2, "big")
    lie = stream[:4] + siz + stream[42:45] * components + stream[45:]
    encapsulated(radiograph, JPEG2000Lossless, [lie]).save_as(tmp_path / "a", enforce_file_format=True)
    with pytest.raises(IngestError, match=r"components from \(0028,0002\)"):
        read_image(tmp_path / "a")


def test_the_frame_that_is_measured_is_the_one_that_is_decoded(tmp_path, radiograph) -> None:
    """An extended offset table may point at another fragment than the first."""
    small, large = stream_of("J2K"), stream_of("J2K", np.zeros((640, 960), int))
    small, large = (stream + b"\0" * (len(stream) % 2) for stream in (small, large))
    for number, frames in enumerate(([small, large], [large, small])):
        dataset = encapsulated(radiograph, JPEG2000Lossless, frames)
        dataset.PixelData = encapsulate(frames, has_bot=False)
        dataset.ExtendedOffsetTable = (len(frames[0]) + 8).to_bytes(8, "little")
        dataset.ExtendedOffsetTableLengths = len(frames[1]).to_bytes(8, "little")
        dataset.save_as(tmp_path / str(number), enforce_file_format=True)
    with pytest.raises(IngestError, match="differs in size from"):
        read_image(tmp_path / "0")
    assert read_image(tmp_path / "1").shape == (64, 96)


@pytest.mark.parametrize("extended", [False, True])
def test_an_offset_table_of_more_frames_is_refused(tmp_path, radiograph, extended: bool) -> None:
    dataset = encapsulated(radiograph, JPEG2000Lossless, [stream_of("J2K")] * 2)
    if extended:
        dataset.PixelData = encapsulate([stream_of("J2K")] * 2, has_bot=False)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = bytes(16), bytes(16)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    with pytest.raises(IngestError, match="another number of frames"):
        read_image(tmp_path / "a")


def test_native_pixels_under_a_compressed_syntax_are_named(tmp_path, radiograph) -> None:
    dataset = radiograph(PIXELS)
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data = bytes(dataset.PixelData)
    dataset.PixelData = encapsulate([data])
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    content = (tmp_path / "a").read_bytes()
    at = content.index(b"\xe0\x7f\x10\x00O") + 8
    (tmp_path / "a").write_bytes(content[:at] + len(data).to_bytes(4, "little") + data)
    with pytest.raises(IngestError, match="Pixel Data is not encapsulated"):
        read_image(tmp_path / "a")


def test_the_decoder_may_not_take_all_memory(radiograph) -> None:
    dataset = encapsulated(radiograph, JPEG2000Lossless, [stream_of("J2K")])
    assert decoding.stored_pixels(dataset).values.shape == (64, 96)
    limits = Path(f"/proc/{decoding._decoder._process.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max data size"))
    assert line.split()[3] == str(8 << 30)
