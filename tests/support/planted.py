"""Files with values planted in them that must not come out again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import UID

from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.support.planted_elements import PLACES, SHORT_NAME, SHORT_NUMBER, burn_in, make_item, put_raw
from tests.support.planted_names import CHARSETS, MISDECLARED, REDUCED, holds
from tests.support.planted_pixels import hidden_text

__all__ = ["CHARSETS", "KINDS", "MISDECLARED", "PLACES", "REDUCED", "Planted", "burn_in", "bytes_of", "holds", "plant"]


@dataclass(frozen=True)
class Planted:
    """One file with values at one place.

    Args:
        place: a key of `PLACES`, or a kind of character set.
        path: the file.
        values: what must be in no byte of the output.
    """

    place: str
    path: Path
    values: tuple[str, ...]


KINDS: tuple[str, ...] = (
    *PLACES,
    *(f"PN, {charset}" for charset in CHARSETS),
    *(f"PN, {coding}" for coding in MISDECLARED),
    *(f"reduced, {kind}" for kind in REDUCED),
)


def _charset_name(dataset: Dataset, charset: str | list[str], value: str) -> None:
    dataset.SpecificCharacterSet = charset
    dataset.PatientName = dataset.ReferringPhysicianName = value
    dataset.PatientComments = dataset.SeriesDescription = dataset.Manufacturer = value.replace("^", " ")
    dataset.AnatomicRegionSequence = Sequence([make_item(PatientName=value)])


def _misdeclared_name(dataset: Dataset, coding: str, declared: str | None, value: str) -> None:
    raw = value.encode(coding)
    for tag in (0x00100010, 0x00080090):
        put_raw(dataset, tag, "PN", raw)
    # not in descriptions: their words count as identifying, and so would help to find the name elsewhere
    for tag in (0x00080070, 0x00081090, 0x00181020):
        put_raw(dataset, tag, "LO", raw.replace(b"^", b" "))
    if declared is None:
        dataset.pop(0x00080005, None)
    else:
        put_raw(dataset, 0x00080005, "CS", declared.encode())


def _reduced_name(dataset: Dataset, value: str, reduced: str) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = value
    dataset.Manufacturer, dataset.ManufacturerModelName = f"Siemens {reduced}", reduced
    dataset.WindowCenterWidthExplanation, dataset.SoftwareVersions = reduced, f"V2.1 {reduced}"
    dataset.BodyPartExamined = reduced.upper()[:16]
    dataset.ViewCodeSequence = Sequence(
        [make_item(CodeValue="399348003", CodingSchemeDesignator="SCT", CodeMeaning=f"AP {reduced}")]
    )


def plant(dataset: Dataset, place: str, number: int, folder: Path) -> Planted:
    """Write a copy of a phantom with values planted at one place, and return what must not come out.

    Args:
        dataset: a phantom, changed in place.
        place: one of `KINDS`.
        number: makes the values and the UIDs those of this file alone.
        folder: where to write it.
    """
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.826.0.1.5.{number}.77")
    kind, _, detail = place.partition(", ")
    values: tuple[str, ...]
    if kind == "PN" and detail in CHARSETS:
        charset, value = CHARSETS[detail]
        _charset_name(dataset, charset, value)
        values = (value,)
    elif kind == "PN":
        _misdeclared_name(dataset, *MISDECLARED[detail])
        values = (MISDECLARED[detail][2],)
    elif kind == "reduced":
        _reduced_name(dataset, *REDUCED[detail])
        values = REDUCED[detail]
    else:
        make, put = PLACES[place]
        value = make(number)
        put(dataset, value)
        values = (value, SHORT_NUMBER) if value == SHORT_NAME else (value,)
    path = folder / f"image-{number:04d}"
    if place == "file and folder names":
        path = folder / f"{values[0]} ward" / f"{values[0]}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return Planted(place, path, values)


def bytes_of(path: Path) -> bytes:
    """Return what a DICOM file holds: its bytes, and the text that its pixels may carry in their upper bits."""
    with silence_pydicom():
        return path.read_bytes() + b"\n" + hidden_text(pydicom.dcmread(path))
