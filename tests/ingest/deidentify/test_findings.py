"""View and body part, which the quality gate asks for, are the same after de-identification as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.attributes import is_defined_term
from medidistill.ingest.deidentify.codes import meaning_of
from medidistill.ingest.deidentify.identifying_values import identifiers
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.deidentify.residual import residuals
from medidistill.ingest.header_screening import body_part, view
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.ingest.builders import chest, make_film

PLAIN = DeidentifyConfig()


def _code(value: str, scheme: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "Umbrabe"
    return item


def _codes(*values: tuple[str, str]) -> Sequence:
    return Sequence([_code(*one) for one in values])


VIEWS: list[tuple[str, dict[str, Any]]] = [
    ("lateral", {"SeriesDescription": "Thorax seitlich"}),
    ("lateral", {"SeriesDescription": "Thorax profil gauche"}),
    ("lateral", {"ProtocolName": "Chest lat"}),
    ("lateral", {"ProtocolName": "chest_lateral"}),
    ("lateral", {"AcquisitionDeviceProcessingDescription": "CHEST LAT"}),
    ("lateral", {"PatientName": "Lateral^Lat", "SeriesDescription": "chest lateral"}),
    *(("lateral", {"ViewPosition": text}) for text in ("LL", "RL", "LAT", "lateral", "LLAT", "L LAT", "LEFT LATERAL")),
    *(("oblique", {"ViewPosition": text}) for text in ("RAO", "LPO", "OBLIQUE")),
    *(("frontal", {"ViewPosition": text}) for text in ("PA", "AP", "frontal")),
    *(
        ("lateral", {"ViewCodeSequence": _codes((code, scheme))})
        for code, scheme in (("399173006", "SCT"), ("R-10236", "SRT"), ("R-102CD", "99LOCAL"), ("399067008", ""))
    ),
    ("lateral", {"ViewCodeSequence": _codes(("R-10236", "99LOCAL"), ("399348003", "SCT"))}),
    ("frontal", {"ViewCodeSequence": _codes(("R-10206", "99LOCAL")), "SeriesDescription": "lateral"}),
    ("frontal", {"ViewCodeSequence": _codes(("399348003", "SCT"))}),
    ("lateral", {"PatientOrientation": ["A", "F"]}),
    ("lateral", {"PatientOrientation": ["PL", "F"]}),
    ("", {"PatientOrientation": ["L", "F"]}),
    ("", {"SeriesDescription": "Thorax a.p.lateral"}),
    ("", {"SeriesDescription": "Thorax", "ProtocolName": "lateral", "AcquisitionDeviceProcessingDescription": "PA"}),
    ("", {"ViewPosition": "Umbrabe"}),
    ("", {}),
]
LISTED = (
    *("ABDOMEN", "HAND", "KNEE", "PELVIS", "SKULL", "PATELLA", "TIBIA", "FIBULA", "TIBFIB", "ULNA", "RADIUS", "ORBIT"),
    *("SINUS", "MANDIBLE", "MAXILLA", "CALCANEUS", "NOSE", "ZYGOMA", "IAC", "SACRUM", "TMJ"),
)
PARTS: list[tuple[str, dict[str, Any]]] = [
    *(("other", {"BodyPartExamined": text}) for text in LISTED),
    *(("other", {"BodyPartExamined": text}) for text in ("TIB_FIB", "LLEG", "BECKEN", "Knie", "UMBRABE", "CXR")),
    *(
        ("", {"BodyPartExamined": text})
        for text in ("CHEST", "thorax", "LUNG", "POUMON", "WHOLE BODY", "CHEST UMBRABE")
    ),
    ("", {"BodyPartExamined": "ABDOMEN THORAX"}),
    ("", {"BodyPartExamined": "POUMON HAND", "AnatomicRegionSequence": _codes(("T-D8700", "SRT"))}),
    ("other", {"BodyPartExamined": "KNIE", "AnatomicRegionSequence": _codes(("51185008", "SCT"))}),
    ("other", {"AnatomicRegionSequence": _codes(("72696002", "SCT"))}),
    ("other", {"AnatomicRegionSequence": _codes(("302551006", "SCT"))}),
    ("other", {"AnatomicRegionSequence": _codes(("K1", "99LOCAL"))}),
    ("", {"AnatomicRegionSequence": _codes(("T-D3000", "SRT"))}),
    ("", {"AnatomicRegionSequence": _codes(("816094009", "99LOCAL"), ("72696002", "SCT"))}),
    ("", {}),
]


def _run(values: dict[str, Any], key: Key, folder: Path, config: DeidentifyConfig = PLAIN) -> tuple[Dataset, Dataset]:
    with silence_pydicom():
        film = make_film(chest(), **values)
        dcmwrite(folder / "before.dcm", film, enforce_file_format=True)
        before = read_dicom(folder / "before.dcm")
        made = deidentify(before, config, key)
        dcmwrite(folder / "after.dcm", made.dataset, enforce_file_format=True)
        assert residuals(folder / "after.dcm", identifiers(before, folder / "x"), may_hold=[made.patient]) == []
        return before, read_dicom(folder / "after.dcm")


@pytest.mark.parametrize(("found", "values"), VIEWS)
def test_the_view_is_the_same(key: Key, tmp_path: Path, found: str, values: dict[str, Any]) -> None:
    before, after = _run(values, key, tmp_path)
    assert (view(before), view(after)) == (found, found)
    assert "mbrabe" not in str(after)
    assert not after.get("ViewPosition") or is_defined_term(0x00185101, after.ViewPosition)


@pytest.mark.parametrize(("found", "values"), PARTS)
def test_the_body_part_is_the_same(key: Key, tmp_path: Path, found: str, values: dict[str, Any]) -> None:
    before, after = _run(values, key, tmp_path)
    assert (body_part(before), body_part(after)) == (found, found)
    assert "mbrabe" not in str(after).lower()
    if values.get("BodyPartExamined") in LISTED:
        assert after.BodyPartExamined == before.BodyPartExamined
    for item in after.get("AnatomicRegionSequence", ()):
        assert item.CodeMeaning == meaning_of(item.CodingSchemeDesignator, item.CodeValue) != ""


def test_the_log_names_what_was_written(key: Key) -> None:
    film = make_film(chest(), AcquisitionDeviceProcessingDescription="CHEST LAT", BodyPartExamined="KNIE")
    changes = [(change.where, change.action) for change in deidentify(film, PLAIN, key).changes]
    assert changes.count(("(0018,5101)", "term")) == 1
    assert changes.count(("(0018,0015)", "term")) == 1
    assert changes.count(("(0008,2218)", "term")) == 1


@pytest.mark.parametrize(
    ("config", "values", "where"),
    [
        ({"remove": ["ViewPosition"]}, {"ViewPosition": "LL"}, r"^\(0018,5101\) View Position: .*recipe removes"),
        ({"remove": ["ViewPosition"]}, {"ViewPosition": "RAO"}, r"^\(0018,5101\) View Position: .*recipe removes"),
        ({"remove": ["BodyPartExamined", "AnatomicRegionSequence"]}, {"BodyPartExamined": "HAND"}, r"^\(0008,2218\) "),
        ({"keep": ["AnatomicRegionSequence"]}, {"BodyPartExamined": "KNIE"}, r"^\(0008,2218\) Anatomic Region"),
    ],
)
def test_a_recipe_that_leaves_no_place_for_it_sets_the_file_aside(
    key: Key, config: dict[str, Any], values: dict[str, Any], where: str
) -> None:
    with pytest.raises(IngestError, match=where):
        deidentify(make_film(chest(), **values), DeidentifyConfig(**config), key)


def test_the_word_of_the_site_stands(key: Key) -> None:
    recipe = DeidentifyConfig(replace=(("BodyPartExamined", "CHEST"), ("ViewPosition", "PA")))
    new = deidentify(make_film(chest(), BodyPartExamined="CXR", ViewPosition="LL"), recipe, key).dataset
    assert (view(new), body_part(new)) == ("frontal", "")
    frontal = make_film(chest(), ViewPosition="PA")
    assert view(deidentify(frontal, DeidentifyConfig(remove=("ViewPosition",)), key).dataset) == ""
