"""The check of what was written: which values it takes from the input, and where it finds them in the output."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from medidistill.ingest import deidentify as package
from medidistill.ingest.deidentify import DeidentifyConfig, Identifiers, Key, deidentify, identifiers, residuals
from medidistill.ingest.deidentify.bytesearch import ByteSearch
from medidistill.ingest.deidentify.engine import written_by_engine
from medidistill.ingest.deidentify.identifying_values import _PHONES, _WHOLE, _WORDS
from medidistill.ingest.deidentify.residual import text_runs
from medidistill.ingest.silence_pydicom import silence_pydicom

LAX = DeidentifyConfig(max_quarantine=1.0)


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with silence_pydicom():
        dcmwrite(path, dataset, enforce_file_format=True)
    return path


def raw(dataset: Dataset, tag: int, vr: str, value: bytes) -> None:
    value += b" " * (len(value) % 2)
    dataset[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


@pytest.fixture
def needles(phantom: FileDataset) -> Identifiers:
    """Those of a patient with a long and a short name, numbers of eight and four digits, and a telephone."""
    phantom.SpecificCharacterSet = "ISO_IR 192"
    phantom.PatientName, phantom.PatientBirthDate = "Adastra^Lin=幻影^太郎", "19610312"
    phantom.ReferringPhysicianName, phantom.StudyID = "Koch^Li", "4713"
    phantom.PatientID, phantom.StudyInstanceUID = "47110815", "1.2.3.4.5"
    phantom.PatientTelephoneNumbers = "+41 79 555 12 34"
    return identifiers(phantom, Path("x.dcm"))


@pytest.fixture
def clean(phantom: FileDataset, needles: Identifiers) -> Dataset:
    dataset = deidentify(phantom, LAX, Key(bytes(range(40)))).dataset
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def found(dataset: Dataset, needles: Identifiers, path: Path) -> list[str]:
    return residuals(save(dataset, path), needles, may_hold=written_by_engine(dataset))


@pytest.mark.parametrize(
    ("keyword", "value", "hit"),
    [
        ("SeriesDescription", "seen by Adastra", True),
        ("SeriesDescription", "ADÁSTRA", True),
        ("SeriesDescription", "adastrate", True),  # longer words hold it as well
        ("SeriesDescription", "born 12.03.1961", True),
        ("SeriesDescription", "born 1961-03-12", True),
        ("SeriesDescription", "born 12-Mar-1961", True),
        ("SeriesDescription", "born 12.03.61", True),
        ("SeriesDescription", "lin", True),
        ("SeriesDescription", "linear", False),  # three letters count as a whole word
        ("SeriesDescription", "Dr. Koch", True),
        ("SeriesDescription", "KOCH^Eva", True),
        ("SeriesDescription", "Kocher", False),
        ("SeriesDescription", "for Li.", True),
        ("SeriesDescription", "lithium", False),
        ("SeriesDescription", "no 47110815", True),
        ("SeriesDescription", "no 4711-0815", True),
        ("SeriesDescription", "no 4711 0815", True),
        ("SeriesDescription", "no 1471108159", False),  # part of another number
        ("SeriesDescription", "4713", True),
        ("SeriesDescription", "47131", False),
        ("SeriesDescription", "call 079 555 12 34", True),
        ("SeriesDescription", "call 0041795551234", True),
        ("SeriesDescription", "chest", False),
        ("StudyInstanceUID", "1.2.3.4.5", True),
        ("TextComments", "幻影 太郎", True),
        ("TextComments", "huanying", True),  # transliterated
        ("InstanceNumber", "4713", True),
        ("InstanceNumber", "47130", False),
        ("ExposureIndex", "4713.0", True),
        ("WindowCenter", "4713", False),  # a number of the picture
        ("RelativeXRayExposure", "19610312", True),
        ("ExposureIndex", "0795551234", True),
        ("AcquisitionDuration", 19610312.0, True),
        ("RegionLocationMinX0", 47110815, True),
        ("ContentDate", "19610312", True),
        ("BodyPartExamined", "KOCH", True),
        ("PatientOrientation", ["LI", "F"], True),
        ("RescaleType", "US", False),
    ],
)
def test_values_by_hand(
    clean: Dataset, needles: Identifiers, tmp_path: Path, keyword: str, value: object, hit: bool
) -> None:
    assert found(clean, needles, tmp_path / "clean.dcm") == []
    with silence_pydicom():
        setattr(clean, keyword, value)
    assert bool(found(clean, needles, tmp_path / "b.dcm")) is hit


@pytest.mark.parametrize(
    ("put", "place"),
    [
        (lambda d: raw(d, 0x00091001, "UN", b"seen by Adastra"), "bytes"),
        (lambda d: raw(d, 0x00091001, "UN", b"by Koch, Eva"), "bytes"),
        (lambda d: raw(d, 0x00280106, "US", b"KOCH"), "bytes"),
        (lambda d: raw(d, 0x00283006, "OW", b"\0" * 60 + b"operator for Li and Eva"), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + b"Adastra "), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + b"operator saw Koch, Eva"), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + b"\0Koch\0"), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + b"\0" + "\0Koch\0".encode("utf-16-be")), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + " Koch ".encode("utf-16-le")), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + b"\x9f47110815\x9f"), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + b" 4713 "), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + "\0Adástra\0".encode("latin-1")), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + "\0Adástra\0".encode()), "bytes"),
        (lambda d: raw(d, 0x7FE00010, "OW", bytes(d.PixelData) + "幻影太郎".encode("shift_jis")), "bytes"),
        (lambda d: d.update({Tag(0x00081140): _sequence(SeriesDescription="Dr. Koch")}), "(0008,103E)"),
        (lambda d: setattr(d, "preamble", b"Koch".ljust(128, b"\0")), "preamble"),
        (lambda d: setattr(d.file_meta, "SourceApplicationEntityTitle", "KOCH"), "file meta"),
        (lambda d: _private_information(d, b"for Koch, Eva"), "bytes"),
    ],
)
def test_places_of_every_kind(clean: Dataset, needles: Identifiers, tmp_path: Path, put: object, place: str) -> None:
    with silence_pydicom():
        put(clean)  # type: ignore[operator]
    assert place in found(clean, needles, tmp_path / "b.dcm")


@pytest.mark.parametrize(
    "value",
    [
        "Adástra".encode("latin-1"),  # declared is UTF-8
        "Adástra".encode("cp850"),
        "Adástra".encode().decode("latin-1").encode(),
        "Адастра".encode("cp1251"),
        "幻影".encode("gb18030"),
        "幻影".encode("iso2022_jp"),
        "Adastra".encode("utf-16-le"),
    ],
)
def test_a_text_in_another_character_set_than_declared(
    clean: Dataset, needles: Identifiers, tmp_path: Path, value: bytes
) -> None:
    value += b" " * (len(value) % 2)
    clean.SeriesDescription = "Q" * len(value)
    path = save(clean, tmp_path / "a.dcm")
    assert residuals(path, needles, may_hold=written_by_engine(clean)) == []
    path.write_bytes(path.read_bytes().replace(b"Q" * len(value), value))
    assert "(0008,103E)" in residuals(path, needles, may_hold=written_by_engine(clean))


def _sequence(**values: object) -> pydicom.DataElement:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return pydicom.DataElement(Tag(0x00081140), "SQ", Sequence([item]))


def _private_information(dataset: Dataset, value: bytes) -> None:
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.826.0.1.999")
    dataset.file_meta.PrivateInformation = value + b" " * (len(value) % 2)


@pytest.mark.parametrize("glued", [b"\x9fKoch\x9f", b"aKochb", b"Lin ", b"\x80Li\x80"])
def test_short_names_among_random_bytes_are_no_hit(
    clean: Dataset, needles: Identifiers, tmp_path: Path, glued: bytes
) -> None:
    """Four letters stand there by chance in one film of a hundred: without separators they tell nothing."""
    raw(clean, 0x7FE00010, "OW", bytes(clean.PixelData) + b"\x90\x91\x92" + glued + b"\x93\x94")
    assert found(clean, needles, tmp_path / "b.dcm") == []


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian])
def test_every_uncompressed_syntax_is_searched(
    clean: Dataset, needles: Identifiers, tmp_path: Path, syntax: UID
) -> None:
    little = syntax != ExplicitVRBigEndian
    for text, hits in (("chest", []), ("by Adastra", ["(0008,103E)"])):
        new = Dataset()
        new.update(clean)
        new.SeriesDescription = text
        new.file_meta, new.preamble = clean.file_meta, clean.preamble
        new.file_meta.TransferSyntaxUID = syntax
        with silence_pydicom():
            implicit = syntax == ImplicitVRLittleEndian
            dcmwrite(tmp_path / "a.dcm", new, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
        assert residuals(tmp_path / "a.dcm", needles, may_hold=written_by_engine(new))[: len(hits) or 1] == hits
    raw(new, 0x0008103E, "LO", b"CHEST")
    raw(new, 0x7FE00010, "OW", bytes(clean.PixelData)[:-8] + b" Koch   ")
    with silence_pydicom():
        dcmwrite(tmp_path / "b.dcm", new, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    assert residuals(tmp_path / "b.dcm", needles, may_hold=written_by_engine(new)) == ["bytes"]


def test_terms_of_the_standard_are_no_hit_and_the_same_word_elsewhere_is(
    phantom: FileDataset, key: Key, tmp_path: Path
) -> None:
    """A patient may be called Chest, Linear or Hu: the term stays where the standard puts it, and nowhere else."""
    phantom.PatientName, phantom.ReferringPhysicianName = "Chest^Linear", "Hu^Identity"
    phantom.BodyPartExamined, phantom.VOILUTFunction, phantom.RescaleType = "CHEST", "LINEAR", "HU"
    phantom.PresentationLUTShape = "IDENTITY"
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "51185008", "SCT", "x"
    phantom.AnatomicRegionSequence = Sequence([view])
    names = identifiers(phantom, Path("x.dcm"))
    assert {"chest", "linear", "hu", "identity"} <= names.texts
    clean = deidentify(phantom, LAX, key).dataset
    assert found(clean, names, tmp_path / "a.dcm") == []
    raw(clean, 0x7FE00010, "OW", bytes(clean.PixelData) + b"operator Linear, Chest")
    assert found(clean, names, tmp_path / "b.dcm") == ["bytes"]
    clean = deidentify(phantom, LAX, key).dataset
    clean.SeriesDescription = "for Hu"
    assert found(clean, names, tmp_path / "c.dcm")[0] == "(0008,103E)"


@pytest.mark.parametrize(
    ("header", "written"),
    [
        ("Fantomłowska^Ada", "FANTOMLOWSKA"),
        ("Fantomlowska^Ada", "Fantomłowska"),
        ("Spøgelsen^Ada", "Spoegelsen"),
        ("Spoegelsen^Ada", "Spøgelsen"),
        ("Geistgroß^Ada", "Geistgross"),
        ("Hayalet\u0131^Ada", "Hayaleti"),
        ("Phantom\ufb01nder^Ada", "Phantomfinder"),
        ("O\u2019Spectre^Ada", "O'SPECTRE"),
        ("O'Spectre^Ada", "OSpectre"),
        ("Umbra\u2010Spectre^Ada", "Spectre"),
        ("Щёкин^Ада", "Shchyokin"),
        ("=幻影^太郎", "Huanying"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada"),
        ("Shchyokin^Ada=Щёкин^Ада", "Щёкин"),
        ("Umbra^Ada^Maria^Prof^MdB", "Maria"),
        ("De La Umbra^Ada", "umbra"),
    ],
)
def test_a_name_is_found_in_another_spelling(
    phantom: FileDataset, key: Key, tmp_path: Path, header: str, written: str
) -> None:
    phantom.SpecificCharacterSet, phantom.PatientName = "ISO_IR 192", header
    names = identifiers(phantom, Path("x.dcm"))
    clean = deidentify(phantom, LAX, key).dataset
    assert found(clean, names, tmp_path / "a.dcm") == []
    clean.SpecificCharacterSet, clean.SoftwareVersions = "ISO_IR 192", f"V1 by {written}"
    assert found(clean, names, tmp_path / "b.dcm")[0] == "(0018,1020)"


def listed(text: str) -> list[str]:
    return [name for name in text.split() if dictionary_VR(tag_for_keyword(name)) != "SQ"]


@pytest.mark.parametrize("keyword", listed(f"{_WHOLE} {_WORDS} {_PHONES}"))
def test_each_identifying_element_is_known(phantom: FileDataset, keyword: str) -> None:
    value = "QZ-4711-XW"
    meta = tag_for_keyword(keyword) >> 16 == 2
    setattr(phantom.file_meta if meta else phantom, keyword, value)
    needles = identifiers(phantom, Path("x.dcm"))
    assert value.lower() in needles
    words = keyword in _WORDS.split()
    setattr(phantom.file_meta if meta else phantom, keyword, "Qwzx Hexenkessel 12")
    assert ("hexenkessel" in identifiers(phantom, Path("x.dcm"))) is words


@pytest.mark.parametrize(
    ("tag", "vr", "value", "needle"),
    [
        (0x00100010, "UN", b"Umbrabe^Ada", "umbrabe"),
        (0x00100010, "LO", b"Umbrabe^Ada", "umbrabe"),
        (0x00100010, "US", b"UmbraA", "umbraa"),
        (0x00091002, "PN", b"Umbrabe^Ada", "umbrabe"),
        (0x00100020, "UN", b"47110815", "47110815"),
        (0x00100030, "UN", b"19610312", "12.03.1961"),
        (0x00400241, "AE", b"UMBRA_SCU", "umbra_scu"),
    ],
)
def test_a_wrong_value_representation_hides_nothing(
    phantom: FileDataset, tag: int, vr: str, value: bytes, needle: str
) -> None:
    raw(phantom, tag, vr, value)
    assert needle in identifiers(phantom, Path("x.dcm"))


def test_values_that_tell_nothing_are_no_identifiers(phantom: FileDataset) -> None:
    for word in ("Anonymous", "ANONYMIZED", "removed", "unknown", "None", "TEST", "null", "Patient", "name", "yes"):
        phantom.PatientName, phantom.PatientID = word, "000 0.0-"
        texts = identifiers(phantom, Path("x.dcm")).texts
        assert word.lower() not in texts
        assert not any(not text.strip("0 .-") for text in texts)
    for text, counts in (("Li", False), ("Lin", True), ("123", False), ("1234", True), ("李", False), ("李四", True)):
        phantom.SpecificCharacterSet, phantom.PatientID, phantom.PatientName = "ISO_IR 192", text, ""
        assert (text.lower() in identifiers(phantom, Path("x.dcm"))) is counts
    for name, counts in (("Li", True), ("X", False), ("von", False), ("Dr", False), ("Chest", True)):
        phantom.PatientID, phantom.PatientName = "", name
        assert (name.lower() in identifiers(phantom, Path("x.dcm"))) is counts
    assert "abcdef" in identifiers(phantom, Path("abcdef.dcm"))
    assert "abcde" not in identifiers(phantom, Path("abcde.dcm"))
    assert "chest right" not in identifiers(phantom, Path("chest right.dcm"))


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        *(("Phantomata", one) for one in ("utf-8", "latin-1", "utf-16-le", "utf-16-be")),
        *(("Фантомов", one) for one in ("cp1251", "koi8-r", "iso8859-5", "utf-8", "utf-16-le")),
        ("幻影太郎", "shift_jis"),
        ("幻影太郎", "iso2022_jp"),
        ("幻影太郎", "gb18030"),
        ("幻影太郎", "big5"),
        ("환영가상", "euc_kr"),
        ("Φάντασμα", "iso8859-7"),
        ("Phäntömsen", "cp850"),
    ],
)
def test_bytes_are_searched_in_each_encoding(
    phantom: FileDataset, key: Key, tmp_path: Path, name: str, encoding: str
) -> None:
    phantom.SpecificCharacterSet, phantom.PatientName = "ISO_IR 192", name
    needles = identifiers(phantom, Path("x.dcm"))
    clean = deidentify(phantom, DeidentifyConfig(), key).dataset
    assert found(clean, needles, tmp_path / "a.dcm") == []
    for case in (name, name.upper()):
        value = case.encode(encoding)
        clean.PixelData = value + clean.PixelData[len(value) :]
        assert found(clean, needles, tmp_path / "b.dcm") == ["bytes"]


def test_bytes_of_a_name_are_found_whatever_they_mean(phantom: FileDataset, key: Key, tmp_path: Path) -> None:
    strange = bytes(range(0x81, 0x8F))  # letters of no coding that is known
    raw(phantom, 0x00100010, "PN", strange + b"^Ada")
    needles = identifiers(phantom, Path("x.dcm"))
    with silence_pydicom():
        clean = deidentify(phantom, LAX, key).dataset
    clean.PixelData = strange + clean.PixelData[len(strange) :]
    assert found(clean, needles, tmp_path / "b.dcm") == ["bytes"]


@pytest.mark.parametrize(
    ("value", "runs"),
    [
        (b"\x90operator for Li, Eva\x91", ["operator for Li, Eva"]),
        (b"\x90short for Li\x91", []),
        (b"aabbccddeeffgghhiijjkkllmm", []),  # grey values: nothing parts words
        (b"aab`bcc[dde]eff{gg} hh~ii|", []),
        (b"operator_for[Li] and his friends", ["operator0for0Li0 and his friends"]),
        ("operator für Li, Eva".encode(), []),
    ],
)
def test_what_reads_like_text_among_binary_values(value: bytes, runs: list[str]) -> None:
    assert list(text_runs(value)) == runs


def test_search_finds_every_pattern_at_every_place() -> None:
    data = bytes(range(256)) * 3 + b"xxKOCHanna" + b"\xff" * 5 + b"koch" + b"abc"
    search = ByteSearch([b"Koch", b"ann", b"\xfe\xff\xff", b"abc", b"nothere"])
    hits = sorted(search.find(data))
    expected = [
        (pattern, at)
        for pattern in (b"koch", b"ann", b"\xfe\xff\xff", b"abc")
        for at in range(len(data))
        if data.lower().startswith(pattern, at)
    ]
    assert hits == sorted(expected)
    assert list(ByteSearch([]).find(data)) == []
    assert list(ByteSearch([b"abc"]).find(b"ab")) == []
    with pytest.raises(ValueError, match="pattern of 2 bytes"):
        ByteSearch([b"ab"])


def test_search_crosses_the_borders_of_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medidistill.ingest.deidentify.bytesearch._CHUNK", 8)
    data = b"..koch..koch.koch....koch"
    assert [at for _, at in ByteSearch([b"koch", b"kochkochkoch"]).find(data)] == [2, 8, 13, 21]


def test_the_package_exports_what_it_documents() -> None:
    assert all(hasattr(package, name) for name in package.__all__)
