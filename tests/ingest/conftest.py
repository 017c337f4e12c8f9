"""Tiny radiographs with hand-written pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian


def make_radiograph(
    pixels: Any, *, bits: int = 12, signed: bool = False, number: int = 1, **attributes: Any
) -> Dataset:
    """Return a valid DX dataset of `pixels`; keyword arguments set or (None) remove attributes."""
    array = np.asarray(pixels)
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = UID(f"2.25.{number}")
    dataset.PatientName, dataset.PatientID = "PHANTOM^TEST", f"PHANTOM-{number}"
    dataset.Modality = "DX"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = array.shape[:2]
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, int(signed)
    kind = ("i" if signed else "u") + str(dataset.BitsAllocated // 8)
    dataset.PixelData = array.astype(f"<{kind}").tobytes() + (b"\0" if array.size * dataset.BitsAllocated % 16 else b"")
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def write_radiograph(path: Path, pixels: Any, **attributes: Any) -> Path:
    """Write `make_radiograph(pixels, **attributes)` and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_radiograph(pixels, **attributes).save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def radiograph():
    return make_radiograph


@pytest.fixture
def save():
    return write_radiograph
