"""What may stay of a value: defined terms, numbers in range, listed equipment, words of the vocabulary."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.attributes import NUMBERS, RENDERING, TERMS, number_that_stays, term_that_stays
from medidistill.ingest.deidentify.equipment import equipment_that_stays
from medidistill.ingest.deidentify.words import VOCABULARY, clean
from medidistill.ingest.silence_pydicom import silence_pydicom

PLAIN = DeidentifyConfig()


def tag(keyword: str) -> int:
    found = tag_for_keyword(keyword)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("keyword", "value", "stays"),
    [
        ("BodyPartExamined", "CHEST", "CHEST"),
        ("BodyPartExamined", "chest ", "CHEST"),
        ("BodyPartExamined", "CHEST UMBRABE", "CHEST"),
        ("BodyPartExamined", "LEFT HAND", "HAND"),
        ("BodyPartExamined", "UMBRABE", ""),
        ("ViewPosition", "PA", "PA"),
        ("ViewPosition", "LEFT LATERAL", "LEFT LATERAL"),
        ("ViewPosition", "PA UMBRABE", ""),
        ("ViewPosition", "LI", ""),
        ("Laterality", "R", "R"),
        ("Laterality", "RUTH", ""),
        ("PresentationIntentType", "FOR PRESENTATION", "FOR PRESENTATION"),
        ("VOILUTFunction", "LINEAR_EXACT", "LINEAR_EXACT"),
        ("RescaleType", "US", "US"),
        ("RescaleType", "UMBRA", ""),
        ("ContentQualification", "UMBRABE", ""),
        ("PatientOrientation", "L", "L"),
        ("PatientOrientation", "FR", "FR"),
        ("PatientOrientation", "AP", ""),  # both ends of one axis
        ("PatientOrientation", "RALPH", ""),
        ("PatientSex", "F", "F"),
        ("PatientSex", "FRANZ", ""),
        ("PatientComments", "CHEST", ""),
    ],
)
def test_terms(keyword: str, value: str, stays: str) -> None:
    assert term_that_stays(tag(keyword), value) == stays


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "stays"),
    [
        ("KVP", "DS", "125", "125"),
        ("KVP", "DS", " 125.50 ", "125.50"),
        ("KVP", "DS", "+0125", "125"),
        ("KVP", "DS", ".5", "0.5"),
        ("KVP", "DS", "1E2", "1E2"),
        ("KVP", "DS", "0", "0"),
        ("KVP", "DS", "1950", ""),
        ("KVP", "DS", "-1", ""),
        ("KVP", "DS", "nan", ""),
        ("KVP", "DS", "1e999", ""),
        ("KVP", "DS", "Umbrabe", ""),
        ("KVP", "DS", "12.5 Umbrabe", ""),
        ("InstanceNumber", "IS", "12", "12"),
        ("InstanceNumber", "IS", "1.5", ""),
        ("InstanceNumber", "IS", "19500102", ""),
        ("RelativeXRayExposure", "IS", "19500102", ""),
        ("ExposureTimeInuS", "DS", "19500102", ""),
        ("ExposureIndex", "DS", "0795551234", ""),
        ("WindowCenter", "DS", "-600", "-600"),
        ("RescaleSlope", "DS", "0.000488400488400488", "0.000488400488400488"),
        ("RescaleSlope", "DS", "1" * 25, ""),
        ("PatientWeight", "DS", "61", "61"),
        ("AcquisitionDuration", "FD", "1.0", ""),  # not listed
    ],
)
def test_numbers(keyword: str, vr: str, value: str, stays: str) -> None:
    assert number_that_stays(tag(keyword), vr, value) == stays


def test_no_date_and_no_telephone_number_is_in_any_range() -> None:
    """Eight digits, and nine: but for what the range of the pixels needs, nothing reaches them."""
    for number, allowed in NUMBERS.items():
        for text in ("19500102", "20240228", "795551234", "0795551234"):
            assert number_that_stays(number, "DS", text) == ""
        assert allowed.most <= 64


def test_every_term_conforms_to_its_value_representation() -> None:
    for number, terms in TERMS.items():
        for term in terms:
            assert len(term) <= 16
            assert term == term.upper()
            assert term_that_stays(number, term) == term


@pytest.mark.parametrize(
    ("keyword", "value", "stays"),
    [
        ("Manufacturer", "SIEMENS", "Siemens"),
        ("Manufacturer", "siemens healthineers AG", "Siemens Healthineers"),
        ("Manufacturer", "Siemens for Dr. Umbrabe", "Siemens"),
        ("Manufacturer", "GE Healthcare, room 7", "GE Healthcare"),
        ("Manufacturer", "GE", ""),
        ("Manufacturer", "FUJIFILM Corporation", "FUJIFILM Corporation"),
        ("Manufacturer", "Clinic of Umbrabe", ""),
        ("Manufacturer", "Siémens", "Siemens"),
        ("Manufacturer", "", ""),
        ("ManufacturerModelName", "DRX-1", "DRX-1"),
        ("ManufacturerModelName", "DRX-1 Raum 7 Nordtal", "DRX-1"),
        ("ManufacturerModelName", "XR-3 Raum 7 Nordtal", ""),
        ("ManufacturerModelName", "Ysio Max", "Ysio Max"),
        ("SoftwareVersions", "V2", "V2"),
        ("SoftwareVersions", "VE10", "VE10"),
        ("SoftwareVersions", "V2.1.30 user Umbrabe", "V2.1.30"),
        ("SoftwareVersions", "5.7.412", "5.7.412"),
        ("SoftwareVersions", "Umbrabe", ""),
        ("SoftwareVersions", "4711", ""),
        ("SoftwareVersions", "10.20.30.40", ""),  # an address
        ("SoftwareVersions", "19500102", ""),
        ("SoftwareVersions", "1950.01.02", ""),
        ("SoftwareVersions", "079.555.12", ""),
    ],
)
def test_equipment(keyword: str, value: str, stays: str) -> None:
    assert equipment_that_stays(tag(keyword), value) == stays


def test_a_manufacturer_who_is_a_patient_goes() -> None:
    number = tag("Manufacturer")
    assert equipment_that_stays(number, "Philips Medical Systems", {"medical"}) == "Philips"
    assert equipment_that_stays(number, "Philips Medical Systems", {"philips"}) == ""


def test_a_name_that_is_a_word_of_the_vocabulary_goes_where_the_file_names_it(phantom: FileDataset, key: Key) -> None:
    phantom.PatientName, phantom.SeriesDescription = "Bone^Pa", "Chest PA of Bone"
    assert deidentify(phantom, PLAIN, key).dataset.SeriesDescription == "CHEST"
    phantom.PatientName = "Umbrabe^Ada"
    assert deidentify(phantom, PLAIN, key).dataset.SeriesDescription == "CHEST PA BONE"
    assert clean("chest of Umbrabe 12") == "CHEST"
    assert all(word == word.lower() and word.isalnum() for word in VOCABULARY)


def test_a_multiple_value_keeps_its_places(phantom: FileDataset, key: Key) -> None:
    phantom.WindowCenter, phantom.WindowWidth = [2000, 1800], [3500, 2500]
    phantom.WindowCenterWidthExplanation = ["DR UMBRABE", "BONE"]
    phantom.ImageType = ["ORIGINAL", "PRIMARY", "UMBRABE"]
    phantom.PatientOrientation = ["L", "UMBRABE"]
    new = deidentify(phantom, PLAIN, key).dataset
    assert list(new.WindowCenterWidthExplanation) == ["", "BONE"]
    assert list(new.ImageType) == ["ORIGINAL", "PRIMARY", ""]
    assert list(new.PatientOrientation) == ["L", ""]
    assert list(new.WindowCenter) == [2000, 1800]


def test_a_number_of_the_patient_goes_unless_the_picture_needs_it(phantom: FileDataset, key: Key) -> None:
    phantom.PatientID, phantom.InstanceNumber, phantom.SeriesNumber = "4096", 4096, "4096"
    phantom.WindowCenter, phantom.WindowWidth, phantom.ExposureIndex = "4096", "4096", "4096.0"
    new = deidentify(phantom, PLAIN, key).dataset
    assert (new.InstanceNumber, new.SeriesNumber, new.ExposureIndex) == (None, None, None)
    assert (new.WindowCenter, new.WindowWidth) == (4096, 4096)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("WindowCenter", "1e12"), ("RescaleSlope", "0" * 30), ("VOILUTFunction", "UMBRABE"), ("PixelSpacing", "19500102")],
)
def test_a_value_that_decides_what_is_seen_is_never_dropped(
    phantom: FileDataset, key: Key, keyword: str, value: str
) -> None:
    with silence_pydicom():
        setattr(phantom, keyword, [value, value] if keyword == "PixelSpacing" else value)
        with pytest.raises(IngestError, match=r"\(00.* holds no value that the standard allows"):
            deidentify(phantom, PLAIN, key)
    assert tag(keyword) in RENDERING


def test_text_in_binary_numbers_does_not_stay(phantom: FileDataset, key: Key) -> None:
    for number, vr, raw in (
        (tag("ExposedArea"), "US", b"KOCH"),
        (tag("EntranceDose"), "US", b"KO"),
        (tag("ExposuresOnPlate"), "US", b"KO"),
        (tag("ExposureInmAs"), "FD", b"KOCHANNA"),
        (tag("FilterBeamPathLengthMaximum"), "FL", b"KOCH"),
        (tag("FilterBeamPathLengthMinimum"), "FL", b"KOCHKOCHKOCHKOCHKOCH"),
    ):
        phantom[Tag(number)] = RawDataElement(Tag(number), vr, len(raw), raw, 0, False, True)
    new = deidentify(phantom, PLAIN, key).dataset
    for element in new:
        values = element.value if isinstance(element.value, list) or element.VM > 1 else [element.value]
        for value in values:
            if element.VR in ("US", "FL", "FD") and value is not None:
                kind = {"US": "<u2", "FL": "<f4", "FD": "<f8"}[element.VR]
                assert np.array([value], kind).tobytes() not in (b"KO", b"CH", b"KOCH", b"KOCHANNA")


def test_rounding_keeps_a_decimal_of_a_binary_number(phantom: FileDataset, key: Key) -> None:
    phantom.ExposureInmAs = 2.5125
    assert deidentify(phantom, PLAIN, key).dataset.ExposureInmAs == 2.5125


def test_pixels_and_tables_stay_only_where_an_image_has_them(phantom: FileDataset, key: Key) -> None:
    icon, lut = Dataset(), Dataset()
    icon.add_new(0x7FE00010, "OW", b"Umbrabe ")
    icon.add_new(0x00283006, "OW", b"Umbrabe ")
    lut.add_new(0x00283002, "US", [4096, 0, 12])
    lut.add_new(0x00283006, "OW", np.arange(4096).astype("<u2").tobytes())
    phantom.ReferencedImageSequence, phantom.VOILUTSequence = Sequence([icon]), Sequence([lut])
    phantom.add_new(0x00283006, "OW", b"Umbrabe ")
    new = deidentify(phantom, PLAIN, key).dataset
    assert len(new.ReferencedImageSequence[0]) == 0
    assert 0x00283006 not in new
    assert new.VOILUTSequence[0].LUTData == lut.LUTData


def test_patient_characteristics_are_checked(phantom: FileDataset, key: Key) -> None:
    with silence_pydicom():
        phantom.PatientSex, phantom.PatientWeight, phantom.PatientSize = "UMBRABE", "19500102", "1.75"
        phantom.PatientAge, phantom.SmokingStatus = "UMB", "UMBRABE"
        new = deidentify(phantom, DeidentifyConfig(patient_characteristics=True), key).dataset
    assert not any(new.get(name) for name in ("PatientSex", "PatientWeight", "PatientAge", "SmokingStatus"))
    assert new.PatientSize == 1.75


def test_codes_are_claimed_only_for_what_was_done(phantom: FileDataset, key: Key) -> None:
    def codes(config: DeidentifyConfig) -> list[str]:
        new = deidentify(phantom, config, key).dataset
        return [item.CodeValue for item in new.get("DeidentificationMethodCodeSequence", ())]

    phantom.StudyDescription, phantom.StationName, phantom.FilterType = "Chest", "ROOM EAST", "FLAT"
    assert codes(PLAIN) == ["113100", "113105", "113107"]
    assert codes(DeidentifyConfig(keep=("StudyDescription",))) == ["113107"]  # the profile removes it
    assert codes(DeidentifyConfig(keep=("StationName",))) == ["113107"]
    assert codes(DeidentifyConfig(keep=("FilterType",))) == ["113100", "113107"]  # text the table does not name
    assert codes(DeidentifyConfig(keep=("ScanOptions",))) == ["113100", "113105", "113107"]  # not in the file
    assert codes(DeidentifyConfig(keep=("StationName",), dates="remove")) == []


def test_what_the_site_keeps_beyond_ascii_declares_its_character_set(phantom: FileDataset, key: Key) -> None:
    phantom.SpecificCharacterSet, phantom.StationName = "ISO_IR 100", "Zimmer Süd"
    assert "SpecificCharacterSet" not in deidentify(phantom, PLAIN, key).dataset
    new = deidentify(phantom, DeidentifyConfig(keep=("StationName",)), key).dataset
    assert (new.SpecificCharacterSet, new.StationName) == ("ISO_IR 192", "Zimmer Süd")


def test_a_site_keeps_and_removes_parts_of_coded_entries(phantom: FileDataset, key: Key) -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "X1", "99LOCAL", "our view"
    phantom.ViewCodeSequence = Sequence([item])
    kept = DeidentifyConfig(keep=("CodeValue", "CodingSchemeDesignator"))
    (new,) = deidentify(phantom, kept, key).dataset.ViewCodeSequence
    assert (new.CodeValue, new.CodingSchemeDesignator, "CodeMeaning" in new) == ("X1", "99LOCAL", False)
    item.CodeValue, item.CodingSchemeDesignator = "399348003", "SCT"
    (new,) = deidentify(phantom, DeidentifyConfig(remove=("CodeMeaning",)), key).dataset.ViewCodeSequence
    assert (new.CodeValue, "CodeMeaning" in new) == ("399348003", False)


def _marked(tag: Tag, vr: str) -> RawDataElement:
    """An element that holds a name as its VR would: text, or the bytes of it."""
    text = b"UMBRABE " if vr in ("CS", "AE") else b"Umbrabe "
    return RawDataElement(tag, vr, len(text), text, 0, False, True)


@pytest.mark.parametrize("nested", [False, True])
def test_no_attribute_of_the_dictionary_carries_a_name(phantom: FileDataset, key: Key, nested: bool) -> None:
    """Every public element, retired ones too, under each of its value representations."""
    needed = {*RENDERING, *(tag(name) for name in ("PixelData", "SOPClassUID", "SOPInstanceUID", "LUTData"))}
    for turn in range(3):  # US or SS or OW
        marked = Dataset()
        for number, (known, *_) in DicomDictionary.items():
            vrs = known.split(" or ")
            if vrs[0] not in ("SQ", "NONE") and number not in needed and number >> 16 > 7:
                marked[Tag(number)] = _marked(Tag(number), vrs[turn % len(vrs)])
        assert len(marked) > 3500
        if nested:
            phantom.ReferencedImageSequence = Sequence([marked])
        else:
            phantom.update({Tag(number): marked.get_item(Tag(number)) for number in marked.keys()})  # noqa: SIM118
        for config in (PLAIN, DeidentifyConfig(patient_characteristics=True, dates="retain")):
            buffer = io.BytesIO()
            with silence_pydicom():
                dcmwrite(buffer, deidentify(phantom, config, key).dataset, enforce_file_format=True)
            assert b"mbrabe" not in buffer.getvalue().lower()
