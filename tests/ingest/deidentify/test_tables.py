"""Every row of every list: the standard's table, the lists that are stricter, and those of the residual check."""

from __future__ import annotations

import io
import json
from importlib import resources

import pydicom
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as standard
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.attributes import NUMBERS, TERMS
from medidistill.ingest.deidentify.equipment import EQUIPMENT
from medidistill.ingest.deidentify.table import KEPT_CHARACTERISTICS, action_of
from medidistill.ingest.deidentify.values import dummy, temporal

# what the page says of the rows that are not taken from the table as they stand
CLEANED = {"StudyDescription", "SeriesDescription", "ProtocolName", "DerivationDescription"}
EXPLANATIONS = {"LUTExplanation", "WindowCenterWidthExplanation"}
EMPTIED = {"AcquisitionContextSequence"}
MOVED = {
    *("InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"),
    *("FrameAcquisitionDateTime", "FrameReferenceDateTime", "StartAcquisitionDateTime", "EndAcquisitionDateTime"),
    *("AdmittingDate", "IssueDateOfImagingServiceRequest", "ScheduledProcedureStepStartDate"),
    *("ScheduledProcedureStepEndDate", "ScheduledProcedureStepStartDateTime", "PerformedProcedureStepStartDate"),
    *("PerformedProcedureStepEndDate", "PerformedProcedureStepStartDateTime", "PerformedProcedureStepEndDateTime"),
}


def expected_action(code: str, keyword: str, vr: str) -> str:
    if keyword in CLEANED:
        return "C"
    if vr in ("DA", "DT", "TM") and keyword not in ("PatientBirthDate", "PatientBirthTime"):
        return "time" if vr == "TM" else "date" if keyword in MOVED else "X"
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
    assert action_of(tag_for_keyword("RescaleSlope"), "DS") == "number"
    assert action_of(tag_for_keyword("WindowCenterWidthExplanation"), "LO") == "C"


@pytest.mark.parametrize(
    ("keyword", "action"),
    [
        *((name, "C") for name in sorted(CLEANED | EXPLANATIONS)),
        *((name, "equipment") for name in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")),
        *((name, "bulk") for name in ("PixelData", "LUTData")),
        *((name, "number") for name in ("Rows", "ExposureInmAs", "KVP", "InstanceNumber", "EntranceDoseInmGy")),
        *((name, "term") for name in ("Modality", "ViewPosition", "FilterMaterial", "PatientOrientation")),
        *((name, "term") for name in ("ModalityLUTType", "RescaleType")),
        # coded entries are made anew, and nowhere else is a code
        *((name, "X") for name in ("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning")),
        *((name, "X") for name in ("TextString", "PatientComments", "ICCProfile", "FilterType")),
        *((f"{c}PaletteColorLookupTableData", "X") for c in ("Red", "Green", "Blue")),
        *((name, "X") for name in ("AcquisitionDuration", "SimpleFrameList", "ReferencedFrameNumber", "ScanOptions")),
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


def test_what_stays_is_an_attribute_of_a_radiograph() -> None:
    """highdicom carries the attributes of the modules of PS3.3; the few that it does not are of other editions."""
    modules = json.loads(resources.files("highdicom").joinpath("_standard/module_attribute_map.json").read_text())
    kinds = json.loads(resources.files("highdicom").joinpath("_standard/iod_module_map.json").read_text())
    known = {
        attribute["keyword"]
        for kind in ("computed-radiography-image", "digital-x-ray-image")
        for module in kinds[kind]
        for attribute in modules[module["key"]]
    }
    ours = {pydicom.datadict.keyword_for_tag(tag) for tag in (*TERMS, *NUMBERS, *EQUIPMENT)}
    assert ours - known == {"ExposureInmAs", "NominalScannedPixelSpacing", "NumberOfFrames"}


def test_patient_characteristics_are_these() -> None:
    names = {"PatientAge", "PatientSex", "PatientSize", "PatientWeight", "SmokingStatus", "PregnancyStatus"}
    assert {pydicom.datadict.keyword_for_tag(tag) for tag in KEPT_CHARACTERISTICS} == names


@pytest.mark.parametrize(
    ("scheme", "code", "meaning"),
    [
        ("SCT", "399348003", "antero-posterior"),
        ("SRT", "R-10206", "antero-posterior"),
        ("SNM3", "T-D3000", "Thoracic structure"),
        ("99SDM", "T-28000", "Lung"),
        ("DCM", "113100", "Basic Application Confidentiality Profile"),
        ("SCT", "399348004", ""),  # no concept of the standard
        ("SCT", "47110815", ""),
        ("SCT", "PHANTOM^ADA", ""),
        ("99LOCAL", "399348003", ""),
        ("L", "1", ""),
        ("", "399348003", ""),
    ],
)
def test_a_coded_entry_has_the_meaning_of_the_standard_or_goes(
    phantom: FileDataset, key: Key, scheme: str, code: str, meaning: str
) -> None:
    item, modifier = Dataset(), Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, "chest of Umbrabe"
    item.CodingSchemeVersion, item.ContextIdentifier = "Umbrabe", "UMBRABE"
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = "24028007", "SCT", "of Umbrabe"
    item.ViewModifierCodeSequence = Sequence([modifier])
    phantom.ViewCodeSequence = Sequence([item])
    new = deidentify(phantom, DeidentifyConfig(), key).dataset
    assert [entry.CodeMeaning for entry in new.ViewCodeSequence] == ([meaning] if meaning else [])
    assert "Umbra" not in str(new)
    if meaning:
        assert (new.ViewCodeSequence[0].CodeValue, new.ViewCodeSequence[0].CodingSchemeDesignator) == (code, scheme)
        assert new.ViewCodeSequence[0].ViewModifierCodeSequence[0].CodeMeaning == "Right"


def test_an_item_without_a_code_stays_and_a_long_code_goes(phantom: FileDataset, key: Key) -> None:
    plain, long = Dataset(), Dataset()
    plain.RescaleSlope = "1"
    long.LongCodeValue, long.CodingSchemeDesignator, long.CodeMeaning = "399348003", "SCT", "AP"
    phantom.ViewCodeSequence = Sequence([plain, long])
    assert [len(item) for item in deidentify(phantom, DeidentifyConfig(), key).dataset.ViewCodeSequence] == [1]


@pytest.mark.parametrize(
    ("vr", "good", "bad"),
    [
        ("DA", ["20240228", "19500101"], ["2024022", "20240230", "MUELLER", "795551234", "2024-02-28", ""]),
        ("TM", ["10", "1011", "101112", "101112.123456"], ["24", "1060", "MAY", "079555123", "10:11:12", ""]),
        ("DT", ["20240228", "2024022810", "20240228101112.5+0100"], ["20240228101112 Umbra", "20241328", "2024022899"]),
    ],
)
def test_dates_and_times_that_may_be_retained(vr: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if temporal(vr, text) != text] == []
    assert [text for text in bad if temporal(vr, text)] == []


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
