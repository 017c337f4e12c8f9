"""Labels from the layout of a folder: one sub-folder a class, or the COVID-19 Radiography Database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import openpyxl

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.ingest.sources.archive import check_archive
from medidistill.ingest.sources.record import Found, make_record

__all__ = ["from_folders", "from_radiography", "is_radiography"]

_DIRECTORY = "dicomdir"


def from_folders(source: Path, files: Sequence[Path], config: IngestConfig) -> Found:
    """Return the files below the sub-folders of a folder, each labelled by the sub-folder it lies in."""
    found = Found()
    for path in files:
        parts = path.relative_to(source).parts
        if len(parts) < 2 or path.name.lower() == _DIRECTORY:
            continue
        key = "/".join(parts)
        try:
            found.records.append(make_record(key, path, parts[0], config))
        except (IngestError, OSError) as error:
            found.set_aside(key, error)
    if not found.records and not found.quarantine:
        tables = sorted(path.name for path in source.glob("*.csv"))
        hint = f"; set ingest.labels to {tables[0]}" if tables else ""
        raise IngestError(f"{source}: no labels: neither {config.labels} nor a sub-folder for each class{hint}")
    return found


def _classes(source: Path) -> list[Path]:
    return sorted(folder for folder in source.iterdir() if (folder / "images").is_dir())


def is_radiography(source: Path) -> bool:
    """Whether a folder is laid out as the COVID-19 Radiography Database: `CLASS/images` beside `CLASS.metadata.xlsx`.

    The masks that lie beside the images of that database are no X-rays: as a folder for each class they would be read.
    """
    return any((source / f"{folder.name}.metadata.xlsx").is_file() for folder in _classes(source))


def from_radiography(source: Path, files: Sequence[Path], config: IngestConfig) -> Found:
    """Return the X-rays below `CLASS/images`; the URL of a row in `CLASS.metadata.xlsx` becomes the site.

    The database names no patients: each file is its own, and near duplicates are all that links two films.

    Raises:
        IngestError: a workbook that cannot be read.
    """
    found = Found()
    for folder in _classes(source):
        workbook = source / f"{folder.name}.metadata.xlsx"
        sites = _sites(workbook) if workbook.is_file() else {}
        for path in files:
            if not path.is_relative_to(folder / "images"):
                continue
            key = path.relative_to(source).as_posix()
            try:
                found.records.append(make_record(key, path, folder.name, config, site=sites.get(path.stem.lower(), "")))
            except (IngestError, OSError) as error:
                found.set_aside(key, error)
    return found


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
