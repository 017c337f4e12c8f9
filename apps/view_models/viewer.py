"""One X-ray for the eye: window and level, a part of it enlarged, and its header without what names anybody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.dicom import file_kind, read_image

__all__ = ["Picture", "header_table", "read_picture", "thumbnail", "windowed"]

_SIDE = 160  # of thumbnails
# technical elements of PS3.3 that describe the picture; none of them is in PS3.15 Table E.1-1 as one to remove
_SHOWN = (
    "Modality",
    "ViewPosition",
    "PatientOrientation",
    "BodyPartExamined",
    "PresentationIntentType",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "KVP",
    "WindowCenter",
    "WindowWidth",
    "RescaleSlope",
    "RescaleIntercept",
    "LossyImageCompression",
)


@dataclass(frozen=True)
class Picture:
    """An X-ray as it is read: (rows, columns) in [0, 1]."""

    pixels: npt.NDArray[np.float32]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_picture(path: Path, frame: int | None = None) -> Picture:
    """Read a file, or one frame of it, from 0. Raises `IngestError`."""
    try:
        return Picture(read_image(path, frame))
    except OSError as error:
        raise IngestError(f"cannot be opened ({type(error).__name__})") from error


def thumbnail(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a picture reduced to at most 160 pixels a side, (rows, columns) uint8."""
    picture = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    picture.thumbnail((_SIDE, _SIDE))
    return np.asarray(picture)


def windowed(
    pixels: npt.NDArray[np.float32],
    level: float,
    width: float,
    zoom: float = 1.0,
    across: float = 0.5,
    down: float = 0.5,
) -> npt.NDArray[np.float32]:
    """Return a part of a picture with other grey values.

    Args:
        pixels: (rows, columns) in [0, 1].
        level: grey value shown as middle grey.
        width: range of grey values between black and white, above 0.
        zoom: 1 shows all, 2 half of the rows and columns.
        across: where the part lies from left (0) to right (1).
        down: where it lies from top to bottom.

    Returns:
        (rows / zoom, columns / zoom) in [0, 1].
    """
    rows, columns = (max(1, round(side / zoom)) for side in pixels.shape)
    top, left = round((pixels.shape[0] - rows) * down), round((pixels.shape[1] - columns) * across)
    part = pixels[top : top + rows, left : left + columns]
    return np.asarray(np.clip((part - (level - width / 2)) / width, 0, 1), np.float32)


def header_table(path: Path) -> pd.DataFrame:
    """Return technical elements of a file: name, value. Nothing that names a person, a place or a date."""
    try:
        if file_kind(path) != "dicom":
            with Image.open(path) as picture:
                told = {
                    "Format": picture.format,
                    "Columns": picture.width,
                    "Rows": picture.height,
                    "Mode": picture.mode,
                }
        else:
            dataset = read_dicom(path)
            told = {name: dataset.get(name) for name in _SHOWN if dataset.get(name) not in (None, "")}
            told["TransferSyntax"] = dataset.file_meta.TransferSyntaxUID.name
    except (IngestError, OSError, AttributeError) as error:
        raise IngestError(f"the header cannot be read ({type(error).__name__})") from error
    return pd.DataFrame({"element": list(told), "value": [str(value) for value in told.values()]})
