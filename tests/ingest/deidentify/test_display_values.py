"""What decides how the pixels are seen stays, stays in its own value representation, or the file is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.display import display
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.ingest.builders import chest, lut_item, make_film

PLAIN = DeidentifyConfig()


def _film(*values: tuple[str, str, Any]) -> Dataset:
    film = make_film(chest(), WindowCenter="1800", WindowWidth="900")
    for keyword, vr, value in values:
        film[keyword] = DataElement(tag_for_keyword(keyword) or 0, vr, value)
    return film


def _before_and_after(
    film: Dataset, key: Key, folder: Path, config: DeidentifyConfig = PLAIN
) -> tuple[Any, Any, Dataset]:
    with silence_pydicom():
        dcmwrite(folder / "before.dcm", film, enforce_file_format=True)
        before = read_dicom(folder / "before.dcm")
        new = deidentify(before, config, key).dataset
        dcmwrite(folder / "after.dcm", new, enforce_file_format=True)
        after = read_dicom(folder / "after.dcm")
        return display(before), display(after), after


@pytest.mark.parametrize(
    "values",
    [
        *(
            [("WindowCenter", vr, "1800"), ("WindowWidth", vr, "900")]
            for vr in ("DS", "IS", "LO", "SH", "CS", "ST", "UC")
        ),
        [("WindowCenter", "FD", 1800.5), ("WindowWidth", "FL", 900.25)],
        [("WindowCenter", "SL", 1800), ("WindowWidth", "US", 900)],
        [("WindowCenter", "LO", ["1800", "900"]), ("WindowWidth", "LO", ["900", "100"])],
        [("VOILUTFunction", "LO", "SIGMOID")],
        [("VOILUTFunction", "SH", "linear_exact")],
        [("RescaleSlope", "IS", "2"), ("RescaleIntercept", "IS", "-1000")],
        [("RescaleSlope", "FD", 0.5), ("RescaleIntercept", "FD", 800.0)],
        [("PhotometricInterpretation", "LO", "MONOCHROME1")],
        [("PresentationLUTShape", "LO", "INVERSE"), ("PhotometricInterpretation", "LO", "MONOCHROME1")],
    ],
)
def test_a_value_of_another_representation_shows_the_same_picture(
    key: Key, tmp_path: Path, values: list[tuple[str, str, Any]]
) -> None:
    plain = display(make_film(chest(), WindowCenter="500", WindowWidth="2000"))
    before, after, new = _before_and_after(_film(*values), key, tmp_path)
    assert np.abs(before.picture - plain.picture).max() > 0.05  # the values do decide
    assert (before.picture == after.picture).all()
    assert (before.shown_by, before.notices) == (after.shown_by, after.notices)
    for keyword, _, _ in values:
        own = "CS" if keyword.startswith(("VOI", "Pho", "Pre")) else "DS"
        assert own == new[keyword].VR


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "own"),
    [
        ("WindowCenter", "FD", 1 / 3, "DS"),  # no 16 characters hold it
        ("WindowCenter", "LO", "Umbrabe", "DS"),
        ("WindowCenter", "LO", "19500102", "DS"),
        ("WindowWidth", "OB", b"900 ", "DS"),
        ("RescaleSlope", "LO", ["1", ""], "DS"),
        ("VOILUTFunction", "LO", "UMBRABE", "CS"),
        ("PixelPaddingValue", "IS", "1500", "US or SS"),
        ("PixelPaddingValue", "UL", 1500, "US or SS"),
        ("PixelPaddingRangeLimit", "SL", 1500, "US or SS"),
        ("BitsStored", "IS", "12", "US"),
        ("ModalityLUTSequence", "OB", b"Umbrabe ", "SQ"),
        ("VOILUTSequence", "LO", "Umbrabe", "SQ"),
        ("PresentationLUTSequence", "LO", "Umbrabe", "SQ"),
    ],
)
def test_what_has_no_exact_form_is_refused(key: Key, keyword: str, vr: str, value: Any, own: str) -> None:
    tag = tag_for_keyword(keyword) or 0
    where = rf"^\({tag >> 16:04X},{tag & 0xFFFF:04X}\) .*: must be stored as {own}"
    with silence_pydicom(), pytest.raises(IngestError, match=where) as caught:
        deidentify(_film((keyword, vr, value)), PLAIN, key)
    assert "mbra" not in str(caught.value)
    nested = Dataset()
    nested[keyword] = DataElement(tag, vr, value)
    film = _film()
    film.SharedFunctionalGroupsSequence = Sequence([nested])
    with silence_pydicom(), pytest.raises(IngestError, match=where):
        deidentify(film, PLAIN, key)


@pytest.mark.parametrize(("vr", "value"), [("LO", ""), ("LO", " \0"), ("OB", b""), ("UL", None), ("LO", ["", ""])])
def test_an_empty_one_decides_nothing(key: Key, vr: str, value: Any) -> None:
    new = deidentify(_film(("PixelPaddingValue", vr, value)), PLAIN, key).dataset
    assert "PixelPaddingValue" not in new


def test_the_orientation_becomes_a_code_string_too(key: Key) -> None:
    new = deidentify(_film(("PatientOrientation", "LO", ["R", "F"])), PLAIN, key).dataset
    assert (new["PatientOrientation"].VR, list(new.PatientOrientation)) == ("CS", ["R", "F"])
    with pytest.raises(IngestError, match=r"^\(0020,0020\) Patient Orientation: must be stored as CS"):
        deidentify(_film(("PatientOrientation", "LO", ["R", "Umbrabe"])), PLAIN, key)


def test_lut_data_of_an_unknown_form_are_refused(key: Key) -> None:
    film = _film()
    film.VOILUTSequence = Sequence([lut_item(0, 8, range(256))])
    film.VOILUTSequence[0][0x00283006] = DataElement(0x00283006, "OF", bytes(1024))
    with pytest.raises(IngestError, match=r"^\(0028,3006\) LUT Data: must be stored as US or OW"):
        deidentify(film, PLAIN, key)


def test_a_table_with_a_code_beside_it_stays(key: Key, tmp_path: Path) -> None:
    """Any item with a code is a coded entry, and is made anew: a look-up table is none."""
    film = _film()
    item = lut_item(0, 12, (np.arange(4096) ** 2 // 4096).tolist())
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "X1", "99LOCAL", "curve of Umbrabe"
    film.VOILUTSequence = Sequence([item])
    before, after, new = _before_and_after(film, key, tmp_path)
    assert (before.picture == after.picture).all()
    assert after.shown_by.startswith("(0028,3010)")
    assert "CodeValue" not in new.VOILUTSequence[0]


def test_a_site_that_removes_one_has_its_way(key: Key) -> None:
    film = _film(("WindowCenter", "LO", "Umbrabe"), ("WindowWidth", "LO", "900"))
    new = deidentify(film, DeidentifyConfig(remove=("WindowCenter", "WindowWidth")), key).dataset
    assert "WindowCenter" not in new
    assert "WindowWidth" not in new


def test_the_log_says_what_became_of_it(key: Key) -> None:
    run = deidentify(_film(("WindowCenter", "LO", "1800"), ("VOILUTFunction", "LO", "SIGMOID")), PLAIN, key)
    actions = {change.where: change.action for change in run.changes}
    assert (actions["(0028,1050)"], actions["(0028,1056)"]) == ("number", "term")
    buffer = io.BytesIO()
    dcmwrite(buffer, run.dataset, enforce_file_format=True)
    assert b"\x28\x00\x50\x10DS" in buffer.getvalue()
