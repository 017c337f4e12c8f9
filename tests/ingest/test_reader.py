"""The reader at its edges: transfer syntaxes, depths, padding, frames, claims that are lies, silence about values."""

from __future__ import annotations

import base64
import io
import os
import signal
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest import decoding, ingest
from medidistill.ingest.dicom import read_header, read_image, render

SIGNED = np.array([[-2048, -1], [0, 2047]])
UNSIGNED = np.array([[0, 1000], [2000, 4095]])


def close(picture, expected):
    np.testing.assert_allclose(picture, np.asarray(expected, dtype=np.float32), rtol=0, atol=1e-6)


def write(dataset, path, syntax):
    """Write with another transfer syntax: byte order of the pixels and compression follow it."""
    if syntax.is_compressed and not syntax.is_deflated:
        dataset.compress(syntax)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize(("pixels", "signed"), [(UNSIGNED, False), (SIGNED, True)])
def test_transfer_syntaxes_give_the_pixels_that_went_in(tmp_path, radiograph, syntax, pixels, signed):
    pixels = np.tile(pixels, (32, 32))
    path = write(radiograph(pixels, signed=signed), tmp_path / "a", syntax)
    close(read_image(path), (pixels + (2048 if signed else 0)) / 4095)


def test_jpeg_baseline(tmp_path, radiograph):
    flat = np.kron(np.array([[0, 51], [102, 255]]), np.ones((8, 8)))  # a value a block: its mean alone is coded
    dataset, buffer = radiograph(flat, bits=8), io.BytesIO()
    Image.fromarray(flat.astype(np.uint8)).save(buffer, "JPEG", quality=100)
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    np.testing.assert_allclose(read_image(tmp_path / "a"), flat / 255, atol=1.01 / 255)


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("signed", [False, True])
def test_every_depth_from_8_to_16_bits(tmp_path, save, bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    path = save(tmp_path / "a", [[low, 0 if signed else 2 ** (bits - 1), high]], bits=bits, signed=signed)
    close(read_image(path), [[0, 2 ** (bits - 1) / (2**bits - 1), 1]])


def test_modality_lut_and_window_of_signed_pixels(tmp_path, save):
    item = Dataset()
    item.add_new(0x00283002, "SS", [3, -1, 16])  # the first value that is mapped is -1
    item.add_new(0x00283006, "US", [0, 100, 200])
    path = save(
        tmp_path / "a",
        [[-5, -1, 0, 1, 5]],
        signed=True,
        ModalityLUTSequence=Sequence([item]),
        WindowCenter="100",
        WindowWidth="200",
        VOILUTFunction="LINEAR_EXACT",
    )
    close(read_image(path), [[0, 0, 0.5, 1, 1]])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_air_whatever_the_photometric_interpretation(tmp_path, save, photometric):
    path = save(tmp_path / "a", [[0, 1000, 4095]], PixelPaddingValue=4095, PhotometricInterpretation=photometric)
    inner = [0, 1000 / 4095] if photometric == "MONOCHROME2" else [1, 1 - 1000 / 4095]
    close(read_image(path), [[*inner, 0]])


def test_padding_range_of_signed_pixels(tmp_path, save):
    dataset = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
    path = save(tmp_path / "a", [[-2001, -2000, -1995, -1990, -1989]], signed=True, **dataset)
    close(read_image(path), [[47 / 4095, 0, 0, 0, 59 / 4095]])


def multiframe(save, path, frames=3, **attributes):
    pixels = np.arange(frames * 4).reshape(frames * 2, 2) * 100
    return save(path, pixels, Rows=2, NumberOfFrames=frames, **attributes)


def test_frames_are_refused_or_read_one_by_one(tmp_path, save):
    path = multiframe(save, tmp_path / "a")
    with pytest.raises(IngestError, match=r"several frames.*ingest.frames: split"):
        read_image(path)
    close(read_image(path, 2), np.array([[8, 9], [10, 11]]) * 100 / 4095)
    with pytest.raises(IngestError, match="no such frame"):
        read_image(path, 3)
    assert read_header(path).frames == 3


def test_frames_become_films_of_one_patient(tmp_path, save):
    rng = np.random.default_rng(0)
    for n, label in enumerate(("cat", "dog")):
        pixels = rng.integers(0, 4095, (3 * 20, 20))
        save(tmp_path / label / "a", pixels, number=n, Rows=20, NumberOfFrames=3)
    config = IngestConfig(image_size=20, val_fraction=0, test_fraction=0, frames="split")
    result = ingest(tmp_path, config)
    assert result.train.keys == ("cat/a#1", "cat/a#2", "cat/a#3", "dog/a#1", "dog/a#2", "dog/a#3")
    assert result.manifest.patient_id.nunique() == 2
    np.testing.assert_allclose(result.train.images[5, 0], pixels[40:] / 4095, atol=1e-6)


def test_huge_dimensions_are_refused_before_they_are_set_up(tmp_path, save, radiograph):
    path = save(tmp_path / "a", [[0, 1]], Rows=65535, Columns=65535)
    with pytest.raises(IngestError, match="more than 134217728 pixels claimed"):
        read_image(path)
    dataset = radiograph(np.tile(UNSIGNED, (32, 32)))
    dataset.compress(JPEG2000Lossless)
    stream = bytes(dataset.PixelData)
    at = stream.index(b"\xff\x4f\xff\x51") + 8
    lie = stream[:at] + (60000).to_bytes(4, "big") * 2 + stream[at + 8 :]
    dataset.PixelData = lie
    dataset.save_as(tmp_path / "b", enforce_file_format=True)
    with pytest.raises(IngestError, match="compressed picture differs in size"):
        read_image(tmp_path / "b")


def test_png_bomb(tmp_path):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (40000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(IngestError, match=r"pixels claimed|DecompressionBomb"):
        read_image(tmp_path / "a.png")


def test_sequences_within_sequences_end_in_one_line(tmp_path, radiograph):
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff"
    path = tmp_path / "a"
    radiograph([[0, 1]]).save_as(path, enforce_file_format=True)
    head, pixels, rest = path.read_bytes().partition(b"\xe0\x7f\x10\x00")
    path.write_bytes(head + b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + item * 5000 + pixels + rest)
    for read in (read_image, read_header):
        with pytest.raises(IngestError) as caught:
            read(path)
        assert "\n" not in str(caught.value)


SECRET = "PHANTOM^SECRET"


@pytest.mark.parametrize(
    "attributes",
    [
        {"Modality": SECRET},
        {"PhotometricInterpretation": SECRET},
        {"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": SECRET},
        {"PixelData": None, "Modality": SECRET},
        {"SamplesPerPixel": 7},
        {"BitsStored": 33},
        {"Rows": 0},
        {"WindowCenter": "1", "WindowWidth": "-778899"},
    ],
)
def test_no_message_repeats_a_value_of_the_header(tmp_path, save, attributes):
    path = save(tmp_path / "a", [[0, 1], [2, 3]], **attributes)
    with pytest.raises(IngestError) as caught:
        read_image(path)
    assert not any(word in str(caught.value).upper() for word in ("SECRET", "778899", "33"))


@pytest.mark.parametrize("keyword", ["WindowWidth", "RescaleSlope", "PixelPaddingValue", "NumberOfFrames", "Rows"])
def test_no_message_repeats_a_damaged_number(tmp_path, save, keyword):
    marks = {"WindowCenter": "123456", "WindowWidth": "123456", "RescaleSlope": "123456", "RescaleIntercept": "0"}
    marks |= {"PixelPaddingValue": 12345, "NumberOfFrames": "123456"}
    path = save(tmp_path / "a", [[0, 1], [2, 3]], **marks)
    path.write_bytes(path.read_bytes().replace(b"123456", b"SECRET"))
    with pytest.raises(IngestError) as caught:
        read_image(path)
    assert "SECRET" not in str(caught.value)


def test_same_picture_in_eight_syntaxes():
    """pydicom's MR in every lossless coding, taken for a radiograph, is one picture."""
    pictures = []
    for name in ("MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit"):
        dataset = pydicom.dcmread(get_testdata_file(f"{name}.dcm"))
        dataset.Modality = "CR"
        pictures.append(render(dataset))
    for name in ("MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_padded"):
        dataset = pydicom.dcmread(get_testdata_file(f"{name}.dcm"))
        dataset.Modality = "CR"
        pictures.append(render(dataset))
    assert all(np.array_equal(pictures[0], picture) for picture in pictures)
    assert pictures[0].std() > 0.01


# the 16 x 16 picture of `test_streams_of_other_programs`, coded by OpenJPH and DCMTK
_STREAMS = {
    HTJ2KLossless: (
        "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABCwEB/1AACAACAAAAB/9SAAwAAgABAAIEBEAB/1wACiBweHh4cHB4"
        "/2QAFgABT3BlbkpQSCBWZXIgMC45LjAu/5AACgAAAAABagAB/5PAAW6AffCwR/51OUvya3ux6MhEEwUR0WisoQMtEKADNwDAALYgAFsQAC2w"
        "8Qi4woqlGZYP87sWWnCiuGEJJkIgEZcAuT7gAGdT64xADlYMlmBKDSUzIkIgIpcAddranMhsRHKrbBIOtUAnCEG04AEyTiCBszgAwAF6vAAX"
        "pcAAu5BN03QNr5SjDQENDa/OUebSQAjiS0Jdrw2IR3cpcukSSaXM9FTxb6qKLogb2GTW5dKlf2hUfGnQoEsDSa+6LGiwoP58mBL+DIRTo81Z"
        "/XJAiIIAsDETkQEPZVASacOBaB6OJ0RDVYYS6snQJzgoP4GG5pSfVL6hjeiTJxTBbJlLRCmRrkSPE5U4D3pe8AE27ua/QiTdihKv55MGIQDN"
        "UURn1gFDiRJF1HyIaKKIOi+RRBJ1fiiiRM2Hch7R5ocaaigRomL8CBMIMAP+hiDGsg949hDCIA+/EEBn1wH/2Q=="
    ),
    JPEGLossless: (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAHAAAAwEBAQEBAQAAAAAAAAAABwgJCgYFBAMQ/9oACAEBAAYAAP79/V6Pse/J"
        "pbNJ3YVk2ha9vXLYM6Ma0zfuw+NCqR08qrW6w6KnRjWDOjGtM37sPjH/AJ35vQ6khFs6MawZ0Y1pm/iaK9J9I5Y+h1JCLZ0Y1gzoxrTQ00Ov"
        "jH/ndQMyupIRbOjGsGdGNg3oEdiM2k+THzampxkItnRjWDOjGtM38TdG0f8ATRLH0OpIRbOjGsGdIBXrhpodjNpPkxqBmVqzn4WzpAJgzoxr"
        "TN/E3RtH/TRLH0OpIRbOjGsGdGNg3oEdiM2k+THzampxkItnRjWDOjGtNDTQ6+Mf+d1AzK6khFs6MawZ0Y1pm/iaK9J9I5Y+h1JCLZ0Y1gzo"
        "xrTN+7D4x/535vQ6khFs6MaweelR1gXkJCvhOd+b0OpIRbz0qOwZ0Y1pm/dh8aFUjp5VWt1h0VOjGsGdGNaZv3YfGP8Azvzeh1JCLZ0Y3///"
        "2Q=="
    ),
    JPEGLosslessSV1: (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAHgAAAwEBAQADAQEAAAAAAAAABwgJBgoFAgMEARD/2gAIAQEAAQAA/wB9/q6P"
        "Y78mls0ndhWTaFr29ctg9yRyqYzif2NZtqW3cV04rPe/rBms8sOyrRtjDRzXbel96CyIpDS9g2datuXHiU8b4v8AyCo3Smm8uqp1hYNz3deu"
        "N1B6KyYpjT+YVW60zssLZNg6A0PklSunMvKqzYrjX9ArNo9be4rB0zqDMSrs4K8z8sqjFsU0uaqF6b7sHWWdFgUEs6kFuU8uqrF8V0AXQ2Hm"
        "DsujVs02US7qwX5XwFdEYmGnSbkGDuSpitXzXYCdDogF3SPisx43T/8ANg79r8DA10ZjbCZLpr874fr9nqx2rB9FowH2MzXkdQP2+nodfvSX"
        "1xmdg+l/wvwfz9vt6nbkUpmE3n3sVZlg/v8AV0ex35NLZpO7Csm0LXt65bB7kjlUxnE/sazbUtu4rpxWe9/WDNZ5YdlWjbGGjmu29L70FkRS"
        "Gl///9k="
    ),
}


@pytest.mark.parametrize("syntax", [*_STREAMS, HTJ2KLosslessRPCL, HTJ2K])
def test_streams_of_other_programs(radiograph, syntax):
    y, x = np.mgrid[0:16, 0:16]
    dataset = radiograph((x * x * 7 + y * 131 + (x * y) % 13 * 50) % 4096)
    expected = render(dataset)
    dataset.PixelData = encapsulate([base64.b64decode(_STREAMS.get(syntax, _STREAMS[HTJ2KLossless]))])
    dataset["PixelData"].VR, dataset.file_meta.TransferSyntaxUID = "OB", syntax
    assert np.array_equal(render(dataset), expected)


@pytest.mark.data
def test_every_stored_syntax_decodes_as_pydicom_does(real_data):
    for path in sorted((real_data / "dicom/syntaxes").iterdir()):
        dataset = pydicom.dcmread(path)
        if dataset.SamplesPerPixel != 1 or int(dataset.get("NumberOfFrames", 1) or 1) > 1:
            continue
        dataset.Modality = "CR"
        for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue"):
            if keyword in dataset:
                del dataset[keyword]
        if path.name == "JPGExtended.dcm":  # 12 bits of JPEG Extended: no decoder with a permissive licence
            with pytest.raises(IngestError, match=r"unreadable pixels \(JPEG Extended"):
                render(dataset)
            continue
        stored = pixel_array(dataset).astype(float)
        bits = dataset.BitsStored
        expected = (stored + (2 ** (bits - 1) if dataset.PixelRepresentation else 0)) / (2**bits - 1)
        np.testing.assert_allclose(render(dataset), np.clip(expected, 0, 1), atol=1e-6, err_msg=path.name)


@pytest.mark.data
def test_hips_and_tibias_are_told_by_their_header(real_data):
    from medidistill.ingest.header_screening import body_part

    folder = real_data / "dicom/radiograph_other"
    said = {path.name: body_part(pydicom.dcmread(path, stop_before_pixels=True)) for path in folder.iterdir()}
    named = {name for name, part in said.items() if part == "other"}
    assert named
    for path in (real_data / "dicom/chest").iterdir():
        assert body_part(pydicom.dcmread(path, stop_before_pixels=True)) == ""


def test_pydicoms_own_files_never_end_in_anything_but_a_reason():
    folder = Path(get_testdata_file("MR_small.dcm")).parent
    for path in sorted(folder.glob("*.dcm")):
        try:
            picture = read_image(path)
        except IngestError as error:
            assert "\n" not in str(error)  # noqa: PT017 (both ends are right)
        else:
            assert picture.dtype == np.float32
            assert 0 <= picture.min() <= picture.max() <= 1


def test_uids_of_unknown_syntaxes_are_not_repeated(tmp_path, radiograph):
    dataset = radiograph([[0, 1]])
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    data = (tmp_path / "a").read_bytes()
    unknown = str(RLELossless)[:-1] + "9"
    (tmp_path / "a").write_bytes(data.replace(RLELossless.encode(), UID(unknown).encode()))
    with pytest.raises(IngestError) as caught:
        read_image(tmp_path / "a")
    assert unknown not in str(caught.value)


@pytest.fixture
def compressed(tmp_path, radiograph):
    """A file of JPEG 2000 and what its pixels are."""
    dataset = radiograph(np.tile(UNSIGNED, (32, 32)))
    expected = render(dataset)
    dataset.compress(JPEG2000Lossless)
    dataset.save_as(tmp_path / "good", enforce_file_format=True)
    return tmp_path / "good", expected


def test_samples_of_64_bits_never_reach_a_codec(tmp_path, compressed, capfd):
    """One byte that claims samples of many bits ends the process in GDCM; found by fuzzing."""
    path, expected = compressed
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 63
    (tmp_path / "bad").write_bytes(data)
    decoder = decoding._decoder._running().pid
    with pytest.raises(IngestError, match="compressed samples of more than 16 bits"):
        read_image(tmp_path / "bad")
    close(read_image(path), expected)
    assert decoding._decoder._running().pid == decoder
    assert capfd.readouterr() == ("", "")


def test_a_codec_that_crashes_costs_one_file(compressed, monkeypatch):
    path, expected = compressed
    ask = decoding._ask

    def crash(process, request):
        os.kill(process.pid, signal.SIGSEGV)
        process.wait()
        return ask(process, request)

    monkeypatch.setattr(decoding, "_ask", crash)
    with pytest.raises(IngestError, match="the decoder crashed"):
        read_image(path)
    monkeypatch.undo()
    close(read_image(path), expected)


def test_a_codec_that_takes_for_ever_is_ended(compressed, monkeypatch):
    path, expected = compressed
    close(read_image(path), expected)
    os.kill(decoding._decoder._running().pid, signal.SIGSTOP)
    monkeypatch.setattr(decoding, "_TIMEOUT_S", 0.2)
    with pytest.raises(IngestError, match="or time"):
        read_image(path)
    monkeypatch.undo()
    close(read_image(path), expected)


def test_after_a_request_to_stop_no_answer_goes_to_another_question(tmp_path, radiograph, compressed, monkeypatch):
    ask = decoding._ask

    def interrupted(process, request):
        process.stdin.write(len(request).to_bytes(8, "big") + request)
        process.stdin.flush()
        raise KeyboardInterrupt

    monkeypatch.setattr(decoding, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_image(compressed[0])
    monkeypatch.setattr(decoding, "_ask", ask)
    other = radiograph(np.tile(UNSIGNED[::-1], (32, 32)))
    expected = render(other)
    other.compress(JPEG2000Lossless)
    other.save_as(tmp_path / "other", enforce_file_format=True)
    close(read_image(tmp_path / "other"), expected)


def test_large_pictures_are_rendered_by_value_and_small_ones_by_pixel(radiograph):
    """Twice the same picture, once with more pixels than values."""
    rng = np.random.default_rng(0)
    for attributes in (
        {"WindowCenter": "-40", "WindowWidth": "900", "VOILUTFunction": "SIGMOID", "RescaleSlope": "0.5"},
        {"PixelPaddingValue": -600, "PixelPaddingRangeLimit": -500, "PhotometricInterpretation": "MONOCHROME1"},
    ):
        attributes = {"RescaleIntercept": "7", **attributes}
        small = rng.integers(-700, 1200, (20, 20))
        one, other = (radiograph(values, signed=True, **attributes) for values in (small, np.tile(small, (5, 5))))
        assert np.array_equal(np.tile(render(one), (5, 5)), render(other))


@pytest.mark.parametrize("offset", [0, 3, 64, 2**16, 2**32 - 1])
def test_rle_with_offsets_that_lead_out_of_the_frame(tmp_path, radiograph, offset):
    dataset = radiograph(np.tile(UNSIGNED, (32, 32)))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    data = (tmp_path / "a").read_bytes()
    at = data.index(b"\x02\0\0\0\x40\0\0\0")  # two segments, the first behind the header of 64 bytes
    (tmp_path / "a").write_bytes(data[: at + 8] + offset.to_bytes(4, "little") + data[at + 12 :])
    with pytest.raises(IngestError, match=r"damaged or cut short at its (header|segments)"):
        read_image(tmp_path / "a")
