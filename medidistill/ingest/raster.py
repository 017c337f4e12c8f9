"""PNG and JPEG pictures as they are: no window, no stretch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medidistill.errors import IngestError
from medidistill.ingest.limits import MOST_PIXELS

__all__ = ["read_raster"]


def read_raster(path: Path) -> NDArray[np.float32]:
    """Read a PNG (8 or 16 bits) or JPEG: (rows, columns) float32 in [0, 1]; colour becomes luminance.

    Raises:
        IngestError: several frames, or more pixels than a radiograph has.
    """
    with Image.open(path, formats=("PNG", "JPEG")) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise IngestError("several frames: a radiograph has one")
        if picture.width * picture.height > MOST_PIXELS:
            raise IngestError(f"more than {MOST_PIXELS} pixels claimed")
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):  # PNG of 16 bits
            return np.asarray(upright, dtype=np.float32) / np.float32(65535)
        if upright.mode != "L":
            # ITU-R 601 luminance; a palette or an alpha channel is resolved to colour first
            upright = upright.convert("RGB").convert("L")
        return np.asarray(upright, dtype=np.float32) / np.float32(255)
