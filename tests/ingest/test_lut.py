"""Modality and VOI look-up tables against plain numpy, pydicom and highdicom (PS3.3 C.11.1.1.1, C.11.2.1.1)."""

from __future__ import annotations

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medidistill.errors import IngestError
from medidistill.ingest.dicom import read_radiograph, render
from medidistill.ingest.notices import Notice

from .builders import as_sequence, chest, lut_item, make_film, retype, save_film

DESCRIPTOR, DATA = 0x00283002, 0x00283006
CURVE = (65535 * (np.arange(4096) / 4095) ** 0.7).astype(int)
BYTES = (255 * (np.arange(4096) / 4095) ** 0.7).astype(int)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
FALLBACK = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}


def by_numpy(values, table, first, top, slope=1.0, intercept=0.0):
    """What the standard says of a VOI LUT, one value at a time."""
    out = []
    for value in np.asarray(values).ravel():
        place = round(float(value) * slope + intercept) - first
        out.append(table[min(max(place, 0), len(table) - 1)] / top)
    return np.reshape(out, np.shape(values)).astype(np.float32)


def shown(path):
    return read_radiograph(path).rendered


def close(picture, expected):
    np.testing.assert_allclose(picture, expected, rtol=0, atol=1e-6)
    assert np.ptp(picture) > 0.1


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", ["OW", "US", "SS", "UN", "OB"])
def test_first_value_is_signed_where_the_rescaled_range_is(tmp_path, syntax, kind):
    """Unsigned pixels, output -1024 to 3071: the descriptor's 64512 is -1024, whatever Pixel Representation says."""
    big = syntax == ExplicitVRBigEndian
    item = lut_item(-1024, 16, CURVE, kind if kind in ("US", "SS") else "OW", big=big)
    film = make_film(chest(), syntax=syntax, VOILUTSequence=as_sequence(item), **FALLBACK)
    path = save_film(tmp_path / "a", film)
    if kind in ("OB", "UN") and not syntax.is_implicit_VR:
        retype(path, DATA, "OW", kind, big)
    found = shown(path)
    close(found.picture, by_numpy(chest(), CURVE, -1024, 65535, 1, -1024))
    assert not found.notices


def test_descriptor_typed_ss(tmp_path):
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(-1024, 16, CURVE)), **FALLBACK)
    path = retype(save_film(tmp_path / "a", film), DESCRIPTOR, "US", "SS")
    close(shown(path).picture, by_numpy(chest(), CURVE, -1024, 65535, 1, -1024))
    assert not shown(path).notices


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("signed", [False, True])
def test_without_rescale_the_pixel_representation_decides(tmp_path, syntax, signed):
    first = -2048 if signed else 0
    item = lut_item(first, 16, CURVE, big=syntax == ExplicitVRBigEndian)
    film = make_film(chest() + first, signed=signed, syntax=syntax, VOILUTSequence=as_sequence(item))
    close(shown(save_film(tmp_path / "a", film)).picture, by_numpy(chest(), CURVE, 0, 65535))


def test_signed_pixels_whose_rescaled_range_is_not_take_the_first_value_as_unsigned(tmp_path):
    """Signed 16-bit pixels plus 32768: a table that begins at 40000 does not begin at -25536."""
    table = (65535 * np.arange(20000) / 19999).astype(int)
    values = chest(20000) + 5000
    film = make_film(
        values,
        stored=16,
        signed=True,
        RescaleSlope="1",
        RescaleIntercept="32768",
        VOILUTSequence=as_sequence(lut_item(40000, 16, table)),
    )
    close(shown(save_film(tmp_path / "a", film)).picture, by_numpy(values, table, 40000, 65535, 1, 32768))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_count_0_means_65536_entries(tmp_path, syntax):
    table = (65535 * (np.arange(65536) / 65535) ** 0.5).astype(int)
    item = lut_item(0, 16, table, big=syntax == ExplicitVRBigEndian)
    film = make_film(chest(65535), stored=16, syntax=syntax, VOILUTSequence=as_sequence(item))
    close(shown(save_film(tmp_path / "a", film)).picture, by_numpy(chest(65535), table, 0, 65535))


def test_count_of_40000_typed_ss_is_no_negative_count(tmp_path):
    table = (65535 * np.arange(40000) / 39999).astype(int)
    film = make_film(chest(38000), stored=16, VOILUTSequence=as_sequence(lut_item(-1024, 16, table)), **FALLBACK)
    path = retype(save_film(tmp_path / "a", film), DESCRIPTOR, "US", "SS")
    close(shown(path).picture, by_numpy(chest(38000), table, -1024, 65535, 1, -1024))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("count", [4096, 4095])
@pytest.mark.parametrize("kind", ["OW", "OB", "UN"])
def test_entries_of_8_bits_in_bytes(tmp_path, syntax, count, kind):
    """Packed two to a word of OW, whose low byte comes first; an odd number is padded."""
    table = BYTES[:count]
    data = table.astype("u1").tobytes() + b"\0" * (count % 2)
    if syntax == ExplicitVRBigEndian and kind == "OW":
        data = np.frombuffer(data, "<u2").byteswap().tobytes()
    film = make_film(chest(), syntax=syntax, VOILUTSequence=as_sequence(lut_item(0, 8, data, count=count)))
    path = save_film(tmp_path / "a", film)
    if kind != "OW" and not syntax.is_implicit_VR:
        retype(path, DATA, "OW", kind, syntax == ExplicitVRBigEndian)
    found = shown(path)
    close(found.picture, by_numpy(chest(), table, 0, 255))
    assert not found.notices


@pytest.mark.parametrize("kind", ["OW", "US"])
def test_entries_of_8_bits_in_words(tmp_path, kind):
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(0, 8, BYTES, kind)))
    close(shown(save_film(tmp_path / "a", film)).picture, by_numpy(chest(), BYTES, 0, 255))


def test_entries_in_bytes_under_a_descriptor_of_16_bits(tmp_path):
    item = lut_item(0, 16, BYTES.astype("u1").tobytes(), count=4096)
    found = shown(save_film(tmp_path / "a", make_film(chest(), VOILUTSequence=as_sequence(item))))
    close(found.picture, by_numpy(chest(), BYTES, 0, 255))
    assert found.notices == (Notice.LUT_PACKED,)


@pytest.mark.parametrize(
    ("stated", "used", "notice"),
    [
        *[(16, 12, Notice.LUT_NARROW), (16, 10, Notice.LUT_NARROW), (12, 10, Notice.LUT_NARROW)],
        *[(12, 16, Notice.LUT_WIDE), (8, 12, Notice.LUT_WIDE), (12, 13, Notice.LUT_WIDE)],
        *[(16, 15, None), (12, 12, None), (13, 12, None)],
    ],
)
def test_depth_of_the_descriptor_against_the_bits_in_use(tmp_path, stated, used, notice):
    table = ((2**used - 1) * (np.arange(4096) / 4095) ** 0.7).astype(int)
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(0, stated, table)))
    found = shown(save_film(tmp_path / "a", film))
    close(found.picture, by_numpy(chest(), table, 0, 2 ** (used if notice else stated) - 1))
    assert found.notices == ((notice,) if notice else ())


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", b"\0" * 100])
def test_bytes_behind_the_last_entry_are_nothing(tmp_path, extra):
    data = CURVE.astype("<u2").tobytes() + extra + b"\0" * (len(extra) % 2)
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(0, 16, data, count=4096)))
    close(shown(save_film(tmp_path / "a", film)).picture, by_numpy(chest(), CURVE, 0, 65535))


def test_values_outside_the_table_take_its_ends(tmp_path):
    table = CURVE[1000:3000]
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(1000, 16, table)))
    found = shown(save_film(tmp_path / "a", film)).picture
    close(found, by_numpy(chest(), table, 1000, 65535))
    assert found.min() == np.float32(table[0] / 65535)
    assert found.max() == np.float32(table[-1] / 65535)


def test_a_first_value_that_only_the_other_sign_explains_is_said(tmp_path):
    """Rescaled range 0 to 8190, and a table that begins at -1024: as an unsigned number it begins behind the range."""
    film = make_film(
        chest(), RescaleSlope="2", RescaleIntercept="0", VOILUTSequence=as_sequence(lut_item(-1024, 16, CURVE))
    )
    found = shown(save_film(tmp_path / "a", film))
    close(found.picture, by_numpy(chest(), CURVE, -1024, 65535, 2, 0))
    assert found.notices == (Notice.LUT_FIRST_VALUE,)


def test_the_first_of_several_tables_is_used_and_said(tmp_path):
    items = as_sequence(lut_item(0, 16, CURVE), lut_item(0, 16, CURVE[::-1]))
    found = shown(save_film(tmp_path / "a", make_film(chest(), VOILUTSequence=items)))
    close(found.picture, by_numpy(chest(), CURVE, 0, 65535))
    assert found.notices == (Notice.SEVERAL_VOI_LUTS,)


def broken(**changes):
    item = lut_item(0, 16, CURVE)
    for tag, value in ((DESCRIPTOR, changes.get("descriptor")), (DATA, changes.get("data"))):
        if value == "gone":
            del item[tag]
        elif value is not None:
            item[tag].value = value
    return item


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (broken(descriptor="gone"), r"\(0028,3002\) LUT Descriptor must hold three values"),
        (broken(descriptor=[4096, 0]), r"\(0028,3002\) LUT Descriptor must hold three values"),
        (broken(descriptor=[4096, 0, 17]), r"\(0028,3002\) LUT Descriptor must give 8 to 16 bits"),
        (broken(descriptor=[4096, 0, 0]), r"\(0028,3002\) LUT Descriptor must give 8 to 16 bits"),
        (broken(descriptor=[4096, 5000, 16]), r"\(0028,3002\) LUT Descriptor maps no value that the pixels can have"),
        (broken(descriptor=[0, 0, 16]), r"\(0028,3006\) LUT Data hold fewer entries"),
        (broken(data="gone"), r"\(0028,3006\) LUT Data is missing"),
        (broken(data=CURVE[:4095].astype("<u2").tobytes()), r"\(0028,3006\) LUT Data hold fewer entries"),
        (broken(data=bytes(8192)), r"every pixel has the same value after \(0028,3010\)"),
    ],
)
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_what_is_wrong_with_a_table_is_said_of_the_table(tmp_path, name, item, message):
    sequence = "(0028,3010) VOI LUT Sequence" if name[0] == "V" else "(0028,3000) Modality LUT Sequence"
    path = save_film(tmp_path / "a", make_film(chest(), **{name: as_sequence(item)}))
    with pytest.raises(IngestError, match=message.replace("0028,3010", sequence[1:10])) as caught:
        read_radiograph(path)
    assert sequence in str(caught.value)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("signed", [False, True])
def test_modality_lut_takes_stored_values_by_pixel_representation(tmp_path, syntax, signed):
    first = -2048 if signed else 0
    item = lut_item(first, 16, CURVE, big=syntax == ExplicitVRBigEndian)
    film = make_film(
        chest() + first,
        signed=signed,
        syntax=syntax,
        ModalityLUTSequence=as_sequence(item),
        WindowCenter="30000",
        WindowWidth="50000",
        VOILUTFunction="LINEAR_EXACT",
    )
    expected = np.clip((by_numpy(chest(), CURVE, 0, 1) - 30000) / 50000 + 0.5, 0, 1)
    np.testing.assert_allclose(shown(save_film(tmp_path / "a", film)).picture, expected, atol=1e-6)


def test_modality_lut_then_voi_lut_whose_input_is_never_negative(tmp_path):
    """Signed pixels, a Modality LUT with output 0 to 65535: 40000 is no negative number for the VOI LUT."""
    film = make_film(
        chest() - 2048,
        signed=True,
        ModalityLUTSequence=as_sequence(lut_item(-2048, 16, CURVE)),
        VOILUTSequence=as_sequence(lut_item(40000, 16, CURVE)),
    )
    between = by_numpy(chest(), CURVE, 0, 1)
    close(shown(save_film(tmp_path / "a", film)).picture, by_numpy(between, CURVE, 40000, 65535))


def test_bits_in_use_of_a_modality_lut_matter_without_a_window_alone(tmp_path):
    """Optical densities of 0 to 4095 in 16 bits are right: they are values, which the window knows."""
    table = (4095 * (np.arange(4096) / 4095) ** 0.7).astype(int)
    film = {"ModalityLUTSequence": as_sequence(lut_item(0, 16, table))}
    plain = shown(save_film(tmp_path / "a", make_film(chest(), **film)))
    close(plain.picture, by_numpy(chest(), table, 0, 4095))
    assert plain.notices == (Notice.LUT_NARROW,)
    film |= {"WindowCenter": "2000", "WindowWidth": "3000", "VOILUTFunction": "LINEAR_EXACT"}
    windowed = shown(save_film(tmp_path / "b", make_film(chest(), **film)))
    close(windowed.picture, np.clip((by_numpy(chest(), table, 0, 1) - 2000) / 3000 + 0.5, 0, 1))
    assert not windowed.notices


def test_modality_lut_beside_rescale_is_used_and_said(tmp_path):
    film = make_film(chest(), ModalityLUTSequence=as_sequence(lut_item(0, 16, CURVE)), **FALLBACK)
    found = shown(save_film(tmp_path / "a", film))
    close(found.picture, by_numpy(chest(), CURVE, 0, 65535))
    assert found.notices == (Notice.MODALITY_LUT_FIRST,)


@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("signed", [False, True])
def test_agrees_with_pydicom_on_tables_that_follow_the_standard(tmp_path, name, signed):
    first = -2048 if signed else 0
    item = lut_item(first, 16, CURVE)
    film = make_film(chest() + first, signed=signed, **{name: as_sequence(item)})
    path = save_film(tmp_path / "a", film)
    path = retype(path, DESCRIPTOR, "US", "SS") if signed else path
    dataset = pydicom.dcmread(path)
    apply = apply_voi_lut if name == "VOILUTSequence" else apply_modality_lut
    close(shown(path).picture, apply(dataset.pixel_array, dataset) / 65535)


def test_agrees_with_highdicom(tmp_path):
    lut = highdicom.VOILUT(first_mapped_value=0, lut_data=CURVE.astype(np.uint16), lut_explanation="GAMMA")
    film = make_film(chest(), VOILUTSequence=as_sequence(lut))
    close(shown(save_film(tmp_path / "a", film)).picture, lut.apply(chest()) / 65535)


def test_a_walked_data_set_shows_the_same(tmp_path):
    """De-identification looks at every element first, which converts raw values."""
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(-1024, 16, CURVE)), **FALLBACK)
    path = save_film(tmp_path / "a", film)
    walked = pydicom.dcmread(path)
    assert len(list(walked.iterall())) > 10
    assert np.array_equal(render(walked), shown(path).picture)
