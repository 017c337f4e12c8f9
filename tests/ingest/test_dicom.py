from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import LoadImage
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.sequence import Sequence

from medidistill.errors import IngestError
from medidistill.ingest.dicom import ChestXrayReader, file_kind, read_header, read_image
from medidistill.ingest.voi import window


def close(picture, expected):
    np.testing.assert_allclose(picture, np.asarray(expected, dtype=np.float32), rtol=0, atol=1e-6)
    assert picture.dtype == np.float32


def test_without_window_the_range_of_bits_stored_is_0_to_1(tmp_path, save):
    path = save(tmp_path / "a", [[0, 1024], [2048, 4095]])
    close(read_image(path), [[0, 1024 / 4095], [2048 / 4095, 1]])


def test_scaling_does_not_depend_on_the_extremes_of_the_image(tmp_path, save):
    wide = read_image(save(tmp_path / "a", [[0, 1000, 4095]]))
    narrow = read_image(save(tmp_path / "b", [[900, 1000, 1100]]))
    assert wide[0, 1] == narrow[0, 1] == np.float32(1000 / 4095)


def test_monochrome1_is_inverted(tmp_path, save):
    path = save(tmp_path / "a", [[0, 51], [102, 255]], bits=8, PhotometricInterpretation="MONOCHROME1")
    close(read_image(path), [[1, 0.8], [0.6, 0]])


def test_rescale_without_a_window_keeps_the_stored_range(tmp_path, save):
    path = save(tmp_path / "a", [[0, 2047, 4095]], RescaleSlope="2", RescaleIntercept="-1000")
    close(read_image(path), [[0, 2047 / 4095, 1]])


def test_negative_slope_turns_the_picture_over(tmp_path, save):
    # y = 4095 - x runs from 0 to 4095
    path = save(tmp_path / "a", [[0, 1000, 4095]], RescaleSlope="-1", RescaleIntercept="4095")
    close(read_image(path), [[1, 3095 / 4095, 0]])


def test_signed_pixels(tmp_path, save):
    # 12 bits signed: -2048 to 2047
    path = save(tmp_path / "a", [[-2048, 0, 2047]], signed=True)
    close(read_image(path), [[0, 2048 / 4095, 1]])


def test_linear_window(tmp_path, save):
    # c = 100, w = 11: ramp (x - 99.5) / 10 + 0.5 from 94.5 to 104.5
    path = save(tmp_path / "a", [[0, 94, 95, 97, 100, 104, 105, 4000]], WindowCenter="100", WindowWidth="11")
    close(read_image(path), [[0, 0, 0.05, 0.25, 0.55, 0.95, 1, 1]])


def test_linear_window_of_width_1_is_a_step(tmp_path, save):
    path = save(tmp_path / "a", [[99, 100, 101]], WindowCenter="100", WindowWidth="1")
    close(read_image(path), [[0, 1, 1]])


def test_linear_exact_window(tmp_path, save):
    # c = 100, w = 10: (x - 100) / 10 + 0.5 from 95 to 105
    path = save(
        tmp_path / "a",
        [[94, 95, 96, 100, 105, 106]],
        WindowCenter="100",
        WindowWidth="10",
        VOILUTFunction="LINEAR_EXACT",
    )
    close(read_image(path), [[0, 0, 0.1, 0.5, 1, 1]])


def test_sigmoid_window(tmp_path, save):
    # 1 / (1 + exp(-4 (x - 100) / 40)) at 0 and +-10: 1/2, 1/(1 + 1/e), 1/(1 + e); far away 0 and 1, without overflow
    path = save(
        tmp_path / "a", [[0, 90, 100, 110, 4095]], WindowCenter="100", WindowWidth="40", VOILUTFunction="SIGMOID"
    )
    close(read_image(path), [[1 / (1 + np.exp(10)), 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-1)), 1]])


def test_window_works_on_rescaled_values_and_before_the_inversion(tmp_path, save):
    # y = 2 x - 100; LINEAR_EXACT c = 0, w = 200: x = 0, 50, 75, 100 -> y = -100, 0, 50, 100 -> 0, .5, .75, 1
    path = save(
        tmp_path / "a",
        [[0, 50, 75, 100]],
        RescaleSlope="2",
        RescaleIntercept="-100",
        WindowCenter="0",
        WindowWidth="200",
        VOILUTFunction="LINEAR_EXACT",
        PhotometricInterpretation="MONOCHROME1",
    )
    close(read_image(path), [[1, 0.5, 0.25, 0]])


def test_the_first_of_several_windows_counts(tmp_path, save):
    path = save(
        tmp_path / "a",
        [[0, 50, 100]],
        WindowCenter=["50", "2000"],
        WindowWidth=["100", "10"],
        VOILUTFunction="LINEAR_EXACT",
    )
    close(read_image(path), [[0, 0.5, 1]])


def test_empty_window_is_no_window(tmp_path, save):
    path = save(tmp_path / "a", [[0, 4095]], WindowCenter="", WindowWidth="")
    close(read_image(path), [[0, 1]])


def lut(first, depth, data, kind="US"):
    item = Dataset()
    item.LUTDescriptor = [len(data), first, depth]
    item.add_new(0x00283006, kind, data if kind == "US" else np.asarray(data, "<u2").tobytes())
    return Sequence([item])


def test_voi_lut_goes_before_a_window_and_holds_its_ends(tmp_path, save):
    # entries for 10, 11, 12 in 8 bits; below the first and above the last the ends hold
    path = save(
        tmp_path / "a",
        [[0, 10, 11, 12, 400]],
        VOILUTSequence=lut(10, 8, [0, 51, 255]),
        WindowCenter="2",
        WindowWidth="2",
    )
    close(read_image(path), [[0, 0, 0.2, 1, 1]])


@pytest.mark.parametrize("kind", ["US", "OW"])
def test_modality_lut_sets_the_range(tmp_path, save, kind):
    path = save(tmp_path / "a", [[0, 1, 2]], ModalityLUTSequence=lut(0, 16, [65535, 13107, 0], kind))
    close(read_image(path), [[1, 0.2, 0]])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(100.0, 50.0), (2047.5, 1.0), (-3.25, 4000.5)])
def test_window_agrees_with_pydicom(function, center, width, radiograph):
    values = np.linspace(0, 4095, 200)
    dataset = radiograph([[0, 1]], WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    with np.errstate(over="ignore"):
        expected = apply_windowing(values, dataset) / 4095
    np.testing.assert_allclose(window(values, center, width, function), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"WindowCenter": "5", "WindowWidth": "0"}, r"\(0028,1051\) Window Width must be >= 1 for LINEAR"),
        (
            {"WindowCenter": "5", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"},
            r"Window Width must be > 0 for SIGMOID",
        ),
        (
            {"WindowCenter": "5", "WindowWidth": "9", "VOILUTFunction": "CUBIC"},
            "VOI LUT Function must be LINEAR, LINEAR_EXACT or",
        ),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "Rescale Slope must not be 0"),
        ({"Modality": "CT"}, "modality CT: must be CR, DX, RG"),
        ({"PixelData": None}, "no pixel data"),
        ({"NumberOfFrames": 2, "Rows": 1}, "several frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR: must be MONOCHROME1 or MONOCHROME2"),
        ({"Rows": 40}, r"\(7FE0,0010\) Pixel Data is shorter than Rows, Columns and Bits Allocated require"),
    ],
)
def test_refused_with_the_reason(tmp_path, attributes, message, save):
    path = save(tmp_path / "a", [[0, 1], [2, 3]], **attributes)
    with pytest.raises(IngestError, match=message) as caught:
        read_image(path)
    assert "PHANTOM" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_colour_is_refused(tmp_path, save):
    path = save(
        tmp_path / "a",
        np.zeros((2, 2, 3)),
        bits=8,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )
    with pytest.raises(IngestError, match="photometric interpretation RGB"):
        read_image(path)


def test_truncated_dicom_is_refused(tmp_path, save):
    path = save(tmp_path / "a", np.arange(400).reshape(20, 20))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(IngestError, match=r"the file ends within \(7FE0,0010\) Pixel Data"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_not_an_image(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(IngestError):
        read_image(tmp_path / "a.dcm")


def test_png_of_8_and_16_bits(tmp_path):
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.array([[0, 13107], [26214, 65535]], np.uint16)).save(tmp_path / "b.png")
    for name in "ab":
        close(read_image(tmp_path / f"{name}.png"), [[0, 0.2], [0.4, 1]])


def test_colour_png_becomes_luminance(tmp_path):
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)).save(tmp_path / "a.png")
    # ITU-R 601: 0.299, 0.587, 0.114, rounded to 8 bits
    close(read_image(tmp_path / "a.png"), np.array([[76, 150, 29, 9]]) / 255)


def test_truncated_png_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with pytest.raises(IngestError, match="unreadable"):
        read_image(tmp_path / "a.png")


def test_kind_is_told_by_content_and_headers_are_read(tmp_path, save):
    path = save(tmp_path / "IM0001", [[0, 1]], AccessionNumber="PH1")
    assert file_kind(path) == "dicom"
    header = read_header(path)
    assert (header.patient_id, header.sop_instance_uid, header.accession_number) == ("PHANTOM-1", "2.25.1", "PH1")


def test_no_value_of_a_damaged_header_is_shown(tmp_path, save, caplog, recwarn):
    path = save(tmp_path / "a", [[0, 1], [2, 3]], AccessionNumber="PHANTOM-SECRET-TOO-LONG-FOR-SH")
    path.write_bytes(path.read_bytes().replace(b"2.25.1", b"2.x5.1"))
    caplog.clear()
    recwarn.clear()
    assert read_header(path).patient_id == "PHANTOM-1"
    read_image(path)
    assert not caplog.records
    assert not recwarn.list


def test_monai_keeps_rows_first_and_passes_our_reason_on(tmp_path, save):
    pixels = np.array([[0, 1000, 2000], [3000, 4000, 4095]])
    load = LoadImage(reader=ChestXrayReader(), image_only=True)
    picture = load(save(tmp_path / "a", pixels, PhotometricInterpretation="MONOCHROME1"))
    close(picture.numpy(), 1 - pixels / 4095)
    # another reader of MONAI would read this one, without its window
    with pytest.raises(IngestError, match="Window Width"):
        load(save(tmp_path / "b", pixels, WindowCenter="5", WindowWidth="0"))
