"""Uploads: names of files are not kept, classes are; what is counted follows the folder."""

from __future__ import annotations

import pytest

from medidistill.errors import IngestError

from .upload_files import archive, picture

TABLE = "path,label,patient_id,site,sex,age,split\n" + "".join(
    f"PHANTOM^{n}/film {n}.png,{label},PHANTOM-{n // 2},north,F,{40 + n},train\n"
    for n, label in enumerate(["Normal", "Viral Pneumonia"] * 2)
)


@pytest.mark.parametrize(
    "files",
    [
        {f"{label}/PHANTOM^{n}.png": picture(n) for n, label in enumerate(["Normal", "Viral Pneumonia"] * 2)},
        {f"x/train/{label}/PHANTOM^{n}.png": picture(n) for n, label in enumerate(["Normal", "Viral Pneumonia"] * 2)},
        {"labels.csv": TABLE} | {f"PHANTOM^{n}/film {n}.png": picture(n) for n in range(4)},
    ],
    ids=["class folders", "splits and class folders", "table"],
)
def test_archive_keeps_classes_and_no_name_of_a_file_or_folder(sources, places, files):
    kept = sources.keep_upload(places, [("PHANTOM^archive.zip", archive(files))], "")
    view = sources.read_source(kept)
    assert view.classes == ("Normal", "Viral Pneumonia")
    assert view.images == 4
    everything = list(places.uploads.rglob("*"))
    assert len(everything) == 1 + 4 + 1
    assert all("PHANTOM" not in str(path.relative_to(places.runs)) for path in everything)
    assert b"PHANTOM" not in (kept / "labels.csv").read_bytes()
    assert all(path.stat().st_mode & 0o077 == 0 for path in everything)


def test_table_of_an_archive_keeps_what_is_known_and_patients_stay_apart(sources, places):
    files = {"labels.csv": TABLE} | {f"PHANTOM^{n}/film {n}.png": picture(n) for n in range(4)}
    kept = sources.keep_upload(places, [("a.zip", archive(files))], "")
    view = sources.read_source(kept)
    assert (view.patients, view.units.nothing) == (2, 0)
    lines = (kept / "labels.csv").read_text().splitlines()
    assert lines[0] == "path,label,patient_id,split,site,sex,age"
    assert lines[1].endswith(",train,north,F,40")


def test_archive_without_patients_says_so(sources, places):
    files = {f"{label}/{n}.png": picture(n) for n, label in enumerate("abab")}
    view = sources.read_source(sources.keep_upload(places, [("a.zip", archive(files))], ""))
    assert view.units.nothing == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [
                ("a.zip", archive({"x/a.txt": b"no image", "y/b.txt": b"none"})),
            ],
            ".",
        ),
        ([("a.zip", archive({"a/1.png": picture()})), ("b.png", picture())], "one ZIP archive alone"),
        ([("a.zip", b"PK\x03\x04 nothing")], "not a readable zip"),
    ],
    ids=["no image", "archive and image", "damaged"],
)
def test_upload_that_cannot_be_used_leaves_nothing(sources, places, files, message):
    with pytest.raises(IngestError, match=message):
        sources.keep_upload(places, files, "")
    assert not places.uploads.exists() or not list(places.uploads.iterdir())


def test_counts_follow_the_folder_at_once(root, open_page):
    folder = root / "xrays"
    for k, label in enumerate(("Normal", "Pneumonia")):
        (folder / label).mkdir(parents=True)
        (folder / label / "0.png").write_bytes(picture(k))

    def images():
        test = open_page("data", data_here=str(folder))
        return [one.value for one in test.metric if one.label == "Images with a label"]

    assert images() == ["2"]
    (folder / "Normal" / "1.png").write_bytes(picture(9))
    assert images() == ["3"]
    (folder / "Normal" / "1.png").unlink()
    assert images() == ["2"]


def test_stamp_changes_with_files_and_tables_and_with_nothing_else(sources, tmp_path):
    folder = tmp_path / "x"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "labels.csv").write_text("path,label\n")
    first = sources.folder_stamp(folder)
    assert sources.folder_stamp(folder) == first
    (folder / "a" / "b" / "new.png").write_bytes(b"1")
    second = sources.folder_stamp(folder)
    (folder / "labels.csv").write_text("path,label\nx,y\n")
    third = sources.folder_stamp(folder)
    (folder / "a" / "b" / "new.png").rename(folder / "a" / "b" / "other.png")
    assert len({first, second, third, sources.folder_stamp(folder)}) == 4
