"""Whether images say of themselves that they are synthetic: what the phantom policy rests on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

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
            dataset = dcmread(folder / key, stop_before_pixels=True, specific_tags=["SyntheticData"])
        except (InvalidDicomError, OSError):
            return False
        if dataset.get("SyntheticData") != "YES":
            return False
        seen = True
    return seen
