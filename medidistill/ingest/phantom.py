"""Phantom chest X-rays as DICOM studies: a data set without patients or downloads.

Three classes: `normal`, `lobar_pneumonia` (one dense consolidation, sharp at its fissure) and
`bilateral_peripheral_opacities` (patchy ground-glass at the pleura, mid and lower zones). The
images are drawn, not derived from patients; they exercise software and have no clinical value.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from tqdm.auto import tqdm

from medidistill.config import PhantomConfig
from medidistill.errors import ConfigError
from medidistill.files import translate_os_errors, write_text
from medidistill.ingest.anatomy import CLASSES, draw_patient, expose
from medidistill.seeding import derive_seed

__all__ = ["generate_phantom"]

_TOP = 4095  # 12 bits stored
_SITES = (("phantom-north", "LINEAR"), ("phantom-south", "SIGMOID"), ("phantom-east", "LINEAR_EXACT"))


def generate_phantom(folder: Path, config: PhantomConfig, *, progress: bool = False) -> Path:
    """Write phantom studies and `labels.csv`: same configuration, same bytes.

    One folder a patient, 1 to `images_per_patient` images each, 12 bits in 16, a share of MONOCHROME1, a VOI
    window whose function differs by site. Exposure varies from image to image, so that the mean grey level
    does not reveal the class.

    Args:
        folder: a new or empty folder.
        config: patients, images, size, share of MONOCHROME1, seed.
        progress: show a progress bar on stderr.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder is not empty, or is a file.
        ResourceError: it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; choose a new folder for the phantoms")
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: is not empty; choose a new folder for the phantoms, nothing is overwritten")
    rows: list[tuple[str, ...]] = [("path", "label", "patient_id", "site", "sex", "age")]
    patients = range(config.patients_per_class * len(CLASSES))
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in tqdm(patients, desc="drawing phantoms", unit="patient", file=sys.stderr, disable=not progress):
            rows += _write_patient(folder, number, config)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_text(folder / "labels.csv", table.getvalue())  # last: a folder without it was cut short
    return folder


def _write_patient(folder: Path, number: int, config: PhantomConfig) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(derive_seed(config.seed, "phantom", number))
    kind = CLASSES[number % len(CLASSES)]
    name = f"PHANTOM-{number + 1:04d}"
    site, function = _SITES[int(rng.integers(len(_SITES)))]
    sex, age = str(rng.choice(["F", "M"])), int(rng.integers(20, 90))
    anatomy = draw_patient(rng, kind, sex, config.size)
    (folder / name).mkdir()
    rows: list[tuple[str, ...]] = []
    for film in range(int(rng.integers(1, config.images_per_patient + 1))):
        pixels, center, width = _digitise(expose(anatomy, rng), rng, function)
        dataset = _dataset(pixels, center, width, function, inverted=bool(rng.random() < config.monochrome1_share))
        _identify(dataset, config.seed, number, film, name, site, sex, age)
        path = f"{name}/IM{film + 1:04d}.dcm"
        buffer = io.BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        (folder / path).write_bytes(buffer.getvalue())
        rows.append((path, kind, name, site, sex, str(age)))
    return rows


def _digitise(
    film: NDArray[np.float32], rng: np.random.Generator, function: str
) -> tuple[NDArray[np.uint16], float, float]:
    """Return 12-bit values and the window that the console would have chosen, a little off each time."""
    pixels = np.clip(np.rint(400 + 1700 * film), 0, _TOP).astype(np.uint16)
    low, high = np.percentile(pixels, [18, 97])
    width = float(round((high - low) * rng.uniform(1.15, 1.45) * (0.9 if function == "SIGMOID" else 1.0)))
    center = float(round(0.52 * low + 0.48 * high + rng.normal(0, 0.04 * width)))
    return pixels, center, width


def _dataset(pixels: NDArray[np.uint16], center: float, width: float, function: str, *, inverted: bool) -> Dataset:
    """Return the image attributes; MONOCHROME1 stores 4095 - p under the mirrored window."""
    dataset = Dataset()
    if inverted:
        pixels = np.asarray(_TOP - pixels, dtype=np.uint16)
        # LINEAR's ramp is centred on c - 0.5, so its mirror image is centred on 4096 - c
        center = _TOP - center + (1 if function == "LINEAR" else 0)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if inverted else -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = f"{center:g}", f"{width:g}", function
    dataset.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelData = pixels.astype("<u2").tobytes()
    return dataset


def _uid(*parts: object) -> str:
    """Return a UID below 2.25 (ITU-T X.667), the same for the same parts."""
    digest = hashlib.sha256("\x1f".join(map(str, ("medidistill phantom", *parts))).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _identify(dataset: Dataset, seed: int, number: int, film: int, name: str, site: str, sex: str, age: int) -> None:
    """Add patient, study, series and equipment; every value marks a phantom."""
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = _uid(seed, number, film)
    dataset.StudyInstanceUID = _uid(seed, number, film, "study")
    dataset.SeriesInstanceUID = _uid(seed, number, film, "series")
    dataset.SyntheticData = "YES"
    dataset.PatientName = f"PHANTOM^{number + 1:04d}"
    dataset.PatientID = name
    dataset.PatientSex, dataset.PatientAge = sex, f"{age:03d}Y"
    dataset.PatientBirthDate = ""
    dataset.StudyDate, dataset.StudyTime = "20000101", "000000"
    dataset.StudyID, dataset.AccessionNumber = f"{film + 1}", f"PH{number + 1:06d}{film + 1:02d}"
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber, dataset.InstanceNumber = "1", "1"
    dataset.Modality, dataset.PresentationIntentType = "DX", "FOR PRESENTATION"
    dataset.BodyPartExamined, dataset.ViewPosition = "CHEST", "PA"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.Manufacturer, dataset.ManufacturerModelName = "medidistill", "phantom generator"
    dataset.InstitutionName = site
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid("implementation"))
    meta.ImplementationVersionName = "MEDIDISTILL"
    dataset.file_meta = meta
