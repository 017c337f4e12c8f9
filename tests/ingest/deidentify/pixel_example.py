"""Files whose pixels a text rides along with, and the way that they go: written, read, de-identified, written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medidistill.ingest.decoding import stored_pixels
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.ingest.conftest import make_radiograph

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
TEXT = b"operator Quastenflosser saw Koch, Eva"
WORDS = (b"quastenflosser", b"koch", b"eva", b"operator")
PLAIN = DeidentifyConfig()


def write_as_is(path: Path, dataset: Dataset) -> None:
    """Write a file in the transfer syntax that its header names."""
    syntax = dataset.file_meta.TransferSyntaxUID
    with silence_pydicom():
        dcmwrite(
            path,
            dataset,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
            enforce_file_format=True,
        )


def through(dataset: Dataset, key: Key, folder: Path) -> tuple[Dataset, bytes]:
    """Write a file, de-identify what is read of it, write that, and return it as read and as bytes."""
    write_as_is(folder / "in.dcm", dataset)
    with silence_pydicom():
        result = deidentify(read_dicom(folder / "in.dcm"), PLAIN, key)
        dcmwrite(folder / "out.dcm", result.dataset, enforce_file_format=True)
        return pydicom.dcmread(folder / "out.dcm"), (folder / "out.dcm").read_bytes()


def stored(dataset: Dataset) -> np.ndarray:
    return stored_pixels(dataset).values


def holds_a_word(data: bytes) -> bool:
    return any(word in data.lower() for word in WORDS)


def native(syntax: UID, pixels: np.ndarray, **attributes: object) -> Dataset:
    """A radiograph whose pixel cells are `pixels`, whatever its Bits Stored."""
    bits = 8 if pixels.dtype.itemsize == 1 else 12
    dataset = make_radiograph(pixels & (2**bits - 1), bits=bits, **attributes)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = data + b"\0" * (len(data) % 2), syntax
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset
