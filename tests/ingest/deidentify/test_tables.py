"""Every row of every list: the standard's table, the lists that are stricter, and those of the residual check."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as standard
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify, identifiers, residuals
from medidistill.ingest.deidentify import residual as residual_module
from medidistill.ingest.deidentify.codestreams import without_comments
from medidistill.ingest.deidentify.table import KEPT_CHARACTERISTICS, action_of
from medidistill.ingest.deidentify.values import conforms, dummy, is_temporal

# what the page says of the rows that are not taken from the table as they stand
CLEANED = {"StudyDescription", "SeriesDescription", "ProtocolName", "CodeMeaning", "DerivationDescription"}
EMPTIED = {"AcquisitionContextSequence"}


def expected_action(code: str, keyword: str, vr: str) -> str:
    if keyword in CLEANED:
        return "C"
    if vr in ("DA", "DT", "TM") and keyword not in ("PatientBirthDate", "PatientBirthTime"):
        return "time" if vr == "TM" else "date"
    options = code.split("/")
    if "U*" in options:
        return "recurse"
    if keyword in EMPTIED:
        return "Z"
    return code if len(options) == 1 else "X" if "X" in options else "Z"


def test_every_row_of_the_standards_table() -> None:
    rows = {
        "D": standard.D_TAGS,
        "Z": standard.Z_TAGS,
        "X": standard.X_TAGS,
        "U": standard.U_TAGS,
        "Z/D": standard.Z_D_TAGS,
        "X/Z": standard.X_Z_TAGS,
        "X/D": standard.X_D_TAGS,
        "X/Z/D": standard.X_Z_D_TAGS,
        "X/Z/U*": standard.X_Z_U_STAR_TAGS,
    }
    seen = 0
    for code, tags in rows.items():
        for group, element in (tag for tag in tags if len(tag) == 2):
            tag = group << 16 | element
            try:
                vr = dictionary_VR(tag)
            except KeyError:
                continue  # unknown to the dictionary: removed, whatever the table says
            keyword = pydicom.datadict.keyword_for_tag(tag)
            for one in vr.split(" or "):
                action = action_of(tag, one)
                # nothing of an odd group, of overlays and curves is kept
                strict = group % 2 or group < 8 or 0x5000 <= group <= 0x501E or 0x6000 <= group <= 0x601E
                assert action == ("X" if strict else expected_action(code, keyword, one)), (keyword, code)
                seen += 1
    assert seen > 600


@pytest.mark.parametrize(
    ("group", "element", "vr"),
    [(g, e, vr) for g in (0x5000, 0x501E, 0x6000, 0x601E) for e, vr in ((0x0010, "US"), (0x3000, "OW"))]
    + [(0x0007, 0x0010, "US"), (0x0002, 0x0010, "UI"), (0x0000, 0x0100, "US"), (0x0008, 0x0000, "UL")],
)
def test_groups_that_go_as_a_whole(group: int, element: int, vr: str) -> None:
    assert action_of(group << 16 | element, vr) == "X"


def test_neighbours_of_those_groups_stay() -> None:
    assert action_of(tag_for_keyword("RescaleSlope"), "DS") == "check"
    assert action_of(tag_for_keyword("WindowCenterWidthExplanation"), "LO") == "text"


@pytest.mark.parametrize(
    ("keyword", "action"),
    [
        *((name, "C") for name in sorted(CLEANED)),
        *((name, "text") for name in ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion")),
        *((name, "text") for name in ("LUTExplanation", "Manufacturer", "ManufacturerModelName", "ModalityLUTType")),
        *((name, "text") for name in ("RescaleType", "SoftwareVersions", "WindowCenterWidthExplanation")),
        *((f"{c}PaletteColorLookupTableData", "K") for c in ("Red", "Green", "Blue")),
        *((name, "K") for name in ("PixelData", "LUTData", "Rows", "ExposureInmAs")),
        *(
            (name, "check")
            for name in ("Modality", "ViewPosition", "KVP", "InstanceNumber", "FilterMaterial", "EntranceDoseInmGy")
        ),
        *((name, "X") for name in ("TextString", "PatientComments", "ICCProfile")),
        *((name, "recurse") for name in ("ViewCodeSequence", "SharedFunctionalGroupsSequence")),
        *((name, "U") for name in ("SOPInstanceUID", "IrradiationEventUID")),
        *((name, "Z") for name in ("PatientBirthDate", "PatientID", "PatientName")),
        *((name, "X") for name in ("PatientBirthTime", "PatientAge", "PatientSize", "PatientWeight")),
        ("UnformattedTextValue", "D"),
        ("AcquisitionDate", "date"),
        ("AcquisitionTime", "time"),
        ("AcquisitionDateTime", "date"),
    ],
)
def test_elements_by_name(keyword: str, action: str) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    assert {action_of(tag, vr) for vr in dictionary_VR(tag).split(" or ")} == {action}


def test_patient_characteristics_are_these() -> None:
    names = {"PatientAge", "PatientSex", "PatientSize", "PatientWeight", "SmokingStatus", "PregnancyStatus"}
    assert {pydicom.datadict.keyword_for_tag(tag) for tag in KEPT_CHARACTERISTICS} == names


def test_each_option_of_a_code_scheme(phantom: FileDataset, key: Key) -> None:
    schemes = ["SCT", "SRT", "SNM3", "99SDM", "DCM", "UCUM", "RADLEX", "FMA", "LN", "99LOCAL", "L", ""]
    items = []
    for scheme in schemes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "399348003", scheme, "chest"
        items.append(item)
    for value in ("Mrs Phantom", "PHANTOM^ADA", "1-2-3-4-5"):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "chest"
        items.append(item)
    plain = Dataset()
    plain.RescaleSlope = "1"
    phantom.ViewCodeSequence = Sequence([*items, plain])
    new = deidentify(phantom, DeidentifyConfig(), key).dataset.ViewCodeSequence
    assert [item.get("CodingSchemeDesignator") for item in new] == [*schemes[:9], None]


@pytest.mark.parametrize(
    ("vr", "good", "bad"),
    [
        ("AS", ["054Y", "000D", "011M", "003W"], ["54Y", "054", "0540Y", "054Q", " 054Y"]),
        ("CS", ["CHEST", "A_1 B", ""], ["chest", "PHANTOM^A", "A" * 17, "Ä"]),
        ("DS", ["1", "-1.5", "+.5", "1e-3", " 2 ", "3."], ["1.2.3", "one", "", "1e", "PHANTOM"]),
        ("IS", ["1", "-12", " 7 ", "1234567890"], ["1.5", "12345678901", "", "1 2"]),
    ],
)
def test_forms_of_a_vr(vr: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not conforms(vr, text)] == []
    assert [text for text in bad if conforms(vr, text)] == []


def test_what_looks_like_a_date_or_a_time() -> None:
    assert all(map(is_temporal, ("20240101", "101112.123456", "20240101101112.5+0100", "2024.01.01", "10")))
    assert not any(map(is_temporal, ("", "1", "MAY", "20240101A", "1" * 27)))


def test_a_dummy_of_every_vr_can_be_written_and_says_nothing() -> None:
    texts = set()
    for vr in ("AE", "AS", "CS", "DS", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM", "UC", "UL"):
        dataset = Dataset()
        dataset.add_new(0x00091001, vr, dummy(vr))
        buffer = io.BytesIO()
        dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
        texts.add(str(dummy(vr)))
    assert texts == {"REMOVED", "000Y", "0", "0.0", "000000"}
    assert dummy("US") == 0
    assert dummy("UT") == "REMOVED"
    assert dummy("OB") == dummy("OW") == b"\0\0"
    assert dummy("SQ") is None


def listed(text: str) -> list[str]:
    return [name for name in text.split() if dictionary_VR(tag_for_keyword(name)) != "SQ"]


@pytest.mark.parametrize("keyword", listed(residual_module._WHOLE + residual_module._WORDS))
def test_the_residual_check_knows_each_of_its_elements(phantom: FileDataset, keyword: str) -> None:
    value = "QZ-4711-XW"
    meta = tag_for_keyword(keyword) >> 16 == 2
    setattr(phantom.file_meta if meta else phantom, keyword, value)
    needles = identifiers(phantom, Path("x.dcm"))
    assert value.lower() in needles
    words = keyword in residual_module._WORDS.split()
    setattr(phantom.file_meta if meta else phantom, keyword, "Qwzx Hexenkessel 12")
    assert ("hexenkessel" in identifiers(phantom, Path("x.dcm"))) is words


def test_values_that_tell_nothing_are_no_needles(phantom: FileDataset) -> None:
    for word in ("Anonymous", "ANONYMIZED", "removed", "unknown", "None", "TEST", "null", "Patient", "name", "yes"):
        phantom.PatientName, phantom.PatientID = word, "000 0.0-"
        found = identifiers(phantom, Path("x.dcm"))
        assert word.lower() not in found
        assert not any(not text.strip("0 .-") for text in found)
    for text, counts in (("Li", False), ("Lin", True), ("123", False), ("1234", True), ("李", False), ("李四", True)):
        phantom.SpecificCharacterSet, phantom.PatientID, phantom.PatientName = "ISO_IR 192", text, ""
        assert (text.lower() in identifiers(phantom, Path("x.dcm"))) is counts
    assert "abcdef" in identifiers(phantom, Path("abcdef.dcm"))
    assert "abcde" not in identifiers(phantom, Path("abcde.dcm"))


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *(("Phantomata", one) for one in ("utf-8", "latin-1", "utf-16-le", "utf-16-be")),
        ("Фантомов", "cp1251"),
        ("幻影太郎", "shift_jis"),
        ("幻影太郎", "iso2022_jp"),
        ("幻影太郎", "gb18030"),
        ("환영가상", "euc_kr"),
    ],
)
def test_bytes_are_searched_in_each_encoding(
    phantom: FileDataset, key: Key, tmp_path: Path, name: str, encoding: str
) -> None:
    phantom.SpecificCharacterSet, phantom.PatientName = "ISO_IR 192", name
    needles = identifiers(phantom, Path("x.dcm"))
    clean = deidentify(phantom, DeidentifyConfig(), key).dataset
    dcmwrite(tmp_path / "a.dcm", clean, enforce_file_format=True)
    assert residuals(tmp_path / "a.dcm", needles) == []
    raw = name.encode(encoding)
    clean.PixelData = raw + clean.PixelData[len(raw) :]
    dcmwrite(tmp_path / "b.dcm", clean, enforce_file_format=True)
    assert residuals(tmp_path / "b.dcm", needles) == ["bytes"]


def test_which_segments_leave_a_jpeg_stream() -> None:
    markers = [*range(0xE0, 0xF0), 0xFE, 0xDB, 0xC4]
    stream = b"\xff\xd8" + b"".join(b"\xff" + bytes([m]) + b"\x00\x04" + bytes([m, m]) for m in markers) + b"\xff\xda.."
    left = without_comments(stream)
    assert [m for m in markers if bytes([m, m]) in left[2:-4]] == [0xE0, 0xE8, 0xEE, 0xDB, 0xC4]
