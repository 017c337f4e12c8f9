"""Find the images of a source, their labels and their patients.

| source | labels from |
|---|---|
| folder with a CSV of labels | the CSV; rows name a file by path, SOP Instance UID or accession number |
| DICOMDIR | the CSV beside it, for the files that it lists |
| COVID-19 Radiography Database | the folder of each class |
| folder with one sub-folder a class | the sub-folder |
| MedMNIST npz | the archive |
| zip of any of these | as above |
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean
from medidistill.files import translate_os_errors
from medidistill.ingest.finding import find_files
from medidistill.ingest.sources.archive import unpack
from medidistill.ingest.sources.dicomdir import is_dicomdir, listed_files
from medidistill.ingest.sources.folders import from_folders, from_radiography, is_radiography
from medidistill.ingest.sources.medmnist import from_medmnist, is_npz
from medidistill.ingest.sources.record import Found, Record, hash_patient
from medidistill.ingest.sources.table import from_table

__all__ = ["Found", "Record", "class_names", "find_records", "hash_patient", "workspace"]

_DEFAULT_TABLE = "labels.csv"
_UNPACKED = "unpacked"


@contextmanager
def workspace(folder: Path | None) -> Iterator[Path]:
    """Give a place for what archives hold, closed to others, and remove it afterwards.

    Args:
        folder: the private folder of a run; what a killed run left there is removed first. None: below the
            system's temporary folder.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="medidistill-") as name:
            yield Path(name)
        return
    place = folder / _UNPACKED
    with translate_os_errors(place):
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(mode=0o700, parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def find_records(source: Path, config: IngestConfig, place: Path) -> Found:
    """List the labelled images of a source, sorted by key, and what had to be set aside.

    Args:
        source: a folder or file, see the table above.
        config: name of the CSV, class names, whether headers give sex and age.
        place: an empty private folder for what archives hold; see `workspace`.

    Raises:
        IngestError: the source is missing or empty, there are no labels, the CSV lacks a column, a label
            is unknown, or a file is listed twice.
        ResourceError: an archive cannot be unpacked.
    """
    found = _find(source, config, place)
    if config.frames == "split":
        found.split_frames()
    found.records.sort(key=lambda record: record.key)
    found.quarantine.sort(key=lambda entry: entry.key)
    return found


def _find(source: Path, config: IngestConfig, place: Path) -> Found:
    if not source.exists():
        raise IngestError(f"{source}: no such {'file' if source.suffix else 'folder'}")
    if source.is_dir():
        return _from_folder(source, config, place)
    if is_npz(source):
        return from_medmnist(source, place / "images", config)
    if zipfile.is_zipfile(source):
        return _from_folder(unpack(source, place / "archive"), config, place)
    if is_dicomdir(source):
        return _from_dicomdir(source, config)
    raise IngestError(
        f"{source}: is a file, and neither zip, MedMNIST npz nor DICOMDIR; give the folder that holds the images"
    )


def _from_folder(source: Path, config: IngestConfig, place: Path) -> Found:
    files = find_files(source, skip_system=True)
    if not files:
        raise IngestError(f"{source}: the folder is empty")
    if (source / config.labels).is_file():
        return from_table(source, source / config.labels, files, config)
    if config.labels != _DEFAULT_TABLE:
        raise _no_table(source, config)
    if len(files) == 1 and files[0].suffix == ".npz" and is_npz(files[0]):
        return from_medmnist(files[0], place / "images", config)
    if is_radiography(source):
        return from_radiography(source, files, config)
    return from_folders(source, files, config)


def _from_dicomdir(directory: Path, config: IngestConfig) -> Found:
    source = directory.parent
    if not (source / config.labels).is_file():
        raise _no_table(source, config)
    files, missing = listed_files(directory)
    found = from_table(source, source / config.labels, files, config)
    listed = {path.relative_to(source).as_posix() for path in files}
    known = Found(quarantine=found.quarantine)
    for record in found.records:
        if record.key in listed:
            known.records.append(record)
        else:
            known.set_aside(record.key, "not listed in the DICOMDIR")
    named = {entry.key.casefold() for entry in found.quarantine}
    for name in missing:
        if name not in named:
            known.set_aside(name, "listed in the DICOMDIR, but not there")
    return known


def _no_table(source: Path, config: IngestConfig) -> IngestError:
    guess = did_you_mean(config.labels, [path.name for path in source.glob("*.csv")])
    return IngestError(f"{source / config.labels}: no such table of labels{guess}")


def class_names(records: Sequence[Record], config: IngestConfig) -> tuple[str, ...]:
    """Return the class names in label order, after checking each label against `config.classes`.

    Raises:
        IngestError: a label that is no class, a class without images, or fewer than two classes.
    """
    counts = Counter(record.label for record in records)
    names = config.classes or tuple(sorted(counts, key=lambda name: (int(name) if name.isdecimal() else 0, name)))
    for label in sorted(set(counts) - set(names)):
        raise IngestError(
            f"label {label!r} of {counts[label]} images is not one of the classes {', '.join(names)}"
            f"{did_you_mean(label, names)}; mend the labels or add it to ingest.classes"
        )
    for name in names:
        if not counts[name]:
            guess = did_you_mean(name, sorted(set(counts) - {name}))
            raise IngestError(
                f"class {name!r} has no usable images; labels found: {', '.join(sorted(counts)) or 'none'}{guess}"
            )
    if len(names) < 2:
        raise IngestError(f"only one class ({', '.join(names)}): a comparison needs at least two")
    return names
