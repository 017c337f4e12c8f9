"""One chest radiograph file to one grey picture in [0, 1], bright where the chest absorbs.

DICOM (CR, DX, RG) runs the display pipeline of the standard: Modality LUT or rescale (PS3.3 C.11.1),
VOI LUT or window (C.11.2), then the inversion of MONOCHROME1 (C.7.6.3.1.2). PNG and JPEG are taken as
they are. What comes out is never stretched to the image's own extremes: two exposures stay two exposures.
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
from PIL import Image, ImageOps
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array

from medidistill.errors import IngestError
from medidistill.ingest.quiet import quiet

__all__ = ["ChestXrayReader", "Header", "file_kind", "read_header", "read_image", "render", "window"]

MODALITIES = ("CR", "DX", "RG")
_HEADER_TAGS = ["PatientID", "SOPInstanceUID", "AccessionNumber", "PatientSex", "PatientAge"]


@dataclass(frozen=True)
class Header:
    """What labels can be keyed on, sex and age. Raw values: they go into no message and no table."""

    patient_id: str = ""
    sop_instance_uid: str = ""
    accession_number: str = ""
    sex: str = ""
    age: str = ""


def file_kind(path: Path) -> str:
    """Return ``dicom``, ``png``, ``jpeg`` or an empty string, by content; the file's name plays no part."""
    with open(path, "rb") as file:
        start = file.read(132)
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "jpeg" if start.startswith(b"\xff\xd8\xff") else ""


def _reason(error: BaseException) -> str:
    """Return the first sentence of a decoder's message, short enough for one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def read_header(path: Path) -> Header:
    """Read the identifiers of a DICOM file without its pixels. Raises `IngestError`."""
    try:
        with quiet():
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
            values = [str(dataset.get(tag, "") or "").strip() for tag in _HEADER_TAGS]
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        # the message could quote a damaged value, which might be a name
        raise IngestError(f"unreadable DICOM header ({type(error).__name__})") from error
    return Header(*values)


def _first(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric element, or None where it is absent or empty."""
    value = dataset.get(keyword)
    if isinstance(value, Sequence | pydicom.multival.MultiValue) and not isinstance(value, str):
        value = value[0] if len(value) else None
    return None if value in (None, "") else float(value)


def window(values: NDArray[np.float64], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float64]:
    """Apply a VOI window and return its output on [0, 1].

    LINEAR:        ((x - (c - 0.5)) / (w - 1) + 0.5), clipped; w >= 1 (w = 1 is a step at c - 0.5)
    LINEAR_EXACT:  ((x - c) / w + 0.5), clipped; w > 0
    SIGMOID:       1 / (1 + exp(-4 (x - c) / w)); w > 0

    Args:
        values: output of the modality transformation, any shape.
        center: (0028,1050) Window Center, in the same unit.
        width: (0028,1051) Window Width.
        function: (0028,1056) VOI LUT Function.

    Raises:
        IngestError: a width outside its range, or an unknown function.

    Source: DICOM PS3.3 C.11.2.1.2.1, C.11.2.1.3.
    """
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise IngestError(f"(0028,1056) VOI LUT Function {function!r}: must be LINEAR, LINEAR_EXACT or SIGMOID")
    if function == "LINEAR" and width < 1:
        raise IngestError(f"(0028,1051) Window Width must be >= 1 for LINEAR, got {width:g}")
    if not width > 0:
        raise IngestError(f"(0028,1051) Window Width must be > 0 for {function}, got {width:g}")
    if function == "SIGMOID":
        # beyond +-60 the curve is 0 or 1 in float64, and exp would overflow
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -60.0, 60.0)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _lookup(values: NDArray[Any], item: Dataset, big_endian: bool) -> tuple[NDArray[np.float64], float]:
    """Send values through a LUT sequence item; return the output and the top of its range.

    Values before the first mapped one take the first entry, values after the last one the last (C.11.1.1, C.11.2.1.1).
    """
    entries, first, depth = (int(v) for v in item.LUTDescriptor)
    entries = entries or 65536
    data = item.LUTData
    if isinstance(data, bytes):
        kind = "u1" if len(data) < 2 * entries else (">u2" if big_endian else "<u2")
        table = np.frombuffer(data, dtype=kind)
    else:
        table = np.atleast_1d(np.asarray(data))
    if len(table) < entries or not 1 <= depth <= 16:
        raise IngestError(f"(0028,3006) LUT Data holds {len(table)} of {entries} entries of {depth} bits")
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)
    return table[index].astype(np.float64), float(2**depth - 1)


def render(dataset: Dataset) -> NDArray[np.float32]:
    """Render a one-frame greyscale radiograph for display.

    Without a window or VOI LUT the range that Bits Stored allows, sent through the modality
    transformation, becomes [0, 1]. With one, the window's output range does. The first window or
    VOI LUT counts where several are given, and a VOI LUT goes before a window.

    Args:
        dataset: a dataset with pixel data.

    Returns:
        (rows, columns) float32 in [0, 1], bright = high attenuation.

    Raises:
        IngestError: several frames, colour, a modality other than CR, DX, RG, no pixels, damaged pixels
            or contradictory attributes.
    """
    modality = str(dataset.get("Modality", "") or "")
    if "PixelData" not in dataset:
        raise IngestError(f"no pixel data (modality {modality or 'not stated'})")
    if modality not in MODALITIES:
        raise IngestError(f"modality {modality or 'not stated'}: must be {', '.join(MODALITIES)}")
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise IngestError(f"{dataset.NumberOfFrames} frames: a radiograph has one")
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise IngestError(
            f"photometric interpretation {photometric or 'not stated'}: must be MONOCHROME1 or MONOCHROME2"
        )

    stored = pixel_array(dataset)
    signed, bits = bool(dataset.PixelRepresentation), int(dataset.BitsStored)
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    big_endian = dataset.original_encoding[1] is False

    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    if dataset.get("ModalityLUTSequence"):
        values, high = _lookup(stored, dataset.ModalityLUTSequence[0], big_endian)
        low = 0.0
    else:
        values = stored.astype(np.float64)
        if slope is not None and intercept is not None:
            if slope == 0:
                raise IngestError("(0028,1053) Rescale Slope must not be 0")
            values = values * slope + intercept
            low, high = sorted((low * slope + intercept, high * slope + intercept))

    center, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if dataset.get("VOILUTSequence"):
        values, high = _lookup(values, dataset.VOILUTSequence[0], big_endian)
        shown = values / high
    elif center is not None and width is not None:
        shown = window(values, center, width, str(dataset.get("VOILUTFunction", "") or "LINEAR").upper())
    else:
        shown = (values - low) / (high - low)
    shown = np.clip(shown, 0.0, 1.0)
    return np.asarray(1.0 - shown if photometric == "MONOCHROME1" else shown, dtype=np.float32)


def _read_raster(path: Path) -> NDArray[np.float32]:
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise IngestError("several frames: a radiograph has one")
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):  # PNG of 16 bits
            return np.asarray(upright, dtype=np.float32) / np.float32(65535)
        if upright.mode != "L":
            # ITU-R 601 luminance; a palette or an alpha channel is resolved to colour first
            upright = upright.convert("RGB").convert("L")
        return np.asarray(upright, dtype=np.float32) / np.float32(255)


def _read(path: Path) -> NDArray[np.float32]:
    kind = file_kind(path)
    if kind in ("png", "jpeg"):
        return _read_raster(path)
    if kind != "dicom":
        raise IngestError("neither DICOM nor PNG nor JPEG")
    with quiet():
        try:
            dataset = pydicom.dcmread(path)
        except Exception as error:
            raise IngestError(f"unreadable DICOM ({type(error).__name__})") from error
        return render(dataset)


def read_image(path: Path) -> NDArray[np.float32]:
    """Read one DICOM, PNG or JPEG file.

    Args:
        path: the file; its kind is told by content. PNG of 8 or 16 bits; colour becomes luminance.

    Returns:
        (rows, columns) float32 in [0, 1], rows first.

    Raises:
        IngestError: the reason why the file cannot be used, without the path and without patient values.
    """
    try:
        return _read(path)
    except IngestError:
        raise
    except Exception as error:  # decoders raise anything on damaged data; one file never stops a run
        raise IngestError(f"unreadable ({_reason(error)})") from error


class ChestXrayReader(ImageReader):  # type: ignore[misc, unused-ignore]
    """MONAI image reader for chest radiographs; see `read_image` for what it does to pixels.

    `read` only notes the path and `get_data` decodes: `LoadImage` answers an exception in `read` by trying
    its other readers, which would show the file without its window and inversion.
    """

    def verify_suffix(self, filename: Sequence[str | PathLike[str]] | str | PathLike[str]) -> bool:
        """Return whether every file is DICOM, PNG or JPEG by content."""
        return all(bool(file_kind(path)) for path in _paths(filename))

    def read(self, data: Sequence[str | PathLike[str]] | str | PathLike[str], **_: Any) -> list[Path]:
        """Return the paths to decode."""
        return _paths(data)

    def get_data(self, img: Sequence[Path]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Decode one file: `(picture, metadata)`, picture (rows, columns) float32 in [0, 1].

        Raises:
            IngestError: more than one file, or a file that cannot be used.
        """
        if len(img) != 1:
            raise IngestError(f"{len(img)} files for one radiograph: must be one")
        picture = read_image(img[0])
        return picture, {"spatial_shape": np.asarray(picture.shape), "original_channel_dim": "no_channel"}


def _paths(names: Sequence[str | PathLike[str]] | str | PathLike[str]) -> list[Path]:
    return [Path(names)] if isinstance(names, str | PathLike) else [Path(name) for name in names]
