"""Find the images of a source, their labels and their patients.

| source | labels from |
|---|---|
| folder with a table of labels | CSV or xlsx; rows name a file by path, SOP Instance UID or accession number |
| DICOMDIR | the table beside it, for the files that it lists |
| COVID-19 Radiography Database | the folder of each class |
| folder with one sub-folder a class, below folders for the splits or not | the sub-folder |
| MedMNIST npz | the archive |
| zip of any of these | as above |
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.errors import IngestError, did_you_mean, one_line
from medidistill.files import translate_os_errors
from medidistill.ingest.file_discovery import Listing, inside, not_regular, scan_folder
from medidistill.ingest.sources.archive import unpack
from medidistill.ingest.sources.dicomdir import is_dicomdir, listed_files
from medidistill.ingest.sources.exclusions import Exclusions
from medidistill.ingest.sources.folders import from_folders, is_picture
from medidistill.ingest.sources.labels import class_names, settle_classes
from medidistill.ingest.sources.layout import split_of
from medidistill.ingest.sources.medmnist import from_medmnist, is_npz
from medidistill.ingest.sources.patients import hash_patient
from medidistill.ingest.sources.record import Record, SourceListing
from medidistill.ingest.sources.table import from_table

__all__ = [
    "Record",
    "SourceListing",
    "class_names",
    "find_records",
    "hash_patient",
    "workspace",
]

_DEFAULT_TABLE = "labels.csv"
_UNPACKED = "unpacked"
_OTHER_ARCHIVES = {b"7z\xbc\xaf": "7z", b"Rar!": "RAR", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


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


def find_records(source: Path, config: IngestConfig, place: Path, *, progress: bool = False) -> SourceListing:
    """List the labelled images of a source, sorted by key, and what had to be set aside.

    Nothing outside of the source is read, symbolic links included, but for `config.follow_links`.

    Args:
        source: a folder or file, see the table above.
        config: name of the table, the list of exclusions, class names, whether headers give sex and age, which links
            are followed, and what is done about labels and patient IDs that look alike.
        place: an empty private folder for what archives hold; see `workspace`.
        progress: show a progress bar on stderr while an archive is unpacked.

    Raises:
        IngestError: the source is missing or empty, there are no labels, the folders can be read in more than one way,
            the table lacks a column, labels look alike, a file is listed twice, or the list of exclusions is unusable.
        ResourceError: an archive cannot be unpacked.
    """
    exclusions = Exclusions.of(source, config)
    found = _find(source, config, place, progress)
    exclusions.take_out(found)
    settle_classes(found, config)
    found.settle_patients(config)
    if config.frames == "split":
        found.split_frames()
        exclusions.take_out(found)
    exclusions.note(found)
    found.records.sort(key=lambda record: record.key)
    found.quarantine.sort(key=lambda entry: entry.key)
    return found


def _find(source: Path, config: IngestConfig, place: Path, progress: bool) -> SourceListing:
    try:
        mode = source.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IngestError(f"{source}: no such {'file' if source.suffix else 'folder'}") from error
    except OSError as error:
        raise IngestError(f"{source}: cannot be read ({error.strerror})") from error
    if stat.S_ISDIR(mode):
        return _from_folder(source, config, place)
    if not stat.S_ISREG(mode):
        raise IngestError(f"{source}: {not_regular(mode)}")
    if is_npz(source):
        return from_medmnist(source, place / "images", config)
    if zipfile.is_zipfile(source):
        return _from_archive(source, config, place, progress)
    if is_dicomdir(source):
        return _from_dicomdir(source, config)
    raise IngestError(f"{source}: {_no_source(source)}")


def _no_source(source: Path) -> str:
    with open(source, "rb") as file:
        start = file.read(300)
    if start.startswith(b"PK"):
        return "begins like a zip file and its end is missing: it was cut short, or is one part of a split archive"
    kind = next((name for mark, name in _OTHER_ARCHIVES.items() if start.startswith(mark)), "")
    if kind or start[257:262] == b"ustar":
        return f"is an archive of another kind ({kind or 'tar'}) than zip; unpack it and give the folder"
    return "is a file, and neither zip, MedMNIST npz nor DICOMDIR; give the folder that holds the images"


def _from_archive(source: Path, config: IngestConfig, place: Path, progress: bool) -> SourceListing:
    unpacked = unpack(source, place / "archive", progress=progress)
    try:
        found = _from_folder(unpacked.folder, config, place)
    except IngestError as error:
        # the private folder is gone when this is read
        gone = one_line(str(unpacked.folder))
        raise IngestError(str(error).replace(gone, str(source)), private=error.private) from error
    for name, reason in unpacked.refused:
        found.set_aside(name, reason)
    if unpacked.guessed:
        found.notes.append(
            f"{unpacked.guessed} names in the archive are neither ASCII nor UTF-8: they were read as code page 437, "
            "so that accented letters in names of classes may be wrong."
        )
    return found


def _from_folder(source: Path, config: IngestConfig, place: Path) -> SourceListing:
    listing = scan_folder(source, skip_system=True, allowed=config.follow_links)
    exclusions = source / config.exclusions
    listing = Listing(tuple(path for path in listing.files if path != exclusions), listing.refused)
    if not listing.files and not listing.refused:
        raise IngestError(f"{source}: the folder is empty")
    base, depth = _below_wrappers(source, listing, config)
    if depth:
        listing = Listing(
            tuple(path for path in listing.files if path.is_relative_to(base)),
            tuple(entry for entry in listing.refused if entry.path.is_relative_to(base)),
        )
    table = _table(base, config)
    if table is not None:
        found = from_table(base, table, listing.files, config)
    elif config.labels != _DEFAULT_TABLE:
        raise _no_table(base, config)
    elif len(listing.files) == 1 and listing.files[0].suffix == ".npz" and is_npz(listing.files[0]):
        return from_medmnist(listing.files[0], place / "images", config)
    else:
        _refuse_tables_below(base, listing, config)
        found = from_folders(base, listing, config)
    if depth:
        split = next((split for split in map(split_of, base.relative_to(source).parts) if split), "")
        found.notes.append(
            f"Everything lies in {'a folder' if depth == 1 else f'{depth} folders'} of the input that "
            f"{'holds' if depth == 1 else 'hold'} nothing else"
            + (f", one of them named after the split {split}, which is the only one there." if split else ".")
        )
    return found


def _below_wrappers(source: Path, listing: Listing, config: IngestConfig) -> tuple[Path, int]:
    """Return the first folder with a table, pictures or several sub-folders, and how far below the source it lies."""
    base, depth = source, 0
    entries = [*listing.files, *(entry.path for entry in listing.refused)]
    while True:
        loose = [path for path in entries if path.parent == base]
        below = {path.relative_to(base).parts[0] for path in entries if path.parent != base}
        files = set(listing.files)
        if (base / config.labels).is_symlink() or (base / config.labels).exists():
            return base, depth
        held = any(path in files and (path.suffix == ".npz" or is_picture(path)) for path in loose)
        if len(below) != 1 or held:
            # a folder with nothing but files is a class, or a lone npz
            return (base.parent, depth - 1) if not below and depth and held else (base, depth)
        base, depth = base / below.pop(), depth + 1
        entries = [path for path in entries if path != base and path.is_relative_to(base)]


def _table(base: Path, config: IngestConfig) -> Path | None:
    """Return the table of labels of a folder, None where it has none.

    Raises:
        IngestError: a file of that name lies outside of the folder or is not a regular file.
    """
    table = base / config.labels
    try:
        real = inside(base, table, config.follow_links)
    except IngestError as error:
        raise IngestError(f"{table}: {error}") from error
    if not table.is_symlink() and not real.exists():
        return None
    if not real.is_file():
        reason = not_regular(real.stat().st_mode) if real.exists() else "a symbolic link to nothing"
        raise IngestError(f"{table}: the table of labels is {reason}")
    return table


def _refuse_tables_below(base: Path, listing: Listing, config: IngestConfig) -> None:
    below = [path for path in listing.files if path.name.lower() == config.labels.lower()]
    if below:
        raise IngestError(
            f"{base}: {config.labels} lies in {len(below)} of the sub-folders and not in the folder itself: join the "
            "tables into one there, with paths relative to it, or give one of the sub-folders as the input"
        )


def _from_dicomdir(directory: Path, config: IngestConfig) -> SourceListing:
    source = directory.parent
    table = _table(source, config)
    if table is None:
        raise _no_table(source, config)
    files, missing = listed_files(directory, config.follow_links)
    found = from_table(source, table, files, config)
    listed = {path.relative_to(source).as_posix() for path in files}
    records, found.records = found.records, []
    named = {entry.key.casefold() for entry in found.quarantine}
    for record in records:
        if record.key in listed:
            found.records.append(record)
        else:
            found.set_aside(record.key, "not listed in the DICOMDIR")
    for name in missing:
        if name not in named:
            found.set_aside(name, "listed in the DICOMDIR, but not there")
    return found


def _no_table(source: Path, config: IngestConfig) -> IngestError:
    guess = did_you_mean(config.labels, [path.name for path in source.glob("*.csv")])
    return IngestError(f"{source / config.labels}: no such table of labels{guess}")
