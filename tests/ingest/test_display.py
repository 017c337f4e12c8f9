"""Rescale, window, padding and polarity: by the standard, or with a notice (PS3.3 C.7.5.1.1.2, C.7.6.3, C.11)."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from pydicom.pixels.processing import apply_windowing

from medidistill.config import IngestConfig, QualityConfig
from medidistill.errors import IngestError
from medidistill.ingest import ingest
from medidistill.ingest.dicom import decode, read_radiograph, render, render_stored
from medidistill.ingest.dicom_file import read_dicom_file
from medidistill.ingest.notices import Notice

from .builders import as_sequence, chest, lut_item, make_film, retype, save_film

PADDING, LIMIT = 0x00280120, 0x00280121
EXACT = {"VOILUTFunction": "LINEAR_EXACT"}


def shown(path):
    return read_radiograph(path).rendered


def linear_exact(values, center, width):
    return np.clip((np.asarray(values, float) - center) / width + 0.5, 0, 1)


@pytest.mark.parametrize(
    ("attributes", "expected", "notices"),
    [
        ({"RescaleSlope": "2"}, (2, 0), [Notice.NO_INTERCEPT]),
        ({"RescaleIntercept": "-1000"}, (1, -1000), [Notice.NO_SLOPE]),
        ({"RescaleSlope": "2", "RescaleIntercept": ""}, (2, 0), [Notice.NO_INTERCEPT]),
        ({"RescaleSlope": "2", "RescaleIntercept": "-1000"}, (2, -1000), []),
        ({"RescaleSlope": "", "RescaleIntercept": ""}, (1, 0), []),
        ({}, (1, 0), []),
    ],
)
def test_rescale_of_which_half_is_missing_is_said(tmp_path, attributes, expected, notices):
    window = {"WindowCenter": "1500", "WindowWidth": "3000", **EXACT}
    found = shown(save_film(tmp_path / "a", make_film(chest(), **attributes, **window)))
    slope, intercept = expected
    np.testing.assert_allclose(found.picture, linear_exact(chest() * slope + intercept, 1500, 3000), atol=1e-6)
    assert list(found.notices) == notices


@pytest.mark.parametrize(
    ("centers", "widths", "window", "notices"),
    [
        ("2000", "3000", (2000, 3000), []),
        (["2000", "500"], ["3000", "100"], (2000, 3000), [Notice.SEVERAL_WINDOWS]),
        (["", "500"], ["", "1000"], (500, 1000), [Notice.EMPTY_WINDOW]),
        (["", "500"], ["3000", "1000"], (500, 1000), [Notice.EMPTY_WINDOW]),
        (["2000", "500"], ["", "1000"], (500, 1000), [Notice.EMPTY_WINDOW]),
        (["2000", ""], ["3000", ""], (2000, 3000), [Notice.SEVERAL_WINDOWS]),
        (["2000", "500"], "3000", (2000, 3000), [Notice.SEVERAL_WINDOWS]),
        ("2000", None, None, [Notice.HALF_WINDOW]),
        (None, "3000", None, [Notice.HALF_WINDOW]),
        (["", "500"], ["3000", ""], None, [Notice.HALF_WINDOW]),
        ("", "", None, []),
    ],
)
def test_the_first_whole_window_is_used(tmp_path, centers, widths, window, notices):
    given = {"WindowCenter": centers, "WindowWidth": widths}
    film = make_film(chest(), **{name: value for name, value in given.items() if value is not None}, **EXACT)
    found = shown(save_film(tmp_path / "a", film))
    expected = linear_exact(chest(), *window) if window else chest() / 4095
    np.testing.assert_allclose(found.picture, expected, atol=1e-6)
    assert list(found.notices) == notices


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", ""])
@pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": "0.5", "RescaleIntercept": "-300"}])
@pytest.mark.parametrize(("center", "width"), [("700", "900"), ("120.5", "1.5"), ("2000", "4096")])
def test_window_agrees_with_pydicom(tmp_path, function, rescale, center, width):
    film = make_film(chest(), WindowCenter=center, WindowWidth=width, VOILUTFunction=function, **rescale)
    values = chest() * float(rescale.get("RescaleSlope", 1)) + float(rescale.get("RescaleIntercept", 0))
    film.VOILUTFunction = function or "LINEAR"
    with np.errstate(over="ignore"):
        shades = apply_windowing(values, film)
    # pydicom's output range is that of the stored values, rescaled
    low, high = (
        bound * float(rescale.get("RescaleSlope", 1)) + float(rescale.get("RescaleIntercept", 0)) for bound in (0, 4095)
    )
    film.VOILUTFunction = function
    found = shown(save_film(tmp_path / "a", film))
    np.testing.assert_allclose(found.picture, (shades - low) / (high - low), atol=1e-6)
    assert not found.notices


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"WindowWidth": "0"}, r"\(0028,1051\) Window Width must be >= 1 for LINEAR"),
        ({"WindowWidth": "0.5"}, r"\(0028,1051\) Window Width must be >= 1 for LINEAR"),
        ({"WindowWidth": "-5"}, r"\(0028,1051\) Window Width must be >= 1 for LINEAR"),
        ({"WindowWidth": "0", "VOILUTFunction": "LINEAR_EXACT"}, r"Window Width must be > 0 for LINEAR_EXACT"),
        ({"WindowWidth": "0", "VOILUTFunction": "SIGMOID"}, r"Window Width must be > 0 for SIGMOID"),
        (
            {"WindowWidth": "100", "WindowCenter": "9000"},
            r"same value after \(0028,1050\) Window Center and \(0028,1051\)",
        ),
        ({"RescaleSlope": "0", "RescaleIntercept": "1"}, r"\(0028,1053\) Rescale Slope must not be 0"),
        ({"RescaleSlope": "1e-300", "RescaleIntercept": "1"}, r"\(0028,1053\).* leave no range of values"),
        ({"RescaleSlope": ["1", "2"]}, r"\(0028,1053\) Rescale Slope must hold one value"),
    ],
)
def test_rejects_by_name(tmp_path, attributes, message):
    film = {"WindowCenter": "2000", "WindowWidth": "3000", **attributes}
    path = save_film(tmp_path / "a", make_film(chest(), **film))
    with pytest.raises(IngestError, match=message):
        read_radiograph(path)


@pytest.mark.parametrize(
    ("keyword", "written"), [("WindowCenter", b"2000,5"), ("RescaleSlope", b"1,5 "), ("WindowWidth", b"wide")]
)
def test_rejects_a_decimal_comma_and_words_by_name(tmp_path, keyword, written):
    film = {"WindowCenter": "1111.1", "WindowWidth": "2222", "RescaleSlope": "3.33", "RescaleIntercept": "0"}
    path = save_film(tmp_path / "a", make_film(chest(), **film))
    path.write_bytes(path.read_bytes().replace(film[keyword].encode(), written))
    with pytest.raises(IngestError, match=rf"{keyword[:6]}.* (must be a number|cannot be read)"):
        read_radiograph(path)


@pytest.mark.parametrize("width", ["0.5", "0.001"])
@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_widths_below_1_are_right_for_the_other_functions(tmp_path, function, width):
    film = make_film(chest(), WindowCenter="2000.5", WindowWidth=width, VOILUTFunction=function)
    found = shown(save_film(tmp_path / "a", film)).picture
    assert np.array_equal(found > 0.5, chest() > 2000)
    assert not shown(tmp_path / "a").notices


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "notices"),
    [
        ("MONOCHROME2", "IDENTITY", False, []),
        ("MONOCHROME1", "INVERSE", True, []),
        ("MONOCHROME2", "INVERSE", False, [Notice.INVERSE_BUT_MONOCHROME2]),
        ("MONOCHROME1", "IDENTITY", True, [Notice.IDENTITY_BUT_MONOCHROME1]),
        ("MONOCHROME2", "LIN OD", False, [Notice.PRESENTATION_LUT]),
        ("MONOCHROME1", "", True, []),
    ],
)
def test_photometric_interpretation_decides_and_contradictions_are_said(
    tmp_path, photometric, shape, inverted, notices
):
    film = make_film(chest(), PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    found = shown(save_film(tmp_path / "a", film))
    np.testing.assert_allclose(found.picture, 1 - chest() / 4095 if inverted else chest() / 4095, atol=1e-6)
    assert list(found.notices) == notices


def test_a_presentation_lut_sequence_is_said(tmp_path):
    film = make_film(chest(), PresentationLUTSequence=as_sequence(lut_item(0, 16, np.arange(4096) * 16)))
    assert shown(save_film(tmp_path / "a", film)).notices == (Notice.PRESENTATION_LUT,)


def bordered(border, low=0):
    """A picture with a border of two pixels that hold `border`; inside nothing equals it."""
    values = chest(4000) + 20 + low
    values[:2], values[-2:], values[:, :2], values[:, -2:] = border, border, border, border
    return values


INSIDE = (slice(2, -2), slice(2, -2))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("stored", "border", "written", "typed"),
    [
        (12, -2048, -2048, "SS"),
        (12, -2048, 63488, "US"),
        (12, -2048, 2048, "US"),  # sign not extended
        (16, -32768, 32768, "US"),
        (16, -32768, -32768, "SS"),
        (16, -1, 65535, "US"),
    ],
)
def test_padding_of_signed_pixels_however_it_is_typed(tmp_path, photometric, stored, border, written, typed):
    values = bordered(border, low=-2048)
    film = make_film(values, stored=stored, signed=True, PhotometricInterpretation=photometric)
    film.add_new(PADDING, typed, written)
    found = shown(save_film(tmp_path / "a", film))
    low = -(2 ** (stored - 1))
    expected = (values - low) / (2**stored - 1)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(found.picture[INSIDE], expected[INSIDE], atol=1e-6)
    assert found.padding is not None
    assert not found.padding[INSIDE].any()
    assert found.padding.sum() == values.size - values[INSIDE].size
    assert not found.picture[found.padding].any()
    assert not found.notices


def test_padding_of_unsigned_pixels_typed_ss(tmp_path):
    film = make_film(bordered(65535), stored=16)
    film.add_new(PADDING, "US", 65535)
    path = retype(save_film(tmp_path / "a", film), PADDING, "US", "SS")
    found = shown(path)
    assert not found.picture[0].any()
    assert found.picture[INSIDE].min() > 0


@pytest.mark.parametrize(("value", "limit"), [(10, 15), (15, 10), (10, 10)])
def test_a_padding_range_may_run_either_way(tmp_path, value, limit):
    values = bordered(10)
    values[0], values[-1] = 12, 15
    film = make_film(values, PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
    found = shown(save_film(tmp_path / "a", film))
    low, high = min(value, limit), max(value, limit)
    assert np.array_equal(found.padding, (values >= low) & (values <= high))
    assert not found.notices


@pytest.mark.parametrize(
    ("attributes", "notice"),
    [
        ({"PixelPaddingValue": 65535}, Notice.PADDING_OUT_OF_RANGE),
        ({"PixelPaddingRangeLimit": 5}, Notice.PADDING_LIMIT_ALONE),
        ({"PixelPaddingValue": 5000, "PixelPaddingRangeLimit": 5}, Notice.PADDING_OUT_OF_RANGE),
    ],
)
def test_padding_that_no_pixel_can_have_is_said_and_left(tmp_path, attributes, notice):
    values = bordered(4095)
    found = shown(save_film(tmp_path / "a", make_film(values, **attributes)))
    np.testing.assert_allclose(found.picture, values / 4095, atol=1e-6)
    assert found.padding is None
    assert found.notices == (notice,)


def test_a_limit_that_no_pixel_can_have_leaves_the_value(tmp_path):
    film = make_film(bordered(0), PixelPaddingValue=0, PixelPaddingRangeLimit=65535)
    found = shown(save_film(tmp_path / "a", film))
    assert np.array_equal(found.padding, bordered(0) == 0)
    assert found.notices == (Notice.PADDING_LIMIT_OUT_OF_RANGE,)


def test_padding_is_compared_before_the_modality_transformation(tmp_path):
    """A stored 100 is padding; a stored 1100, which is rescaled to 100, is not."""
    values = bordered(100)
    film = make_film(values, PixelPaddingValue=100, RescaleSlope="1", RescaleIntercept="-1000")
    assert np.array_equal(shown(save_film(tmp_path / "a", film)).padding, values == 100)


def test_padding_over_everything_is_the_fault_of_its_attribute(tmp_path):
    film = make_film(chest(), PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    with pytest.raises(IngestError, match=r"\(0028,0120\) Pixel Padding Value covers every pixel"):
        read_radiograph(save_film(tmp_path / "a", film))


STEEP = np.r_[np.zeros(2800, int), np.linspace(0, 65535, 1296).astype(int)]


def cohort(folder, **attributes):
    """Two classes, four films each; the attributes are those of one of them."""
    for number in range(8):
        label = ("cat", "dog")[number % 2]
        extra = attributes if number == 0 else {}
        save_film(folder / label / f"{number}.dcm", make_film(chest(seed=number), number=number + 1, **extra))
    return folder


def read(folder, **quality):
    config = IngestConfig(
        image_size=32, max_quarantine=1.0, val_fraction=0, test_fraction=0, quality=QualityConfig(**quality)
    )
    return ingest(folder, config)


def test_notices_are_warnings_quarantine_or_nothing(tmp_path):
    cohort(tmp_path, RescaleSlope="2", WindowCenter="4000", WindowWidth="7000")
    warned, aside, accepted = (read(tmp_path, irregular=action) for action in ("warn", "quarantine", "accept"))
    assert [(one.key, one.reason) for one in warned.warned] == [("cat/0.dcm", Notice.NO_INTERCEPT)]
    assert [(one.key, one.reason) for one in aside.quarantine] == [("cat/0.dcm", Notice.NO_INTERCEPT)]
    assert "cat/0.dcm" in warned.train.keys
    assert "cat/0.dcm" not in aside.train.keys
    assert not accepted.warned + accepted.quarantine
    assert read(tmp_path).warned == warned.warned


def test_notices_survive_the_disk_cache_and_other_processes(tmp_path):
    folder = cohort(tmp_path / "in", RescaleSlope="2", WindowCenter="4000", WindowWidth="7000")
    config = IngestConfig(image_size=32, max_quarantine=1.0, val_fraction=0, test_fraction=0, cache="disk")
    for workers in (2, 1):  # the first reading fills the cache, the second is from there
        result = ingest(folder, config, folder=tmp_path / "run", workers=workers)
        assert [one.reason for one in result.warned] == [Notice.NO_INTERCEPT]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (
            {"VOILUTSequence": as_sequence(lut_item(0, 16, STEEP))},
            r"clipped: most pixels at one end of the scale, as shown by \(0028,3010\) VOI LUT Sequence",
        ),
        (
            {"WindowCenter": "9000", "WindowWidth": "90000"},
            r"blank: hardly any contrast, as shown by \(0028,1050\) Window Center and \(0028,1051\) Window Width",
        ),
    ],
)
def test_the_reason_names_what_took_the_contrast_away(tmp_path, attributes, reason):
    cohort(tmp_path, **attributes)
    (entry,) = read(tmp_path).quarantine
    assert entry.key == "cat/0.dcm"
    assert re.fullmatch(reason, entry.reason)


def test_padding_is_no_part_of_contrast_and_clipping(tmp_path):
    """Three quarters of the film are padding: what is left is neither clipped nor blank."""
    values = np.where(np.indices((32, 32)).min(axis=0) < 16, 0, chest(4000) + 20)
    save_film(tmp_path / "cat/9.dcm", make_film(values, number=90, PixelPaddingValue=0))
    cohort(tmp_path)
    assert not read(tmp_path).quarantine
    save_film(tmp_path / "cat/9.dcm", make_film(values, number=90))
    assert [one.reason for one in read(tmp_path).quarantine] == ["clipped: most pixels at one end of the scale"]


# PS3.3 C.7.6.1.1.1: where rows run to, then where columns run to; number of EXIF for the same stored picture
ORIENTATIONS = [
    *(("L", "F", 1), ("R", "F", 2), ("R", "H", 3), ("L", "H", 4)),
    *(("F", "L", 5), ("F", "R", 6), ("H", "R", 7), ("H", "L", 8)),
]


def as_stored(upright, rows, columns):
    """Lay out a picture whose columns run to the feet and whose rows run to the left of the patient."""
    height, width = upright.shape
    place = {"L": range(width), "R": range(width)[::-1], "F": range(height), "H": range(height)[::-1]}
    cells = [[upright[(i, j) if rows in ("L", "R") else (j, i)] for j in place[rows]] for i in place[columns]]
    return np.array(cells)


@pytest.mark.parametrize(("rows", "columns", "exif"), ORIENTATIONS)
@pytest.mark.parametrize("position", ["", "PA"])
def test_a_frontal_image_is_turned_upright(tmp_path, rows, columns, exif, position):
    upright = chest(side=8)[:, :5]
    upright[2:4, 1] = 7
    stored = as_stored(upright, rows, columns)
    asked = {"PatientOrientation": [rows, columns], "PixelPaddingValue": 7, "ViewPosition": position}
    found = shown(save_film(tmp_path / "a", make_film(stored, **asked)))
    expected = np.where(upright == 7, 0, upright / 4095)
    np.testing.assert_allclose(found.picture, expected, atol=1e-6)
    assert np.array_equal(found.padding, upright == 7)
    assert found.picture.flags.c_contiguous
    assert found.padding.flags.c_contiguous
    assert found.notices == (() if (rows, columns) == ("L", "F") else (Notice.TURNED,))
    info = Image.Exif()
    info[0x0112] = exif
    Image.fromarray(np.uint16(stored)).save(tmp_path / "a.png", exif=info)
    np.testing.assert_allclose(shown(tmp_path / "a.png").picture, upright / 65535, atol=1e-6)


@pytest.mark.parametrize(
    ("orientation", "position", "notices"),
    [
        (None, "", []),
        ("", "", []),
        (["", ""], "", []),
        (["L", "F"], "LL", []),
        (["A", "F"], "", []),
        (["PR", "FA"], "RAO", []),
        (["LH", "FL"], "PA", []),  # tilted
        (["R", "F"], "LL", [Notice.ORIENTATION_NOT_APPLIED]),
        (["F", "A"], "", [Notice.ORIENTATION_NOT_APPLIED]),
        (["P", "H"], "", [Notice.ORIENTATION_NOT_APPLIED]),
        (["P", "F"], "AP", [Notice.ORIENTATION_NOT_APPLIED]),
        (["RH", "F"], "", [Notice.ORIENTATION_NOT_APPLIED]),
        (["L", "R"], "", [Notice.ORIENTATION_NOT_APPLIED]),
        (["F", "F"], "", [Notice.ORIENTATION_NOT_APPLIED]),
        ("L", "", [Notice.ORIENTATION_NOT_APPLIED]),
        (["R", "H", "F"], "", [Notice.ORIENTATION_NOT_APPLIED]),
        (["R", "PHANTOM"], "", [Notice.ORIENTATION_NOT_APPLIED]),
    ],
)
def test_an_orientation_that_is_not_applied_is_said_where_the_picture_may_not_be_upright(
    tmp_path, orientation, position, notices
):
    asked = {"ViewPosition": position}
    if orientation is not None:
        asked["PatientOrientation"] = orientation
    found = shown(save_film(tmp_path / "a", make_film(chest(), **asked)))
    np.testing.assert_allclose(found.picture, chest() / 4095, atol=1e-6)
    assert list(found.notices) == notices


def test_what_the_search_for_letters_sees_lies_as_it_is_stored(tmp_path):
    film = make_film(chest(), PatientOrientation=["R", "H"])
    film = read_dicom_file(save_film(tmp_path / "a", film)).dataset
    np.testing.assert_allclose(render_stored(film, decode(film)), chest() / 4095, atol=1e-6)
    np.testing.assert_allclose(render(film), chest()[::-1, ::-1] / 4095, atol=1e-6)
