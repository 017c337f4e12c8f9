"""A folder of X-rays before a run reads it: classes, sites, what is set aside, and what could name a patient."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from medidistill.config import IngestConfig, PhantomConfig, RunConfig
from medidistill.errors import IngestError, MedidistillError
from medidistill.files import write_bytes
from medidistill.ingest.deidentify import letters_in_row
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.deidentify.text import MIN_LETTERS
from medidistill.ingest.dicom import file_kind, read_image
from medidistill.ingest.file_kind import START, kind_of
from medidistill.ingest.phantom import generate_phantom
from medidistill.ingest.sources import Record, find_records, workspace
from medidistill.ingest.sources.labels import normal_label
from medidistill.ingest.synthetic import all_marked_synthetic
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.release_check import SplitCounts, count_splits
from medidistill.report.wording import confounded_sites, quarantine_by_reason
from view_models.bundles import unpack
from view_models.places import Places, class_folder, free_folder

__all__ = [
    "Findings",
    "SourceView",
    "add_to_upload",
    "draw_phantoms",
    "keep_upload",
    "look_for_patients",
    "read_source",
    "sample_images",
]

_LOOKED_AT = 40  # files whose headers and pixels are looked at, spread over the folder
_PHANTOMS = 40  # patients in each class
_NAMING = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "OtherPatientIDs",
    "AccessionNumber",
    "StudyDate",
    "InstitutionName",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
    "StudyID",
    "DeviceSerialNumber",
)
_SUFFIXES = {"dicom": ".dcm", "png": ".png", "jpeg": ".jpg"}


@dataclass(frozen=True)
class SourceView:
    """What a folder holds.

    Args:
        path: the folder.
        error: why it cannot be read as X-rays; empty where it can.
        images: labelled images.
        patients: as far as the labels or headers tell them apart.
        units: what stands for a patient.
        notes: what was made of the folder, in sentences.
        classes: their names, sorted.
        counts: class x site, or class alone.
        confounded: a sentence for each class that shares no site with another.
        set_aside: (reason, number of files), no file name.
        files: what is labelled, for samples.
        splits: images and patients by split, as a run would begin with; None where the labels do not allow one.
    """

    path: Path
    error: str = ""
    images: int = 0
    patients: int = 0
    units: PatientUnits = field(default_factory=PatientUnits)
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    counts: pd.DataFrame = field(default_factory=pd.DataFrame)
    confounded: tuple[str, ...] = ()
    set_aside: tuple[tuple[str, int], ...] = ()
    files: tuple[tuple[Path, str], ...] = ()
    splits: SplitCounts | None = None


@dataclass(frozen=True)
class Findings:
    """What could name a patient in the files that were looked at. No value is kept.

    Args:
        looked_at: number of files.
        dicom: how many of them are DICOM.
        named: element -> files that hold a value in it.
        letters: files with rows of letters near a border of the picture.
        unreadable: files that could not be looked at.
    """

    looked_at: int
    dicom: int
    named: dict[str, int]
    letters: int
    unreadable: int


def read_source(path: Path) -> SourceView:
    """Look at a folder as a run would read it; nothing is decoded yet."""
    try:
        with workspace(None) as place:
            found = find_records(path, IngestConfig(), place)
    except IngestError as error:
        return SourceView(path, error=str(error).replace(f"{path}: ", "").replace(f"{path}/", ""))
    records = found.records
    pairs = [(entry.key, entry.reason) for entry in found.quarantine]
    names = tuple(sorted({record.label for record in records}))
    table = _counts(records)
    sites = {site: {str(k): int(v) for k, v in table[site].items()} for site in table.columns if site != "images"}
    return SourceView(
        path,
        images=len(records),
        patients=len({record.patient_id for record in records}),
        units=PatientUnits.of(record.patient_source for record in records),
        notes=tuple(found.notes),
        classes=names,
        counts=table,
        confounded=tuple(confounded_sites(sites, names)),
        set_aside=tuple((reason, count) for reason, count, _ in quarantine_by_reason(pairs)),
        files=tuple((record.path, record.label) for record in records),
        splits=_split_counts(path, records),
    )


def _split_counts(path: Path, records: list[Record]) -> SplitCounts | None:
    with contextlib.suppress(MedidistillError):  # the run itself will say what is wrong with labels or splits
        phantom = all_marked_synthetic(path, [record.key for record in records])
        return count_splits(records, RunConfig(), phantom=phantom)
    return None


def _counts(records: list[Record]) -> pd.DataFrame:
    frame = pd.DataFrame({"class": [r.label for r in records], "site": [r.site or "images" for r in records]})
    table = pd.crosstab(frame["class"], frame["site"])
    table.columns.name = None
    return table


def sample_images(view: SourceView, each: int = 3) -> list[tuple[npt.NDArray[np.float32], str]]:
    """Return the first readable images of every class, (rows, columns) in [0, 1]. These are patients' images."""
    found: list[tuple[npt.NDArray[np.float32], str]] = []
    for name in view.classes:
        taken = 0
        for path, _ in (pair for pair in view.files if pair[1] == name):
            if taken == each:
                break
            try:
                found.append((read_image(path), name))
                taken += 1
            except (IngestError, OSError):
                continue
    return found


def look_for_patients(view: SourceView) -> Findings:
    """Look into some files, spread over the folder, for values and letters that could name a patient."""
    step = max(1, len(view.files) // _LOOKED_AT)
    chosen = [path for path, _ in view.files[::step]][:_LOOKED_AT]
    named: Counter[str] = Counter()
    dicom = letters = unreadable = 0
    for path in chosen:
        try:
            if file_kind(path) == "dicom":
                dicom += 1
                dataset = read_dicom(path)
                named.update(word for word in _NAMING if str(dataset.get(word, "") or "").strip())
            letters += letters_in_row(read_image(path)) >= MIN_LETTERS
        except (IngestError, OSError):
            unreadable += 1
    return Findings(len(chosen), dicom, dict(named.most_common()), letters, unreadable)


def draw_phantoms(folder: Path) -> None:
    """Draw phantom chest X-rays into a new folder. Raises `ResourceError` where it cannot be written."""
    generate_phantom(folder, PhantomConfig(patients_per_class=_PHANTOMS, seed=1), progress=False)


def keep_upload(places: Places, files: list[tuple[str, bytes]], label: str) -> Path:
    """Keep uploaded files in a new private folder; return it.

    Args:
        places: where to.
        files: names and contents: one ZIP archive, or images of one class.
        label: the class of images that come without an archive.

    Raises:
        IngestError: nothing usable in it.
    """
    target = free_folder(places.uploads, "upload")
    if len(files) == 1 and files[0][1].startswith(b"PK"):
        # unpacked as a run unpacks it: the folder that it came from, names of classes as they are
        return unpack(files[0][1], target)
    return add_to_upload(target, files, label)


def add_to_upload(target: Path, files: list[tuple[str, bytes]], label: str) -> Path:
    """Put images of one class into the folder of an upload. Raises `IngestError` without a class or an image."""
    name = class_folder(label)
    if not name:
        raise IngestError("the class of the images is missing: name it, for example normal")
    suffixes = [_suffix(data) for _, data in files]
    there = [one.name for one in target.iterdir() if one.is_dir()] if target.is_dir() else []
    # a class that is there already, typed in another way, is that class
    folder = target / next((one for one in there if normal_label(one) == normal_label(name)), name)
    begin = len(list(folder.glob("image-*"))) if folder.is_dir() else 0
    for number, ((_, data), suffix) in enumerate(zip(files, suffixes, strict=True), start=begin):
        # names of files may hold names of patients: they are not kept
        write_bytes(folder / f"image-{number:05d}{suffix}", data, mode=0o600)
    target.chmod(0o700)
    return target


def _suffix(data: bytes) -> str:
    if kind := kind_of(data[:START]):
        return _SUFFIXES[kind]
    raise IngestError("one of the files is neither DICOM, PNG nor JPEG; nothing was kept")
