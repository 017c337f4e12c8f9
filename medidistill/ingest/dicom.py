"""One chest radiograph file to one grey picture in [0, 1], bright where the chest absorbs.

DICOM (CR, DX, RG) runs the display pipeline of the standard: Modality LUT or rescale (PS3.3 C.11.1),
VOI LUT or window (C.11.2), then the inversion of MONOCHROME1 (C.7.6.3.1.2). PNG and JPEG are taken as
they are. What comes out is never stretched to the image's own extremes: two exposures stay two exposures.

Messages hold words of the standard and of this module alone: a damaged header can hold a name in any element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from monai.data.image_reader import ImageReader
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.decoding import stored_pixels
from medidistill.ingest.limits import check_deflated, check_size
from medidistill.ingest.projection import body_part, view
from medidistill.ingest.quiet import quiet
from medidistill.ingest.raster import read_raster
from medidistill.ingest.voi import lookup, window

__all__ = [
    *("ChestXrayReader", "Header", "address", "decode", "file_kind", "read_header", "read_image", "render"),
    "render_stored",
]

MODALITIES = ("CR", "DX", "RG")
# defined terms that a message may repeat (PS3.3 C.7.3.1.1.1); any other value could be anything
_OTHERS = {"CT", "MR", "US", "PT", "NM", "MG", "XA", "RF", "OT", "SC", "SR", "SEG", "DR", "IO", "PX", "ES", "ECG", "PR"}
_OTHERS |= {"RTDOSE", "RTPLAN", "RTSTRUCT", "RTIMAGE", "KO", "DOC", "BMD", "SM", "XC", "OP"}
_COLOURS = {"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
_HEADER_TAGS = ["PatientID", "SOPInstanceUID", "AccessionNumber", "PatientSex", "PatientAge", "StudyInstanceUID"]
_FRAME = "\0"  # parts a path from the number of a frame: the one sign that no path can hold


@dataclass(frozen=True)
class Header:
    """What labels can be keyed on, sex, age and frames. Raw values: they go into no message and no table."""

    patient_id: str = ""
    sop_instance_uid: str = ""
    accession_number: str = ""
    sex: str = ""
    age: str = ""
    frames: int = 1
    study_instance_uid: str = ""


def address(path: Path, frame: int | None) -> str:
    """Return the text by which `ChestXrayReader` finds a picture: a path, and of several frames which, from 0."""
    return str(path) if frame is None else f"{path}{_FRAME}{frame}"


def file_kind(path: Path) -> str:
    """Return ``dicom``, ``png``, ``jpeg`` or an empty string, by content; the file's name plays no part."""
    with open(path, "rb") as file:
        start = file.read(132)
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "jpeg" if start.startswith(b"\xff\xd8\xff") else ""


def read_header(path: Path) -> Header:
    """Read the identifiers of a DICOM file without its pixels. Raises `IngestError`."""
    try:
        check_deflated(path)
        with quiet():
            wanted = [*_HEADER_TAGS, "NumberOfFrames"]
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
            patient, uid, accession, sex, age, study = (str(dataset.get(t, "") or "").strip() for t in _HEADER_TAGS)
            return Header(patient, uid, accession, sex, age, _frames(dataset), study)
    except IngestError:
        raise
    except Exception as error:
        # the message could quote a damaged value, which might be a name
        raise IngestError(f"unreadable DICOM header ({type(error).__name__})") from error


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames", 1) or 1)


def _first(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric element, or None where it is absent or empty."""
    value = dataset.get(keyword)
    if isinstance(value, Sequence | pydicom.multival.MultiValue) and not isinstance(value, str):
        value = value[0] if len(value) else None
    return None if value in (None, "") else float(value)


def _check(dataset: Dataset, frame: int | None) -> None:
    """Refuse what is no greyscale radiograph."""
    modality = str(dataset.get("Modality", "") or "")
    named = (
        modality if modality in _OTHERS or modality in MODALITIES else "of another kind" if modality else "not stated"
    )
    if "PixelData" not in dataset:
        raise IngestError(f"no pixel data (modality {named})")
    if modality not in MODALITIES:
        raise IngestError(f"modality {named}: must be {', '.join(MODALITIES)}")
    frames = _frames(dataset)
    if frame is None and frames > 1:
        raise IngestError(
            "several frames: a radiograph has one; `ingest.frames: split` takes each as a film of its own"
        )
    if frame is not None and not 0 <= frame < frames:
        raise IngestError("no such frame")
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(dataset.get("SamplesPerPixel", 1)) != 1:
        named = photometric if photometric in _COLOURS else "of another kind" if photometric else "not stated"
        raise IngestError(f"photometric interpretation {named}: must be MONOCHROME1 or MONOCHROME2")
    if not 2 <= int(dataset.BitsStored) <= 16 or int(dataset.BitsAllocated) not in (8, 16):
        raise IngestError("(0028,0101) Bits Stored must be 2 to 16, (0028,0100) Bits Allocated 8 or 16")
    check_size(dataset, frames)


def _padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where the stored pixels lie outside the picture (PS3.3 C.7.5.1.1.2), None where all lie inside."""
    first, last = _first(dataset, "PixelPaddingValue"), _first(dataset, "PixelPaddingRangeLimit")
    if first is None:
        return None
    low, high = sorted((first, first if last is None else last))
    outside = (stored >= low) & (stored <= high)
    return outside if outside.any() else None


def render(dataset: Dataset, frame: int | None = None) -> NDArray[np.float32]:
    """Render a greyscale radiograph for display.

    Without a window or VOI LUT the range that Bits Stored allows, sent through the modality
    transformation, becomes [0, 1]. With one, the window's output range does. The first window or
    VOI LUT counts where several are given, and a VOI LUT goes before a window. Padding becomes 0, as air.

    Args:
        dataset: a dataset with pixel data.
        frame: which frame of several, from 0; None: there must be one.

    Returns:
        (rows, columns) float32 in [0, 1], bright = high attenuation.

    Raises:
        IngestError: several frames, colour, a modality other than CR, DX, RG, no pixels, damaged pixels
            or contradictory attributes.
    """
    return render_stored(dataset, decode(dataset, frame))


def decode(dataset: Dataset, frame: int | None = None) -> NDArray[Any]:
    """Return the stored values of a greyscale radiograph, (rows, columns); see `render`. Raises `IngestError`."""
    _check(dataset, frame)
    return stored_pixels(dataset, frame)


def render_stored(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Render what `decode` returned; see `render`."""
    low, high = min(int(stored.min()), 0), max(int(stored.max()), 0)
    if high - low < stored.size:  # each step is a function of the stored value alone: once a value, not once a pixel
        values = np.concatenate([np.arange(high + 1), np.arange(low, 0)])  # negative values count from the end
        return np.asarray(_displayed(dataset, values)[stored])
    return _displayed(dataset, stored)


def _displayed(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Send stored values through the display pipeline; see `render`."""
    signed, bits = bool(dataset.PixelRepresentation), int(dataset.BitsStored)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    big_endian = dataset.original_encoding[1] is False

    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    if dataset.get("ModalityLUTSequence"):
        values, high = lookup(stored, dataset.ModalityLUTSequence[0], big_endian)
        low = 0.0
    else:
        values = stored.astype(np.float64)
        if slope is not None and intercept is not None:
            if slope == 0 or not np.isfinite([slope, intercept]).all():
                raise IngestError("(0028,1053) Rescale Slope must not be 0, and both slope and intercept be finite")
            values = values * slope + intercept
            low, high = sorted((low * slope + intercept, high * slope + intercept))

    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if dataset.get("VOILUTSequence"):
        values, high = lookup(values, dataset.VOILUTSequence[0], big_endian)
        shown = values / high
    elif center is not None and width is not None:
        shown = window(values, center, width, str(dataset.get("VOILUTFunction", "") or "LINEAR").upper())
    else:
        shown = (values - low) / (high - low)
    shown = np.clip(shown, 0.0, 1.0)
    shown = 1.0 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown
    outside = _padding(dataset, stored)
    if outside is not None:
        shown[outside] = 0.0
    return np.asarray(shown, dtype=np.float32)


def _read(path: Path, frame: int | None) -> tuple[NDArray[np.float32], dict[str, str]]:
    kind = file_kind(path)
    with quiet():
        if kind in ("png", "jpeg"):
            return read_raster(path), {}
        if kind != "dicom":
            raise IngestError("neither DICOM nor PNG nor JPEG")
        check_deflated(path)
        dataset = pydicom.dcmread(path)
        return render(dataset, frame), {"view": view(dataset), "body_part": body_part(dataset)}


def _read_checked(path: Path, frame: int | None) -> tuple[NDArray[np.float32], dict[str, str]]:
    """Return a picture and what its header says of view and body part; see `read_image`."""
    try:
        return _read(path, frame)
    except IngestError:
        raise
    except Exception as error:  # decoders raise anything on damaged data, quoting it; one file never stops a run
        raise IngestError(f"unreadable ({type(error).__name__})") from error


def read_image(path: Path, frame: int | None = None) -> NDArray[np.float32]:
    """Read one DICOM, PNG or JPEG file.

    Args:
        path: the file; its kind is told by content. PNG of 8 or 16 bits; colour becomes luminance.
        frame: which frame of a DICOM file that holds several, from 0.

    Returns:
        (rows, columns) float32 in [0, 1], rows first.

    Raises:
        IngestError: the reason why the file cannot be used, without the path and without patient values.
    """
    return _read_checked(path, frame)[0]


class ChestXrayReader(ImageReader):  # type: ignore[misc, unused-ignore]
    """MONAI image reader for chest radiographs; see `read_image` for what it does to pixels.

    `read` only notes where to look and `get_data` decodes: `LoadImage` answers an exception in `read` by trying
    its other readers, which would show the file without its window and inversion.
    """

    def verify_suffix(self, filename: Sequence[str | PathLike[str]] | str | PathLike[str]) -> bool:
        """Return whether every file is DICOM, PNG or JPEG by content."""
        return all(bool(file_kind(path)) for path, _ in _places(filename))

    def read(
        self, data: Sequence[str | PathLike[str]] | str | PathLike[str], **_: Any
    ) -> list[tuple[Path, int | None]]:
        """Return the paths and frames to decode; see `address`."""
        return _places(data)

    def get_data(self, img: Sequence[tuple[Path, int | None]]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Decode one file: `(picture, metadata)`, picture (rows, columns) float32 in [0, 1].

        The metadata hold the header's `view` and `body_part` in the words of `medidistill.ingest.projection`.

        Raises:
            IngestError: more than one file, or a file that cannot be used.
        """
        if len(img) != 1:
            raise IngestError(f"{len(img)} files for one radiograph: must be one")
        picture, said = _read_checked(*img[0])
        return picture, {"spatial_shape": np.asarray(picture.shape), "original_channel_dim": "no_channel", **said}


def _places(names: Sequence[str | PathLike[str]] | str | PathLike[str]) -> list[tuple[Path, int | None]]:
    found = []
    for name in [names] if isinstance(names, str | PathLike) else names:
        path, _, frame = str(name).partition(_FRAME)
        found.append((Path(path), int(frame) if frame else None))
    return found
