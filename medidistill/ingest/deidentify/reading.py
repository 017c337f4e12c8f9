"""Read DICOM files with pydicom silenced: its warnings quote damaged values, which may be names."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.dicom_file import read_dicom_file
from medidistill.ingest.file_kind import file_kind

__all__ = ["read_as_stored", "read_dicom"]


def _refuse(reason: str) -> NoReturn:
    raise IngestError(reason)


def read_dicom(path: Path) -> Dataset:
    """Read a DICOM file up to and with its pixel data, by the reader and within the bounds of the ingest.

    Raises:
        IngestError: a reason that quotes nothing of the file.
    """
    try:
        if not path.is_file():
            return _refuse("unreadable (no regular file, or a link to nowhere)")
        if file_kind(path) in ("png", "jpeg"):
            return _refuse("PNG or JPEG picture: `pictures: true` in the recipe takes it")
        dataset = read_dicom_file(path).dataset
        for _ in dataset.iterall():  # values are decoded on first use: do it where errors are expected
            pass
    except IngestError:
        raise
    except OSError as error:
        raise IngestError(f"unreadable ({type(error).__name__})") from error
    except Exception as error:  # damaged files raise anything, and the message quotes them
        raise IngestError(f"unreadable DICOM ({type(error).__name__})") from error
    return dataset


def read_as_stored(path: Path) -> Dataset | None:
    """Read a DICOM file that `read_dicom` took, its values not decoded and its pixels left; None for another file."""
    try:
        return read_dicom_file(path, pixels=False).dataset
    except Exception:  # noqa: BLE001 (a file that needs more than this is read by `read_dicom`)
        return None
