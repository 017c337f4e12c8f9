"""Whether images say of themselves that they are synthetic: what the phantom policy rests on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom.errors import InvalidDicomError

from medidistill.errors import IngestError
from medidistill.ingest.limits import read_dicom_file

__all__ = ["all_marked_synthetic"]


def all_marked_synthetic(folder: Path, keys: Iterable[str]) -> bool:
    """Return whether every image is a DICOM file with SyntheticData (0008,001C) = YES; False where there is none.

    Args:
        folder: the input folder.
        keys: paths of the images inside it.
    """
    seen = False
    for key in keys:
        try:
            dataset = read_dicom_file(folder / key, stop_before_pixels=True, specific_tags=["SyntheticData"])
        except (InvalidDicomError, IngestError, OSError):
            return False
        if dataset.get("SyntheticData") != "YES":
            return False
        seen = True
    return seen
