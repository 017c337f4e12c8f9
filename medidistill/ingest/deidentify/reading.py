"""Read DICOM files without a word from pydicom: its warnings quote damaged values, which may be names."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pydicom
from pydicom.dataset import FileDataset

from medidistill.errors import IngestError

__all__ = ["read_as_stored", "read_dicom"]


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


def read_as_stored(path: Path) -> FileDataset | None:
    """Read a DICOM file that `read_dicom` took, its values not decoded and its pixels left; None for another file."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception:  # noqa: BLE001 (a file that needs more than this is read by `read_dicom`)
        return None
