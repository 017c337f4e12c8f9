"""Labels follow the images through de-identification, and nothing else of their table does."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pydicom
import pytest

from medidistill.cli import main
from medidistill.errors import IngestError, QuarantineError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, LabelsWritten, deidentify_folder, write_labels


@pytest.fixture
def source(phantoms: list[Path], tmp_path: Path) -> Path:
    folder = tmp_path / "PHANTOM^WARD"
    folder.mkdir()
    for number, path in enumerate(phantoms[:3]):
        shutil.copy(path, folder / f"PHANTOM^{number}.dcm")
    return folder


def _table(source: Path, column: str) -> Path:
    lines = [f"{column},label,split,ward"]
    for number, path in enumerate(sorted(source.glob("*.dcm"))):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        names = {
            "path": path.name,
            "sop_instance_uid": header.SOPInstanceUID,
            "accession_number": header.AccessionNumber,
        }
        lines.append(f"{names[column]},class {number},{('train', 'val', 'test')[number]},PHANTOM^WARD")
    table = source.parent / "labels of PHANTOM.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.mark.parametrize("column", ["path", "sop_instance_uid"])
def test_each_image_keeps_its_label_and_split(source: Path, tmp_path: Path, key: Key, column: str) -> None:
    output, table = tmp_path / "clean", _table(source, column)
    result = deidentify_folder(source, output, DeidentifyConfig(), key, labels=table)
    assert result.labels == LabelsWritten(3, 0)
    text = (output / "images" / "labels.csv").read_text()
    rows = {row["path"]: row for row in csv.DictReader(text.splitlines())}
    assert (output / "images" / "labels.csv").stat().st_mode & 0o077 == 0
    assert "PHANTOM" not in text
    assert "2.25." not in text
    for number, path in enumerate(sorted(source.glob("*.dcm"))):
        (written,) = [one for one, origin in zip(result.written, result.sources, strict=True) if origin == path]
        row = rows.pop(written.removeprefix("images/"))
        assert row == {
            **{"path": row["path"], "label": f"class {number}", "split": ("train", "val", "test")[number]},
            **{"view": "", "patient_id": ""},
        }
        assert pydicom.dcmread(output / written).PixelData == pydicom.dcmread(path).PixelData
    assert rows == {}


def test_a_file_in_quarantine_has_no_row_and_a_table_of_nothing_is_refused(
    source: Path, tmp_path: Path, key: Key
) -> None:
    table = _table(source, "path")
    (source / "PHANTOM^1.dcm").write_bytes(b"no film any more")
    output = tmp_path / "clean"
    result = deidentify_folder(source, output, DeidentifyConfig(max_quarantine=0.5), key, labels=table)
    assert result.labels == LabelsWritten(2, 0)
    table.write_text("film,label\n")
    with pytest.raises(IngestError, match="needs a column"):
        write_labels(table, source, output, result.sources, result.written, key)
    with pytest.raises(IngestError, match="needs a column"):
        deidentify_folder(source, tmp_path / "other", DeidentifyConfig(max_quarantine=0.5), key, labels=table)
    assert not (tmp_path / "other").exists()


def test_labels_are_written_where_too_much_is_set_aside(source: Path, tmp_path: Path, key: Key) -> None:
    table = _table(source, "path")
    (source / "PHANTOM^1.dcm").write_bytes(b"no film any more")
    with pytest.raises(QuarantineError, match="1 of 3 images"):
        deidentify_folder(source, tmp_path / "clean", DeidentifyConfig(), key, labels=table)
    assert len((tmp_path / "clean" / "images" / "labels.csv").read_text().splitlines()) == 3


def test_a_label_that_holds_an_identifier_of_its_image_is_withheld(source: Path, tmp_path: Path, key: Key) -> None:
    table = _table(source, "path")
    dataset = pydicom.dcmread(source / "PHANTOM^0.dcm")
    dataset.PatientName, dataset.PatientID = "Umbrabe^Ada", "47110815"
    dataset.save_as(source / "PHANTOM^0.dcm")
    text = table.read_text()
    table.write_text(text.replace("class 0", "as in Umbrabe"))
    result = deidentify_folder(source, tmp_path / "one", DeidentifyConfig(), key, labels=table)
    assert result.labels == LabelsWritten(2, 1)
    assert "mbra" not in (tmp_path / "one" / "images" / "labels.csv").read_text()
    table.write_text(text.replace("class 0", "no 4711-0815"))
    assert deidentify_folder(source, tmp_path / "two", DeidentifyConfig(), key, labels=table).labels == LabelsWritten(
        2, 1
    )
    table.write_text(text.replace("class 1", "as in Umbrabe"))  # of another image's patient
    assert deidentify_folder(source, tmp_path / "three", DeidentifyConfig(), key, labels=table).labels == LabelsWritten(
        3, 0
    )


def test_the_command_writes_what_ingest_reads(source: Path, tmp_path: Path, key_file: Path, capsys) -> None:
    output, table = tmp_path / "clean", _table(source, "sop_instance_uid")
    command = ["deidentify", str(source), str(output), "--key-file", str(key_file), "--labels", str(table), "--quiet"]
    assert main(command) == 0
    assert "labels: 3 of 3 images" in capsys.readouterr().out


def _rows(output: Path) -> dict[str, dict[str, str]]:
    text = (output / "images" / "labels.csv").read_text()
    return {row["label"]: row for row in csv.DictReader(text.splitlines())}


def test_the_view_of_the_table_is_carried_in_our_words(source: Path, tmp_path: Path, key: Key) -> None:
    """A picture has no header, and a header may be silent: then this column alone keeps a lateral view out."""
    table = tmp_path / "views.csv"
    views = ("LL", "pa", "as PHANTOM lay")
    names = [path.name for path in sorted(source.glob("*.dcm"))]
    lines = [f"{name},class {n},{view}" for n, (name, view) in enumerate(zip(names, views, strict=True))]
    table.write_text("\n".join(["path,label,view", *lines]) + "\n")
    deidentify_folder(source, tmp_path / "clean", DeidentifyConfig(), key, labels=table)
    rows = _rows(tmp_path / "clean")
    assert [rows[f"class {n}"]["view"] for n in range(3)] == ["lateral", "frontal", ""]
