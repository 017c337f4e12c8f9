"""DICOM objects that hold no image: reports, presentation states and the like, which accompany the images of a study.

An archive sends whole studies. A report beside nine images is not a tenth image that failed, and is not read.
"""

from __future__ import annotations

from pathlib import Path

import pydicom

from medidistill.ingest.dicom_file import read_dicom_file
from medidistill.ingest.silence_pydicom import silence_pydicom

__all__ = ["kind_of_object"]

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_KEY_OBJECTS = f"{_STORAGE}88.59"
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory
_KINDS = {  # PS3.4 B.5; an object of one of these counts only where it has no pixel data
    f"{_STORAGE}11.": "presentation state",
    f"{_STORAGE}88.": "structured report",
    f"{_STORAGE}104.": "encapsulated document",
    f"{_STORAGE}9.": "waveform",
    f"{_STORAGE}481.": "radiotherapy object",
    f"{_STORAGE}66.": "registration, segmentation or raw data",
    f"{_STORAGE}67.": "real world value mapping",
    f"{_STORAGE}200.": "procedure protocol",
    "1.2.840.10008.5.1.4.38.": "hanging protocol",
}
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL")


def kind_of_object(path: Path) -> str:
    """Return the kind of a DICOM object without an image; an empty string for every other file.

    The SOP class decides, and it is believed only of an object without pixel data. A damaged file, and an object of a
    class that is not listed here, may have been an image.

    Args:
        path: a file that begins as DICOM does.

    Raises:
        OSError: it cannot be read.
    """
    stated = _stated_class(path)
    if stated == _DIRECTORY:
        return "DICOMDIR"
    if stated and not _kind(stated):
        return ""  # without reading on: nearly every file is an image
    try:
        with silence_pydicom():
            dataset = read_dicom_file(path, keywords=("SOPClassUID", *_PIXELS)).dataset
            kind = _kind(str(dataset.get("SOPClassUID", "") or ""))
            return "" if any(word in dataset for word in _PIXELS) else kind
    except OSError:
        raise
    except Exception:  # noqa: BLE001 (damaged files raise anything: reading it as an image will report it)
        return ""


def _stated_class(path: Path) -> str:
    """Return the SOP class of the file meta information, an empty text where it is missing or damaged."""
    try:
        with silence_pydicom():
            return str(pydicom.filereader.read_file_meta_info(path).get("MediaStorageSOPClassUID", "") or "")
    except OSError:
        raise
    except Exception:  # noqa: BLE001 (no preamble, or damaged)
        return ""


def _kind(sop_class: str) -> str:
    if sop_class == _KEY_OBJECTS:
        return "key object selection"
    return next((kind for start, kind in _KINDS.items() if f"{sop_class}.".startswith(start)), "")
