"""Files that cannot be used: why, and where that is written."""

from __future__ import annotations

import stat

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, QuarantineError
from medidistill.ingest import ingest
from medidistill.ingest.sources import find_records, workspace

from .cohorts import cohort, png, table

DAMAGE = {
    "cut before its identifier": lambda whole: whole[: whole.index(b"\x08\x00\x50\x00SH")],
    "cut within its identifier": lambda whole: whole[: whole.index(b"\x08\x00\x50\x00SH") + 9],
    "empty": lambda whole: b"",
    "zeroed": lambda whole: bytes(len(whole)),
    "private transfer syntax": lambda whole: whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0", 1),
    "noise": lambda whole: bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8)),
    "a page of an error in its place": lambda whole: b"<html>502</html>",
}
UNREADABLE = "its header cannot be read: no row can name it"


def studies(folder, save, column):
    """Write ten films of five accessions, their table, and what lies beside films; return the path of one."""
    for n in range(10):
        pixels = np.random.default_rng(n).integers(0, 4095, (20, 20))
        save(folder / "studies" / f"IM{n}.dcm", pixels, number=n + 1, AccessionNumber=f"ACC{n // 2}")
    by_accession = [(f"ACC{n}", "cat" if n % 2 else "dog") for n in range(5)]
    by_uid = [(f"2.25.{n + 1}", "cat" if n % 2 else "dog") for n in range(10)]
    table(folder, by_accession if column == "accession_number" else by_uid, columns=(column, "label"))
    (folder / "README").write_text("Studies of the ward, für alle\n")
    (folder / "empty.txt").write_text("")
    (folder / "notes.xlsx").write_bytes(b"PK\x03\x04" + bytes(40))
    report = pydicom.dcmread(folder / "studies/IM0.dcm")
    del report.PixelData, report.Rows, report.AccessionNumber
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(folder / "studies/report.dcm")
    return folder / "studies/IM3.dcm"


def listed(folder, **settings):
    with workspace(folder.parent / "private") as place:
        return find_records(folder, IngestConfig(image_size=16, **settings), place)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_no_accession_can_name_is_set_aside(tmp_path, save, damage):
    film = studies(tmp_path / "in", save, "accession_number")
    assert listed(tmp_path / "in").quarantine == []
    assert not any("no row" in note for note in listed(tmp_path / "in").notes)
    film.write_bytes(DAMAGE[damage](film.read_bytes()))
    result = listed(tmp_path / "in")
    assert len(result.records) == 9
    assert [(entry.key, entry.reason) for entry in result.quarantine] == [("studies/IM3.dcm", UNREADABLE)]
    with pytest.raises(QuarantineError, match=f"1 of 10 files were quarantined.*1 x {UNREADABLE}"):
        ingest(tmp_path / "in", IngestConfig(image_size=16, max_quarantine=0.09))


def test_a_file_that_no_uid_can_name_counts_once(tmp_path, save):
    film = studies(tmp_path / "in", save, "sop_instance_uid")
    film.write_bytes(b"")
    result = listed(tmp_path / "in")
    assert [entry.reason for entry in result.quarantine] == ["no file with this sop_instance_uid"]
    assert "1 file has no header that can be read: no row can name such a file." in result.notes


def test_files_that_no_row_names_are_counted(tmp_path, save):
    studies(tmp_path / "in", save, "accession_number")
    for n, attributes in enumerate(({"AccessionNumber": "ACC7"}, {"AccessionNumber": "ACC8"}, {})):
        pixels = np.random.default_rng(20 + n).integers(0, 4095, (20, 20))
        save(tmp_path / "in/more" / f"IM{n}.dcm", pixels, number=20 + n, **attributes)
    png(tmp_path / "in/more/chart.png")
    result = listed(tmp_path / "in")
    assert (len(result.records), result.quarantine) == (10, [])
    assert "4 image files are named by no row of the table and left out." in result.notes


def test_bad_files_are_quarantined_with_a_reason_and_do_not_stop_the_run(tmp_path):
    rows = cohort(tmp_path)
    Image.new("L", (20, 20), 51).save(tmp_path / "cat/0_0.png")
    (tmp_path / "cat/1_0.png").write_bytes(b"no picture")
    (tmp_path / "dog/0_0.png").unlink()
    (tmp_path / "dog/1_0.png").write_bytes((tmp_path / "dog/1_1.png").read_bytes())
    (tmp_path / "dog/2_0.png").write_bytes((tmp_path / "dog/2_0.png").read_bytes()[:200])
    outside = tmp_path.parent / "outside.png"
    png(outside)
    table(tmp_path, [*rows, ("../outside.png", "cat", "x", ""), ("cat/none.png", "", "", "")])
    result = ingest(tmp_path, IngestConfig(image_size=16, max_quarantine=0.5))
    reasons = {entry.key: entry.reason for entry in result.quarantine}
    assert reasons.pop("dog/2_0.png").startswith("unreadable (")
    assert reasons == {
        "cat/0_0.png": "constant image",
        "cat/1_0.png": "neither DICOM nor PNG nor JPEG",
        "dog/0_0.png": "no such file",
        "dog/1_1.png": "same bytes as another file",
        "../outside.png": "outside the input folder",
        "labels.csv line 27": "no label",
    }
    assert len(result.manifest) == 24 - 5


def test_too_much_in_quarantine_names_reasons_and_writes_the_table(tmp_path):
    cohort(tmp_path / "in")
    for path in sorted((tmp_path / "in/cat").iterdir())[:4]:
        path.write_bytes(b"no picture")
    with pytest.raises(QuarantineError, match=r"4 of 24 files.*max_quarantine=0.1: 4 x neither DICOM") as caught:
        ingest(tmp_path / "in", IngestConfig(image_size=16), folder=tmp_path / "cache")
    written = tmp_path / "cache/quarantine.csv"
    assert str(written) in str(caught.value)
    assert len(pd.read_csv(written)) == 4
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert "\n" not in str(caught.value)


def test_nothing_but_quarantine(tmp_path):
    table(tmp_path, [("a.png", "cat", "", ""), ("b.png", "dog", "", "")])
    with pytest.raises(QuarantineError, match=r"2 of 2 files.*2 x no such file"):
        ingest(tmp_path, IngestConfig(image_size=16))
    with pytest.raises(IngestError, match=r"no usable images; 2 set aside, first: no such file") as caught:
        ingest(tmp_path, IngestConfig(image_size=16, max_quarantine=1.0))
    assert caught.value.private == ("a.png: no such file", "b.png: no such file")


def test_a_class_that_loses_its_files_to_the_quarantine_is_an_error(tmp_path):
    rows = cohort(tmp_path, split=True)
    for name, label, _, split in rows:
        if label == "dog" and split == "val":
            (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(IngestError, match="class 'dog' has no usable images in the val split"):
        ingest(tmp_path, IngestConfig(image_size=16, max_quarantine=0.5))


@pytest.mark.parametrize(
    ("patients", "split", "words"),
    [
        (4, False, "class 'cat' has 2 patients: a split by patient needs at least 3"),
        (3, True, "class 'cat' has no usable images in the train split"),
    ],
)
def test_what_was_set_aside_is_written_also_where_too_few_are_left(tmp_path, patients, split, words):
    """The table is what tells why patients are missing."""
    rows = cohort(tmp_path / "in", patients=patients, films=1, split=split)
    gone = [name for name, label, patient, _ in rows if label == "cat" and patient[-1] in ("03" if split else "01")]
    for name in gone:
        if split:
            (tmp_path / "in" / name).write_bytes(b"\x89PNG\r\n\x1a\n cut short")
        else:
            (tmp_path / "in" / name).unlink()
    (place := tmp_path / "private").mkdir()
    config = IngestConfig(image_size=16, max_quarantine=0.9)
    with pytest.raises(IngestError, match=words) as caught:
        ingest(tmp_path / "in", config, folder=place)
    count = len(gone)
    assert f"{count} file{' was' if count == 1 else 's were'} set aside before, table: {place / 'quarantine.csv'}" in (
        str(caught.value)
    )
    assert set(pd.read_csv(place / "quarantine.csv").key) == set(gone)
