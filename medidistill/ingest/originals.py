"""The pictures that prepared images were made from, at the resolution of their files. They show patients."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medidistill.config import IngestConfig
from medidistill.errors import MedidistillError
from medidistill.files import sha256_file
from medidistill.ingest.dicom import read_image
from medidistill.ingest.sources import find_records, workspace

__all__ = ["original_squares"]


def original_squares(
    source: Path, config: IngestConfig, wanted: Mapping[str, str], folder: Path
) -> dict[str, NDArray[np.float32]]:
    """Return the central square of each film at the resolution of its file: what the prepared image was averaged from.

    Args:
        source: the input of the run.
        config: with which it was read.
        wanted: key -> SHA-256, as the manifest holds them.
        folder: a private folder for what archives hold while they are read.

    Returns:
        Key -> (S, S) in [0, 1]. A film whose file is gone, or is not what the manifest names, is not among them.
    """
    found: dict[str, NDArray[np.float32]] = {}
    try:
        with workspace(folder) as place:
            for record in find_records(source, config, place).records:
                if record.key not in wanted:
                    continue
                digest = sha256_file(record.path)
                if record.frame is not None:
                    digest = hashlib.sha256(f"{digest} frame {record.frame}".encode()).hexdigest()
                if digest == wanted[record.key]:
                    found[record.key] = _central_square(read_image(record.path, record.frame))
    except (MedidistillError, OSError):
        return found  # the input is gone, or cannot be read any more
    return found


def _central_square(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = picture.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]
