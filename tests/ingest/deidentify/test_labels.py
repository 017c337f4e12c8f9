"""Labels follow the images through de-identification, and nothing else of their table does."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pydicom
import pytest

from medidistill.cli import main
from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify_folder, write_labels


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
    result = deidentify_folder(source, output, DeidentifyConfig(), key)
    assert write_labels(table, source, output, result) == 3
    text = (output / "images" / "labels.csv").read_text()
    rows = {row["path"]: row for row in csv.DictReader(text.splitlines())}
    assert (output / "images" / "labels.csv").stat().st_mode & 0o077 == 0
    assert "PHANTOM" not in text
    assert "2.25." not in text
    for number, path in enumerate(sorted(source.glob("*.dcm"))):
        (written,) = [one for one, origin in zip(result.written, result.sources, strict=True) if origin == path]
        row = rows.pop(written.removeprefix("images/"))
        assert row == {"path": row["path"], "label": f"class {number}", "split": ("train", "val", "test")[number]}
        assert pydicom.dcmread(output / written).PixelData == pydicom.dcmread(path).PixelData
    assert rows == {}


def test_a_file_in_quarantine_has_no_row_and_a_table_of_nothing_is_refused(
    source: Path, tmp_path: Path, key: Key
) -> None:
    table = _table(source, "path")
    (source / "PHANTOM^1.dcm").write_bytes(b"no film any more")
    output = tmp_path / "clean"
    result = deidentify_folder(source, output, DeidentifyConfig(max_quarantine=0.5), key)
    assert write_labels(table, source, output, result) == 2
    table.write_text("film,label\n")
    with pytest.raises(IngestError, match="needs a column"):
        write_labels(table, source, output, result)


def test_the_command_writes_what_ingest_reads(source: Path, tmp_path: Path, key_file: Path, capsys) -> None:
    output, table = tmp_path / "clean", _table(source, "sop_instance_uid")
    command = ["deidentify", str(source), str(output), "--key-file", str(key_file), "--labels", str(table), "--quiet"]
    assert main(command) == 0
    assert "labels: 3 of 3 images" in capsys.readouterr().out
