"""Labels from the layout of a folder: a folder for each class, with or without folders for the splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import openpyxl

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest.dicom import file_kind
from medidistill.ingest.file_discovery import Listing
from medidistill.ingest.other_objects import kind_of_object
from medidistill.ingest.sources.archive import check_archive
from medidistill.ingest.sources.labels import MOST_CLASSES
from medidistill.ingest.sources.layout import IMAGE_FOLDERS, NO_CLASS, Layout, Place, folder_word, read_layout
from medidistill.ingest.sources.record import SourceListing

__all__ = ["from_folders", "is_picture"]

_DIRECTORY = "dicomdir"
_WORKBOOK = ".metadata.xlsx"
_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz")


def is_picture(path: Path) -> bool:
    """Whether a file is DICOM, PNG or JPEG by its content; one that cannot be opened is not."""
    return bool(_kind(path))


def _kind(path: Path) -> str:
    try:
        return "" if path.name.lower() == _DIRECTORY else file_kind(path)
    except OSError:
        return ""


def _holds_no_image(path: Path) -> bool:
    try:
        return bool(kind_of_object(path))
    except OSError:
        return False


def from_folders(source: Path, listing: Listing, config: IngestConfig) -> SourceListing:
    """Return the files below a folder, labelled by the folders that they lie in; see `layout`.

    Where a class folder has a sub-folder `images`, only what lies in that is read, and `CLASS.metadata.xlsx` beside the
    class folder, as in the COVID-19 Radiography Database, names the sites.

    Args:
        source: the folder.
        listing: what lies below it.
        config: class names, and whether headers give sex and age.

    Raises:
        IngestError: no class folders, an ambiguous layout, or a workbook that cannot be read.
    """
    places = {path: path.relative_to(source).parts for path in listing.files if path.name.lower() != _DIRECTORY}
    kinds = {path: _kind(path) for path in places}
    others = {path for path, kind in kinds.items() if kind == "dicom" and _holds_no_image(path)}
    places = {path: parts for path, parts in places.items() if path not in others}
    kinds = {path: kind for path, kind in kinds.items() if path not in others}
    pictures = [path for path, kind in kinds.items() if kind]
    if not any(len(parts) > 1 for parts in places.values()) and not listing.refused:
        raise _no_labels(source, listing, config)
    try:
        layout = read_layout([places[path][:-1] for path in pictures], config.classes)
    except IngestError as error:
        raise IngestError(f"{source}: {error}; or label the pictures by a table {config.labels}") from error
    classes = {label for place, _, label in (layout.place(places[path][:-1]) for path in pictures) if label}
    if len(classes) > MOST_CLASSES and not config.classes:
        raise IngestError(
            f"{source}: {len(classes)} folders would be classes, more than {MOST_CLASSES}: they look like patients or "
            f"studies; label the pictures by a table {config.labels}, or list the folders in ingest.classes"
        )
    found, masks = SourceListing(notes=list(layout.notes)), 0
    for entry in listing.refused:
        found.refuse(entry, source)
    inner = _classes_with_images(layout, places, pictures)
    sites = _sites_of(source, listing, layout)
    for path, parts in places.items():
        place, split, label = layout.place(parts[:-1])
        key = "/".join(parts)
        if place is Place.MASK:
            masks += bool(kinds[path])
        elif place is Place.NO_CLASS:
            if kinds[path]:  # licences and tables beside the classes are no pictures that were lost
                found.set_aside(key, NO_CLASS)
        elif label in inner and not _in_images(parts[:-1]):
            found.set_aside(key, "lies beside the folder images of its class")
        else:
            site = sites.get(label, {}).get(path.stem.lower(), "")
            found.add(key, path, label, config, split=split, site=site, kind=kinds[path] or None)
    if others:
        found.notes.append(
            f"{len(others)} DICOM objects without an image (reports, presentation states) were left out."
        )
    if masks:
        found.notes.append(f"{masks} pictures in folders of masks were left out.")
    if not found.records and not found.quarantine:
        raise _no_labels(source, listing, config)
    return found


def _no_labels(source: Path, listing: Listing, config: IngestConfig) -> IngestError:
    tables = sorted(path.name for path in listing.files if path.parent == source and path.suffix.lower() in _TABLES)
    hint = f"; set ingest.labels to {tables[0]}" if tables else ""
    if any(path.suffix.lower() in _ARCHIVES for path in listing.files):
        hint += "; it holds an archive: unpack it, or give a zip itself as the input"
    return IngestError(f"{source}: no labels: neither {config.labels} nor a sub-folder for each class{hint}")


_TABLES = (".csv", ".tsv", ".xlsx")


def _in_images(folders: Sequence[str]) -> bool:
    return any(folder_word(name) in IMAGE_FOLDERS for name in folders)


def _classes_with_images(
    layout: Layout, places: Mapping[Path, Sequence[str]], pictures: Sequence[Path]
) -> frozenset[str]:
    """Return the classes that keep their pictures in a sub-folder `images`."""
    inner = set()
    for path in pictures:
        folders = places[path][:-1]
        place, _, label = layout.place(folders)
        if place is Place.LABELLED and any(folder_word(name) in IMAGE_FOLDERS for name in folders[1:]):
            inner.add(label)
    return frozenset(inner)


def _sites_of(source: Path, listing: Listing, layout: Layout) -> dict[str, dict[str, str]]:
    """Return for each class with a workbook its sites by file name."""
    if layout.splits is not None:
        return {}
    books = [path for path in listing.files if path.parent == source and path.name.lower().endswith(_WORKBOOK)]
    return {path.name[: -len(_WORKBOOK)]: _sites(path) for path in books}


def _sites(workbook: Path) -> dict[str, str]:
    """Return file name (lower case, without suffix) -> site of a workbook with FILE NAME and URL columns."""
    check_archive(workbook)
    try:
        rows = openpyxl.load_workbook(workbook, read_only=True, data_only=True).worksheets[0].values
        header = [str(cell or "").strip().upper() for cell in next(rows, ())]
        name, url = header.index("FILE NAME"), header.index("URL")
        return {str(row[name]).strip().lower(): _site(str(row[url] or "")) for row in rows if row[name]}
    except Exception as error:  # the reader raises anything on a damaged workbook
        raise IngestError(
            f"{workbook}: not a workbook with the columns FILE NAME and URL ({type(error).__name__})"
        ) from error


def _site(url: str) -> str:
    """Return host and path: on the large hosts many collections lie side by side."""
    parts = urlsplit(url.strip())
    return (parts.netloc.lower().removeprefix("www.") + parts.path).strip("/")
