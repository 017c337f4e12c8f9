"""A folder of X-rays before a run reads it: classes, sites, what is set aside, and what could name a patient."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from medidistill.config import IngestConfig, PhantomConfig, RunConfig
from medidistill.errors import IngestError, MedidistillError
from medidistill.files import write_bytes, write_text
from medidistill.ingest.deidentify import letters_in_row
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.deidentify.text import MIN_LETTERS
from medidistill.ingest.dicom import file_kind, read_image
from medidistill.ingest.file_kind import START, kind_of
from medidistill.ingest.phantom import generate_phantom
from medidistill.ingest.sources import Record, find_records, workspace
from medidistill.ingest.sources.labels import class_names, normal_label
from medidistill.ingest.synthetic import all_marked_synthetic
from medidistill.patient_units import PatientSource, PatientUnits
from medidistill.pipeline.release.release_check import SplitCounts, count_splits
from medidistill.report.wording import confounded_sites, quarantine_by_reason
from view_models.bundles import unpack
from view_models.places import Places, class_folder, free_folder
from view_models.settings import effective_config

__all__ = [
    "Findings",
    "SourceView",
    "add_to_upload",
    "class_problem",
    "draw_phantoms",
    "folder_stamp",
    "keep_upload",
    "look_for_patients",
    "read_source",
    "sample_images",
]

_LOOKED_AT = 40  # files whose headers and pixels are looked at, spread over the folder
_NO_SITE = "site unknown"
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
_TABLES = (".csv", ".xlsx", ".CSV", ".XLSX", ".zip", ".npz")
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
        keys: path of each file relative to the folder, as lists name it.
        excluded: path relative to the folder -> reason, of files that somebody decided not to use.
        splits: images and patients by split, as a run would begin with; None where the labels do not allow one.
        frames: which frame of its file each image is, from 0; None: the file is one picture.
        packed: images that lie in an archive, which only a run unpacks.
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
    keys: tuple[str, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    splits: SplitCounts | None = None
    frames: tuple[int | None, ...] = ()
    packed: int = 0


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


def read_source(path: Path, exclusions: str | None = None) -> SourceView:
    """Look at a folder as a run would read it; nothing is decoded yet.

    Args:
        path: the folder.
        exclusions: as `ingest.exclusions` takes it; None: as the environment or the default say.

    Raises:
        ConfigError: a setting of the environment is wrong.
    """
    config = effective_config()
    ingest = config.ingest if exclusions is None else dataclasses.replace(config.ingest, exclusions=exclusions)
    try:
        with workspace(None) as place:
            found = find_records(path, ingest, place)
            packed = sum(record.path.is_relative_to(place) for record in found.records)
    except IngestError as error:
        return SourceView(path, error=str(error).replace(f"{path}: ", "").replace(f"{path}/", ""))
    records = found.records
    pairs = [(entry.key, entry.reason) for entry in found.quarantine]
    names = tuple(sorted({record.label for record in records}))
    table = _counts(records)
    known = {record.site for record in records}
    sites = {site: {str(k): int(v) for k, v in table[site].items()} for site in table.columns if site in known}
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
        keys=tuple(record.key for record in records),
        excluded={entry.key: entry.reason for entry in found.excluded},
        splits=_split_counts(path, records, config),
        frames=tuple(record.frame for record in records),
        packed=packed,
    )


def class_problem(view: SourceView, classes: tuple[str, ...]) -> str:
    """Return why the labels of a folder do not fit the classes of a run, as the run would say; empty where they do.

    Args:
        view: the folder.
        classes: `ingest.classes` of the run; empty: as the folder has them.
    """
    records = [Record(key, path, label, "") for (path, label), key in zip(view.files, view.keys, strict=True)]
    try:
        class_names(records, dataclasses.replace(effective_config().ingest, classes=classes))
    except IngestError as error:
        return str(error)
    return ""


def _split_counts(path: Path, records: list[Record], config: RunConfig) -> SplitCounts | None:
    with contextlib.suppress(MedidistillError):  # the run itself will say what is wrong with labels or splits
        phantom = all_marked_synthetic(path, [record.key for record in records])
        return count_splits(records, config, phantom=phantom)
    return None


def _counts(records: list[Record]) -> pd.DataFrame:
    known = any(record.site for record in records)
    none = _NO_SITE if known else "images"
    frame = pd.DataFrame({"class": [r.label for r in records], "site": [r.site or none for r in records]})
    table = pd.crosstab(frame["class"], frame["site"])
    table.columns.name = None
    return table


def sample_images(view: SourceView, each: int = 3) -> list[tuple[npt.NDArray[np.float32], str]]:
    """Return the first readable images of every class, (rows, columns) in [0, 1]. These are patients' images."""
    found: list[tuple[npt.NDArray[np.float32], str]] = []
    for name in view.classes:
        taken = 0
        for (path, label), frame in zip(view.files, view.frames, strict=True):
            if label != name:
                continue
            if taken == each:
                break
            try:
                found.append((read_image(path, frame), name))
                taken += 1
            except (IngestError, OSError):
                continue
    return found


def look_for_patients(view: SourceView) -> Findings:
    """Look into some files, spread over the folder, for values and letters that could name a patient."""
    step = max(1, len(view.files) // _LOOKED_AT)
    chosen = [(path, frame) for (path, _), frame in zip(view.files, view.frames, strict=True)][::step][:_LOOKED_AT]
    named: Counter[str] = Counter()
    dicom = letters = unreadable = 0
    for path, frame in chosen:
        try:
            if file_kind(path) == "dicom":
                dicom += 1
                dataset = read_dicom(path)
                named.update(word for word in _NAMING if str(dataset.get(word, "") or "").strip())
            letters += letters_in_row(read_image(path, frame)) >= MIN_LETTERS
        except (IngestError, OSError):
            unreadable += 1
    return Findings(len(chosen), dicom, dict(named.most_common()), letters, unreadable)


def draw_phantoms(folder: Path) -> None:
    """Draw phantom chest X-rays into a new folder. Raises `ResourceError` where it cannot be written."""
    generate_phantom(folder, PhantomConfig(patients_per_class=_PHANTOMS, seed=1), progress=False)


def keep_upload(places: Places, files: list[tuple[str, bytes]], label: str) -> Path:
    """Keep uploaded files in a new private folder; return it. Names of files and folders are not kept, classes are.

    Args:
        places: where to.
        files: names and contents: one ZIP archive, or images of one class.
        label: the class of images that come without an archive.

    Raises:
        IngestError: nothing usable in it.
    """
    target = free_folder(places.uploads, "upload")
    archives = sum(data.startswith(b"PK") for _, data in files)
    if archives and len(files) > 1:
        raise IngestError("give one ZIP archive alone, or images without an archive; nothing was kept")
    if not archives:
        return add_to_upload(target, files, label)
    # unpacked as a run unpacks it, and read as a run reads it; then only what it found is kept, by number
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=_made(places.uploads)) as name:
        place = Path(name)
        (place / "work").mkdir()
        found = find_records(unpack(files[0][1], place / "archive"), IngestConfig(), place / "work")
        if not found.records:
            reason = f", first: {found.quarantine[0].reason}" if found.quarantine else ""
            raise IngestError(f"no usable image in the archive{reason}; nothing was kept")
        try:
            _keep_by_number(found.records, target)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
    return target


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _keep_by_number(records: Sequence[Record], target: Path) -> None:
    """Copy images into `target`, numbered, with a table of what is known of each; patients as hashes."""
    target.mkdir(mode=0o700, parents=True)
    rows: list[dict[str, str]] = []
    names: dict[Path, str] = {}
    for record in records:
        if record.path in names:  # another frame of the same file
            continue
        with open(record.path, "rb") as file:
            suffix = _suffix(file.read(START))
        name = names[record.path] = f"image-{len(names):05d}{suffix}"
        write_bytes(target / name, record.path.read_bytes(), mode=0o600)
        patient = record.patient_id if record.patient_source is PatientSource.TABLE else ""
        age = "" if record.age is None else f"{record.age:g}"
        row = {"path": name, "label": record.label, "patient_id": patient, "split": record.split, "site": record.site}
        rows.append(row | {"sex": record.sex, "age": age, "view": record.view})
    table = pd.DataFrame(rows)
    known = [column for column in table if column in ("path", "label") or (table[column] != "").any()]
    write_text(target / "labels.csv", table[known].to_csv(index=False), mode=0o600)


def folder_stamp(path: Path) -> str:
    """Return a text that changes when a file below `path` comes, goes or is renamed, or when a table changes.

    Only folders and tables are asked for their times, so that many images cost little.
    """
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders.sort()
        watched = [folder, *(os.path.join(folder, name) for name in sorted(files) if name.endswith(_TABLES))]  # noqa: PTH118 (fast)
        for one in watched:
            with contextlib.suppress(OSError):
                told = os.stat(one)  # noqa: PTH116
                digest.update(f"{one}\0{told.st_mtime_ns}\0{told.st_size}\0{len(files)}\n".encode(errors="replace"))
    return digest.hexdigest()[:16]


def add_to_upload(target: Path, files: list[tuple[str, bytes]], label: str) -> Path:
    """Put images of one class into the folder of an upload. Raises `IngestError` without a class or an image."""
    name = class_folder(label)
    if not name:
        raise IngestError("the class of the images is missing: name it, for example normal")
    suffixes = [_suffix(data) for _, data in files]
    there = [one.name for one in target.iterdir() if one.is_dir()] if target.is_dir() else []
    if not target.is_dir():
        _made(target.parent)
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
