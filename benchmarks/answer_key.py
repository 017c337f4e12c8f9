"""The planted set with its answers in the form of the MIDI-B challenge: one row an element and action.

The validation script of the challenge (CBIIT/MIDI_validation_script) reads the table `answer_data` of an SQLite file
and two mappings, `id_old` to `id_new`, that the tool under test gives. The same rows are written as CSV for readers.

Source: Medical Image De-Identification Benchmark Challenge, arXiv 2507.23608, section 2.4.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medidistill.files import write_text
from tests.support.planted import Planted, holds
from tests.support.planted_pixels import PIXEL_PLACES

__all__ = ["Answer", "Score", "answers", "score", "write_answers", "write_mappings"]

_KEPT = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"),
    *("PixelRepresentation", "PhotometricInterpretation"),
)
_CONSISTENT = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_CHANGED_PIXELS = (*PIXEL_PLACES, "after the last pixel")
_COMMON = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "SOPClassUID")


@dataclass(frozen=True)
class Answer:
    """What has to become of one element.

    Args:
        sop_instance_uid: the image, as it is in the planted set.
        tag: path of the element in the script's notation, ``<(0040,0275)>[<0000>]<(0008,0050)>``.
        name: name of the element.
        value: its value.
        action: `text_removed`, `text_retained`, `date_shifted`, `uid_changed`, `uid_consistent`,
            `patid_consistent` or `pixels_retained`.
        action_text: what must be gone or stay; of pixels the MD5 of their bytes.
    """

    sop_instance_uid: str
    tag: str
    name: str
    value: str
    action: str
    action_text: str


@dataclass(frozen=True)
class Score:
    """How many actions a result took; an image that was set aside keeps nothing and lets nothing through."""

    actions: int
    correct: int


def _elements(dataset: Dataset, path: str = "") -> Iterator[tuple[str, DataElement]]:
    """Yield every element with its path, sequences left out."""
    for element in dataset:
        group, number = f"{element.tag.group:04x}", f"{element.tag.element:04x}"
        label = f"({group},{number})"
        if element.tag.is_private and element.private_creator:
            label = f'({group},"{str(element.private_creator).upper()}",{number[2:]})'
        place = f"{path}<{label}>"
        if element.VR == "SQ":
            for index, item in enumerate(element.value or ()):
                yield from _elements(item, f"{place}[<{index:04d}>]")
        else:
            yield place, element


def answers(planted: Planted, original: Dataset) -> list[Answer]:
    """Return what has to become of the elements of one planted file.

    Args:
        planted: the file and its values.
        original: the same file before values were planted in it.
    """
    dataset = pydicom.dcmread(planted.path)
    before = {path: str(element.value) for path, element in _elements(original)}
    found: list[Answer] = []

    def add(path: str, element: DataElement, action: str, text: str) -> None:
        value = "" if element.keyword == "PixelData" else str(element.value)
        found.append(Answer(str(dataset.SOPInstanceUID), path, str(element.name), value, action, text))

    for path, element in _elements(dataset):
        text = str(element.value or "")
        if element.keyword == "PixelData":
            if planted.place not in _CHANGED_PIXELS:
                add(path, element, "pixels_retained", hashlib.md5(element.value).hexdigest())
        elif element.keyword in _KEPT:
            add(path, element, "text_retained", text)
        elif element.keyword in _CONSISTENT:
            add(path, element, "uid_changed", text)
            add(path, element, "uid_consistent", text)
        elif element.keyword == "PatientID" and "[" not in path:
            add(path, element, "patid_consistent", text)
        elif element.VR in ("DA", "DT") and text:
            add(path, element, "date_shifted", text)
        elif element.VR == "PN" and text:
            add(path, element, "text_removed", text)
        elif text and before.get(path) != text:
            raw = element.value if isinstance(element.value, bytes) else text.encode("utf-8", "surrogateescape")
            for value in planted.values:
                if holds(raw, value):
                    add(path, element, "text_removed", value)
    return found


def _categories(action: str) -> dict[str, object]:
    """Return the fields that the script's reports ask for; the planted set has its own places, and no such classes."""
    empty: dict[str, object] = {"prev_cat": "", "dicom": {"p15": "", "iod": "", "safe": ""}}
    empty |= {"hipaa": {"z": "", "m": ""}, "tcia": {"ptkb": "", "p15": "", "rev": ""}}
    if action == "text_removed":
        empty["hipaa"] = {"z": "", "m": "HIPAA-A"}
    if action == "text_retained":
        empty["tcia"] = {"ptkb": "", "p15": "TCIA-P15-BASIC-K", "rev": ""}
    return empty


def write_answers(folder: Path, rows: Sequence[Answer], files: Iterable[Planted]) -> None:
    """Write ``answer_key.db`` for the script and ``answer_key.csv`` for readers.

    Args:
        folder: an existing folder without these files.
        rows: the answers of every file.
        files: the planted files.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(field.name for field in fields(Answer))
    writer.writerows(astuple(row) for row in rows)
    write_text(folder / "answer_key.csv", table.getvalue())
    by_image: dict[str, list[Answer]] = {}
    for row in rows:
        by_image.setdefault(row.sop_instance_uid, []).append(row)
    with contextlib.closing(sqlite3.connect(folder / "answer_key.db")) as database, database:
        columns = ", ".join(f'"{name}" TEXT' for name in (*_COMMON, "AnswerData"))
        database.execute(f"CREATE TABLE answer_data ({columns})")
        for one in files:
            header = pydicom.dcmread(one.path, stop_before_pixels=True)
            common = [str(header.get(name, "")) for name in _COMMON]
            data = {
                str(number): {
                    "action": f"<{row.action}>",
                    "action_text": f"<{row.action_text}>",
                    "answer_category_v2": _categories(row.action),
                    "value": f"<{row.value}>",
                    "tag": row.tag.rpartition("]")[2],
                    "tag_ds": row.tag,
                    "tag_name": f"<{row.name}>",
                }
                for number, row in enumerate(by_image[str(header.SOPInstanceUID)])
            }
            marks = ", ".join("?" * (len(common) + 1))
            database.execute(f"INSERT INTO answer_data VALUES ({marks})", [*common, json.dumps(data)])


def write_mappings(folder: Path, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Write ``uid_mapping.csv`` and ``patid_mapping.csv`` of a result, with the columns that the script asks for.

    Args:
        folder: where to.
        pairs: input and output file of each image that was written.
    """
    uids: dict[str, str] = {}
    patients: dict[str, str] = {}
    for before, after in pairs:
        old, new = (pydicom.dcmread(path, stop_before_pixels=True) for path in (before, after))
        uids |= {str(old[name].value): str(new[name].value) for name in _CONSISTENT}
        patients[str(old.PatientID)] = str(new.PatientID)
    for name, mapping in (("uid_mapping.csv", uids), ("patid_mapping.csv", patients)):
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("id_old", "id_new"), *mapping.items()])
        write_text(folder / name, table.getvalue())


def score(rows: Sequence[Answer], pairs: Iterable[tuple[Path, Path]]) -> Score:
    """Return how many actions a result took, by the rules of the challenge without its reading of pixels.

    Args:
        rows: the answers.
        pairs: input and output file of each image that was written.
    """
    written = {}
    uids: dict[str, str] = {}
    patients: dict[str, str] = {}
    for before, after in pairs:
        old, new = pydicom.dcmread(before, stop_before_pixels=True), pydicom.dcmread(after)
        written[str(old.SOPInstanceUID)] = (
            {path: str(element.value or "") for path, element in _elements(new)},
            hashlib.md5(new.PixelData).hexdigest(),
        )
        for name in _CONSISTENT:
            uids.setdefault(str(old[name].value), str(new[name].value))
        patients.setdefault(str(old.PatientID), str(new.PatientID))
    return Score(len(rows), sum(_is_taken(row, written.get(row.sop_instance_uid), uids, patients) for row in rows))


def _is_taken(
    row: Answer, result: tuple[dict[str, str], str] | None, uids: dict[str, str], patients: dict[str, str]
) -> bool:
    if result is None:
        return row.action in ("text_removed", "date_shifted", "uid_changed")
    values, digest = result
    text = values.get(row.tag, "")
    if row.action == "pixels_retained":
        return digest == row.action_text
    if row.action == "text_retained":
        return text == row.action_text
    if row.action == "uid_consistent":
        return text == uids[row.value]
    if row.action == "patid_consistent":
        return text == patients[row.value]
    return row.action_text.casefold() not in text.casefold()
