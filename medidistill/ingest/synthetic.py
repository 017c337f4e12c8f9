"""Whether images are marked as synthetic: the basis of the phantom policy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medidistill.errors import IngestError
from medidistill.ingest.dicom_file import read_dicom_file

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
            dataset = read_dicom_file(folder / key, keywords=["SyntheticData"], pixels=False).dataset
        except (IngestError, OSError):
            return False
        if dataset.get("SyntheticData") != "YES":
            return False
        seen = True
    return seen
