"""Tables of labels as scripts and spreadsheets write them: read, or refused with the line at fault."""

from __future__ import annotations

import codecs
import datetime
import os

import numpy as np
import openpyxl
import pytest
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest.sources import find_records, workspace
from medidistill.ingest.sources.table import read_table

ROWS = [("cat/0.png", "cat"), ("cat/1.png", "cat"), ("dog/0.png", "dog"), ("dog/1.png", "dog")]
PLAIN = "path,label\n" + "".join(f"{path},{label}\n" for path, label in ROWS)


@pytest.fixture
def folder(tmp_path):
    for k, (path, _) in enumerate(ROWS):
        file = tmp_path / "in" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (20, 20), dtype=np.uint8)).save(file)
    return tmp_path / "in"


def found(folder, table=None, **settings):
    if table is not None:
        (folder / "labels.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with workspace(folder.parent / "private") as place:
        return find_records(folder, IngestConfig(image_size=16, **settings), place)


def labels(result):
    return [(record.key, record.label) for record in result.records]


READ = {
    "plain": PLAIN,
    "windows line ends": PLAIN.replace("\n", "\r\n"),
    "old mac line ends": PLAIN.replace("\n", "\r"),
    "no line end at the end": PLAIN.rstrip(),
    "byte order mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "utf-16 with its mark": PLAIN.encode("utf-16"),
    "utf-16 big endian with its mark": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "utf-16 without a mark": PLAIN.encode("utf-16-le"),
    "utf-32 with its mark": codecs.BOM_UTF32_LE + PLAIN.encode("utf-32-le"),
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "told separator": "sep=;\r\n" + PLAIN.replace(",", ";"),
    "told separator, and cells to match the others": "sep=,,\n" + PLAIN,
    "told separator that no guess would find": '"sep=#"\n' + PLAIN.replace(",", "#"),
    "trailing commas": "".join(f"{line},,\n" for line in PLAIN.splitlines()),
    "trailing commas in rows alone": "path,label\n" + "".join(f"{path},{label},,\n" for path, label in ROWS),
    "blank lines and lines of delimiters": "\n" + PLAIN.replace("\n", "\n\n,\n , \n"),
    "spaces around cells": PLAIN.replace(",", " , "),
    "quotation marks": "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in PLAIN.splitlines()),
    "names of columns in other forms": PLAIN.replace("path,label", "Path,LABEL "),
    "an index without a name in front": "".join(
        f"{'' if i == 0 else i},{line}\n" for i, line in enumerate(PLAIN.splitlines())
    ),
    "columns that are not known, twice": "".join(f"{line},x,x\n" for line in PLAIN.splitlines()),
    "short rows": PLAIN.replace("path,label", "path,label,sex"),
    "backslashes": PLAIN.replace("/", "\\"),
    "dot and slash in front": PLAIN.replace("cat/", "./cat/").replace("dog/", ".\\dog/"),
    "another case": PLAIN.replace("cat/", "CAT/").replace(".png,", ".PNG,"),
    "steps within the folder": PLAIN.replace("cat/", "dog/../cat/"),
}


@pytest.mark.parametrize("table", READ.values(), ids=READ)
def test_table_is_read(folder, table):
    result = found(folder, table)
    assert labels(result) == ROWS
    assert not result.quarantine


REFUSED = {
    "empty": (b"", "not a readable CSV: it is empty"),
    "spaces": (b" \n \n", "not a readable CSV: it is empty"),
    "latin-1": (PLAIN.encode() + "cat/é.png,cat\n".encode("latin-1"), "line 6 holds the byte 0xE9.*CSV UTF-8"),
    "latin-1 after windows line ends": (b"path,label\r\n\r\ncat\xe9,cat\r\n", "line 3 holds the byte 0xE9"),
    "half of utf-16": (PLAIN.encode("utf-16")[:-1], "not a readable CSV in utf-16-le: damaged in line 5"),
    "zero bytes": (PLAIN.encode() + b"\0\0", "line 6 holds a zero byte"),
    "a quotation that does not end": (PLAIN + '"dog/2.png,dog\nx,y\n', "the row of line 6: a quotation mark is opened"),
    "text behind a quotation": (PLAIN + '"dog/2.png"x,dog\n', "the row of line 6: a quotation mark"),
    "a comma within a value": (PLAIN + "dog/2.png,1,234\n", "line 6 has 3 cells, the header has 2.*1,234"),
    "a comma within a value, behind a quotation of two lines": (
        'path,label,note\ncat/0.png,cat,"two\nlines"\ndog/2.png,1,234,x\n',
        "line 4 has 4 cells, the header has 3",
    ),
    "columns twice": ("path,label,Label\na,b,c\n", r"the column label is there 2 times \(columns 2, 3\)"),
    "no label": ("path,lable\na,b\n", r"needs a column label \(did you mean 'lable'"),
    "no path": ("pfad;label\na;b\n", r"needs a column path .*found label and 1 of other names"),
    "rows that name no file": ("path,label\n,cat\n,dog\n", "no row names a file; fill the column path"),
    "no rows": ("path,label\n,\n", "has no rows"),
    "old excel": (
        bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600),
        "an Excel workbook of the old kind or with a password",
    ),
    "listed twice, in two spellings": (
        PLAIN + "cat\\0.png,cat\n",
        r"1 file is listed more than once \(lines 2, 6\); keep one row a file",
    ),
}


@pytest.mark.parametrize(("table", "message"), REFUSED.values(), ids=REFUSED)
def test_table_is_refused_with_its_line(folder, table, message):
    with pytest.raises(IngestError, match=message) as caught:
        found(folder, table)
    assert "\n" not in str(caught.value)
    assert "labels.csv" in str(caught.value)


def test_numbers_are_lines_of_the_file_whatever_quotations_and_blank_lines_hold(tmp_path):
    (tmp_path / "a.csv").write_text('sep=;\n\npath;label;note\na;x;"one\n\ntwo"\n\nb;y;\n;;\nc;z;"u\r\nv"\nd;w;\n')
    assert read_table(tmp_path / "a.csv").index.tolist() == [4, 8, 10, 12]
    assert read_table(tmp_path / "a.csv").label.tolist() == ["x", "y", "z", "w"]


def test_rows_without_label_or_file_are_set_aside_by_their_line(folder):
    table = PLAIN + 'cat/9.png,cat\n"cat/\n8.png",cat\ncat/7.png,\n,cat\n'
    reasons = {one.key: one.reason for one in found(folder, table).quarantine}
    assert reasons == {
        "cat/9.png": "no such file",
        "cat/\\n8.png": "no such file",
        "labels.csv line 9": "no label",
        "labels.csv line 10": "no path",
    }


def test_paths_that_leave_the_folder_are_set_aside_and_not_read(folder):
    (folder.parent / "outside").mkdir()
    (folder.parent / "outside/1.png").write_bytes((folder / "cat/0.png").read_bytes())
    (folder / "link").symlink_to("../outside")
    (folder / "file.png").symlink_to("../outside/1.png")
    (folder / "inner").symlink_to("cat")
    os.mkfifo(folder / "pipe")
    outside = [
        str(folder.parent / "outside/1.png"),
        "../outside/1.png",
        "cat/../../outside/1.png",
        "..\\outside\\1.png",
    ]
    leading = ["link/1.png", "file.png", "cat/../link/1.png"]
    table = PLAIN + "".join(
        f"{path},cat\n" for path in [*outside, *leading, "pipe", "cat", str(folder / "inner/0.png")]
    )
    result = found(folder, table)
    reasons = {one.key: one.reason for one in result.quarantine}
    assert {reasons[path] for path in outside} == {"outside the input folder"}
    assert {reasons[path].partition(" (")[0] for path in leading} == {
        "a symbolic link that leads out of the input folder"
    }
    assert reasons["pipe"] == "not a regular file (a named pipe)"
    assert reasons["cat"] == "not a regular file (a folder)"
    assert [record.key for record in result.records if record.key not in dict(ROWS)] == ["inner/0.png"]
    table = table.replace("cat/../link/1.png,cat\n", "")  # the same file as link/1.png
    allowed = found(folder, table, follow_links=(str(folder.parent / "outside"),))
    assert {one.key for one in allowed.quarantine} == {*outside, "pipe", "cat"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "a symbolic link that leads out of the input folder"),
        (lambda path: path.symlink_to("none.csv"), "the table of labels is a symbolic link to nothing"),
        (os.mkfifo, r"the table of labels is not a regular file \(a named pipe\)"),
        (os.mkdir, r"the table of labels is not a regular file \(a folder\)"),
    ],
    ids=["link out", "link to nothing", "pipe", "folder"],
)
def test_table_that_is_no_file_of_the_folder_is_refused(folder, make, message):
    make(folder / "labels.csv")
    with pytest.raises(IngestError, match=message):
        found(folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "../labels.csv", "cat/../../labels.csv"])
def test_setting_for_the_table_cannot_leave_the_folder(folder, name):
    (folder.parent / "labels.csv").write_text(PLAIN)
    with pytest.raises(IngestError, match="outside the input folder"):
        found(folder, labels=name)


def test_two_files_that_differ_in_case_only_are_not_guessed_between(folder):
    (folder / "cat/A.png").write_bytes((folder / "cat/0.png").read_bytes())
    (folder / "cat/a.PNG").write_bytes((folder / "cat/1.png").read_bytes())
    result = found(folder, PLAIN + "cat/a.png,cat\n")
    assert [one.reason for one in result.quarantine] == ["no such file; but for case or composed letters several fit"]


def workbook(path, rows, **more):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name in more:
        book.create_sheet(name)
    book.save(path)


def test_workbook_is_read_with_its_rows(folder):
    rows = [("path", "label", "age", "patient_id"), *[(path, label, 54.0, 7) for path, label in ROWS]]
    rows[2:2] = [(None, None), ("cat/9.png", "cat", None, datetime.datetime(2020, 1, 2))]
    workbook(folder / "table.xlsx", rows, notes=[])
    result = found(folder, labels="table.xlsx")
    assert labels(result) == ROWS
    assert {record.age for record in result.records} == {54.0}
    assert len({record.patient_id for record in result.records}) == 1
    frame = read_table(folder / "table.xlsx")
    assert frame.index.tolist() == [2, 4, 5, 6, 7]
    assert frame.patient_id.tolist() == ["7", "2020-01-02", "7", "7", "7"]
    assert [one.key for one in result.quarantine] == ["cat/9.png"]


def test_workbook_under_the_name_of_a_csv_is_told_by_content(folder):
    workbook(folder / "labels.xlsx", [("path", "label"), *ROWS])
    (folder / "labels.xlsx").rename(folder / "labels.csv")
    assert labels(found(folder)) == ROWS


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:200] + bytes(300) + data[500:]])
def test_damaged_workbook_is_one_line(folder, damage):
    workbook(folder / "labels.xlsx", [("path", "label"), *ROWS])
    (folder / "labels.csv").write_bytes(damage((folder / "labels.xlsx").read_bytes()))
    with pytest.raises(IngestError, match=r"not a readable (zip|Excel)") as caught:
        found(folder)
    assert "\n" not in str(caught.value)


def test_label_number_forms_of_a_workbook_and_a_csv_agree(tmp_path):
    workbook(tmp_path / "a.xlsx", [("path", "label"), ("a", 1.0), ("b", 2), ("c", 0.5), ("d", True)])
    assert read_table(tmp_path / "a.xlsx").label.tolist() == ["1", "2", "0.5", "True"]
