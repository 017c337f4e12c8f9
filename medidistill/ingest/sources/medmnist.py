"""A MedMNIST archive (`{train,val,test}_{images,labels}` in one npz) as PNG files with labels and splits.

Source: J. Yang et al., MedMNIST v2, Scientific Data 2023.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medidistill.config import IngestConfig
from medidistill.errors import IngestError
from medidistill.files import translate_os_errors
from medidistill.ingest.sources.archive import check_archive
from medidistill.ingest.sources.record import SourceListing

__all__ = ["from_medmnist", "is_npz"]

_SPLITS = ("train", "val", "test")
# the archive numbers its classes; the names are those of the publication
_KNOWN = {"pneumoniamnist": ("normal", "pneumonia")}


def is_npz(path: Path) -> bool:
    """Whether a file is a zip of NumPy arrays."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 (a damaged directory raises anything; unpacking will report it)
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _arrays(path: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Return images (N, H, W) or (N, H, W, 3) uint8, and labels (N,)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive[f"{split}_images"], archive[f"{split}_labels"]
    except KeyError as error:
        raise IngestError(f"{path}: no MedMNIST archive: needs {split}_images and {split}_labels") from error
    except Exception as error:  # damaged archives raise anything
        raise IngestError(f"{path}: {split} cannot be read ({type(error).__name__})") from error
    shape = images.shape
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and shape[3] == 3)) or 0 in shape[1:]:
        raise IngestError(f"{path}: {split}_images is {images.dtype} {shape}: must be uint8 (N, H, W) or (N, H, W, 3)")
    if labels.size != len(images) or labels.dtype.kind not in "iu":
        raise IngestError(
            f"{path}: {split}_labels is {labels.dtype} {labels.shape} for {len(images)} images: must be one class "
            "number an image (data sets with several labels an image are not read)"
        )
    return images, labels.reshape(-1)


def from_medmnist(path: Path, folder: Path, config: IngestConfig) -> SourceListing:
    """Write the pictures of an npz as PNG files into a new private folder and return their records.

    Class i is called `config.classes[i]`, else as published where the file's name is known, else `i`. MedMNIST names
    no patients: each image is its own.

    Raises:
        IngestError: another kind of npz, damaged arrays, or a class number without a name.
        ResourceError: the folder cannot be written.
    """
    check_archive(path)
    names = config.classes or _KNOWN.get(path.stem.lower().partition("_")[0], ())
    found = SourceListing()
    for split in _SPLITS:
        images, labels = _arrays(path, split)
        with translate_os_errors(folder):
            (folder / split).mkdir(mode=0o700, parents=True)
        for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            if label < 0 or (names and label >= len(names)):
                raise IngestError(
                    f"{path}: class {label} of {split} has no name among {', '.join(names)}; "
                    "set ingest.classes to the names of class 0, 1, ... in order"
                )
            key = f"{split}/{number:06d}.png"
            with translate_os_errors(folder / key):
                Image.fromarray(image).save(folder / key, compress_level=1)
            name = names[label] if names else str(label)
            found.add(key, folder / key, name, config, split=split)
    return found
