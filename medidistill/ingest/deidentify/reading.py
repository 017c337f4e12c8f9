"""Find and read DICOM files without a word from pydicom: its warnings quote damaged values, which may be names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pydicom
from pydicom.dataset import FileDataset

from medidistill.errors import IngestError

__all__ = ["find_files", "read_dicom"]


def find_files(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted; links are followed, each folder is entered once."""
    found: list[Path] = []  # a folder that cannot be listed is an entry too: reading it gives the reason
    entered: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(
        folder, onerror=lambda error: found.append(Path(error.filename)), followlinks=True
    ):
        status = os.stat(here)  # noqa: PTH116 (os.walk gives text)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()
        found.extend(Path(here, name) for name in names)
    return sorted(found)


def _refuse(reason: str) -> NoReturn:
    raise IngestError(reason)


def read_dicom(path: Path) -> FileDataset:
    """Read a DICOM file whole. Raises `IngestError` with a reason that quotes nothing of it."""
    try:
        if not path.is_file():
            return _refuse("unreadable (no regular file, or a link to nowhere)")
        with open(path, "rb") as file:
            start = file.read(132)
        if start[128:132] != b"DICM":
            return _refuse("not a DICOM file (no DICM at byte 128)")
        dataset = pydicom.dcmread(path)
        for _ in dataset.iterall():  # values are decoded on first use: do it where errors are expected
            pass
    except IngestError:
        raise
    except OSError as error:
        raise IngestError(f"unreadable ({type(error).__name__})") from error
    except Exception as error:  # damaged files raise anything, and the message quotes them
        raise IngestError(f"unreadable DICOM ({type(error).__name__})") from error
    return dataset
