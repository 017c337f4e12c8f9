"""What lies beside the films: neither read nor counted, so that a small folder is no failed one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import MediaStorageDirectoryStorage

from medidistill.cli import main
from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify_folder, locate, verify_audit
from medidistill.ingest.deidentify.other_files import kind_of_other_file


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("labels.csv", b"path,label\n", "table"),
        ("LABELS.CSV", b"path,label\n", "table"),
        ("metadata.xlsx", b"PK\x03\x04", "table"),
        ("README", b"read me\n", ""),  # no suffix says that it is none
        ("README.md", b"# films\n", "text"),
        ("notes.txt", b"text", "text"),
        ("study.json", b"{}", "text"),
        ("films.zip", b"PK\x03\x04", "archive"),
        ("SHA256SUMS.sha256", b"0", "checksum or signature"),
        ("viewer.exe", b"MZ", "program"),
        (".DS_Store", b"\0\0\0\1Bud1", "left by an operating system"),
        ("._img001.dcm", b"\0\5\x16\7", "left by an operating system"),
        ("Thumbs.db", b"\xd0\xcf", "left by an operating system"),
        ("desktop.ini", b"[.ShellClassInfo]", "left by an operating system"),
        ("__MACOSX/._img001.dcm", b"\0\5\x16\7", "left by an operating system"),
        ("__MACOSX/img001.dcm", b"\0\5\x16\7", "left by an operating system"),
        ("DICOMDIR", b"nothing", "DICOMDIR"),
        ("img001.dcm", b"damaged", ""),
        ("img002", b"", ""),
        ("img003.dcm", b"", ""),
    ],
)
def test_kinds_by_name(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    assert kind_of_other_file(path, tmp_path) == kind


def test_content_goes_before_the_name(phantoms: list[Path], tmp_path: Path) -> None:
    for name in ("film.csv", "._film", "DICOMDIR", "film.txt"):
        shutil.copy(phantoms[0], tmp_path / name)
        assert kind_of_other_file(tmp_path / name, tmp_path) == ""
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert kind_of_other_file(tmp_path / "picture.txt", tmp_path) == ""


def test_a_file_set_directory_is_known_by_its_class(phantoms: list[Path], tmp_path: Path) -> None:
    directory = pydicom.dcmread(phantoms[0])
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    pydicom.dcmwrite(tmp_path / "index", directory)
    assert kind_of_other_file(tmp_path / "index", tmp_path) == "DICOMDIR"


def small_folder(phantoms: list[Path], folder: Path) -> Path:
    """Six films, their table, and what systems leave behind."""
    folder.mkdir()
    rows = ["path,label"]
    for number, path in enumerate(phantoms[:6]):
        shutil.copy(path, folder / f"img{number}.dcm")
        rows.append(f"img{number}.dcm,{'normal' if number % 2 else 'pneumonia'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    for name in (".DS_Store", "._img0.dcm", "Thumbs.db", "desktop.ini", "notes for PHANTOM.txt"):
        (folder / name).write_bytes(b"\0\5\x16\7 PHANTOM")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._img0.dcm").write_bytes(b"\0\5\x16\7")
    return folder


def test_a_small_folder_gets_its_labels(
    phantoms: list[Path], key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = small_folder(phantoms, tmp_path / "in")
    command = ["deidentify", str(source), str(tmp_path / "out"), "--key-file", str(key_file), "--quiet"]
    assert main([*command, "--labels", str(source / "labels.csv")]) == 0
    said = capsys.readouterr().out
    assert "quarantined: 0" in said
    assert "no images: 7 other files" in said
    assert "labels: 6 of 6 images" in said
    assert len((tmp_path / "out" / "images" / "labels.csv").read_text().splitlines()) == 7
    command[2] = str(tmp_path / "other")
    assert main(command) == 0
    assert f"add --labels {source / 'labels.csv'}" in capsys.readouterr().out


def test_the_log_names_them_by_key_and_kind(phantoms: list[Path], key: Key, tmp_path: Path) -> None:
    source = small_folder(phantoms, tmp_path / "in")
    result = deidentify_folder(source, tmp_path / "out", DeidentifyConfig(), key)
    assert (len(result.written), len(result.quarantine), len(result.others)) == (6, 0, 7)
    lines = [json.loads(line) for line in (tmp_path / "out" / "audit.jsonl").read_text().splitlines()]
    entries = [line for line in lines if line["event"] == "no image"]
    assert sorted({entry["kind"] for entry in entries}) == ["left by an operating system", "table", "text"]
    assert locate(source, entries[0]["source"], key).is_file()
    assert verify_audit(tmp_path / "out" / "audit.jsonl", key) == []
    assert "PHANTOM" not in (tmp_path / "out" / "audit.jsonl").read_text()


def test_a_folder_of_nothing_but_tables_is_refused(tmp_path: Path, key: Key) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "labels.csv").write_text("path,label\n")
    with pytest.raises(IngestError, match="holds no images, but 1 other file"):
        deidentify_folder(tmp_path / "in", tmp_path / "out", DeidentifyConfig(), key)


CLASSES = {
    "1.2.840.10008.5.1.4.1.1.11.1": "presentation state",
    "1.2.840.10008.5.1.4.1.1.88.11": "structured report",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object selection",
    "1.2.840.10008.5.1.4.1.1.88.67": "structured report",
    "1.2.840.10008.5.1.4.1.1.104.1": "encapsulated document",
    "1.2.840.10008.5.1.4.1.1.9.1.1": "waveform",
    "1.2.840.10008.5.1.4.1.1.481.5": "radiotherapy object",
    "1.2.840.10008.5.1.4.1.1.66": "registration, segmentation or raw data",
    "1.2.840.10008.5.1.4.1.1.67": "real world value mapping",
    "1.2.840.10008.5.1.4.38.1": "hanging protocol",
    # images, and what no list knows
    "1.2.840.10008.5.1.4.1.1.1": "",
    "1.2.840.10008.5.1.4.1.1.2": "",
    "1.2.840.10008.5.1.4.1.1.7": "",
    "1.2.840.10008.5.1.4.1.1.1110": "",
    "1.3.12.2.1107.5.9.1": "",
    "": "",
}


def report(film: Path, target: Path, sop_class: str, *, pixels: bool = False, meta: bool = True) -> Path:
    dataset = pydicom.dcmread(film)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.PatientComments = "PHANTOM^SECRET"
    if not pixels:
        del dataset.PixelData
    if not meta:
        dataset.file_meta.MediaStorageSOPClassUID = ""
    dataset.save_as(target)
    return target


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize(("sop_class", "kind"), CLASSES.items())
def test_an_object_that_holds_no_image_is_known_by_its_class(
    phantoms: list[Path], tmp_path: Path, sop_class: str, kind: str, meta: bool
) -> None:
    path = report(phantoms[0], tmp_path / "object.dcm", sop_class, meta=meta)
    assert kind_of_other_file(path, tmp_path) == kind
    # pixels under a class that has none may be a film whose class is wrong: it counts, and is refused
    path = report(phantoms[0], tmp_path / "pixels.dcm", sop_class, pixels=True, meta=meta)
    assert kind_of_other_file(path, tmp_path) == ""


def test_reports_beside_films_are_neither_counted_nor_copied(
    phantoms: list[Path], tmp_path: Path, key: Key, real_data: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number, film in enumerate(phantoms[:2]):
        shutil.copy(film, source / f"film{number}.dcm")
    for number, sop_class in enumerate(one for one, kind in CLASSES.items() if kind):
        report(phantoms[0], source / f"other{number}.dcm", sop_class)
    for path in (real_data / "dicom" / "non_image").iterdir():
        shutil.copy(path, source / path.name)
    result = deidentify_folder(source, out, DeidentifyConfig(), key)
    assert len(result.written) == 2
    assert result.quarantine == ()
    assert {entry.reason for entry in result.others} == {kind for kind in CLASSES.values() if kind}
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"SECRET" not in written
    assert b"other1" not in written
