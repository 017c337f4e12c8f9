"""Measurements on the pixels of an image, before it is cropped and resized."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["FINE_SIDE", "HASH_BITS", "Examined", "correlation", "difference_hash", "fine_structure"]

_SIDE = 16
HASH_BITS = _SIDE * _SIDE
FINE_SIDE = 64  # whatever `image_size` is: a coarser grid keeps only broad structure, which all chests share
_SAMPLE = 256  # contrast and clipping are read off a grid of at most so many rows and columns
_END = 1 / 510  # half a step of 8 bits: what a display shows as black or white


def difference_hash(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the difference hash of a picture: whether it brightens from each of 17 columns to the next, in 16 rows.

    The hash survives recompression, resizing and a change of brightness. It has 256 bits, as chest X-rays are so
    similar that 64 do not distinguish patients.

    Args:
        picture: (rows, columns) float32.

    Returns:
        (256,) bool.

    Source: the difference hash of N. Krawetz, "Kind of like that", 2013; grid and length are ours.
    """
    return _hash_of(Image.fromarray(picture))


def _hash_of(picture: Image.Image) -> NDArray[np.bool_]:
    small = np.asarray(picture.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX))
    return np.asarray(small[:, 1:] > small[:, :-1]).ravel()


def fine_structure(picture: NDArray[np.float32]) -> bytes:
    """Return the fine structure of a picture: on a grid of 64 x 64, less the mean of each 5 x 5 neighbourhood.

    The silhouette of a chest is that of any chest; ribs and vessels differ.

    Args:
        picture: (rows, columns) float32.

    Returns:
        64 x 64 signed bytes, mean 0, scaled to their range; all 0 for a picture without any.
    """
    return _fine_structure_of(Image.fromarray(picture))


def _fine_structure_of(picture: Image.Image) -> bytes:
    small = np.asarray(picture.resize((FINE_SIDE, FINE_SIDE), Image.Resampling.BOX))
    rest = small - ndimage.uniform_filter(small, 5)
    rest = rest - rest.mean()
    return np.asarray(np.rint(rest * (127 / max(float(np.abs(rest).max()), 1e-9))), np.int8).tobytes()


def correlation(one: bytes, other: bytes) -> float:
    """Return the correlation of two fine structures without sign, as a negative counts: in [0, 1]."""
    a, b = (np.frombuffer(text, np.int8).astype(np.float32) for text in (one, other))
    return float(abs(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))


def _digest(picture: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(repr(picture.shape).encode())
    digest.update(picture.data)
    return digest.hexdigest()


class Examined(MapTransform):  # type: ignore[misc, unused-ignore]
    """Note of (1, H, W) pictures: digest, difference hash, fine structure, contrast, clipping, reader notes.

    Contrast and clipping are those of the pixels that are no padding.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with what was measured, as text and numbers."""
        item = dict(data)
        for key in self.key_iterator(item):
            picture = np.ascontiguousarray(item[key][0].numpy())
            said = getattr(item[key], "meta", {})
            step = max(1, -(-max(picture.shape) // _SAMPLE))
            sample = picture[::step, ::step]
            if (padding := said.get("padding")) is not None and not padding[::step, ::step].all():
                sample = sample[~padding[::step, ::step]]
            low, high = np.percentile(sample, [1, 99])
            item["pixels"] = _digest(picture)
            image = Image.fromarray(picture)  # a copy: one for both
            item["outline"] = np.packbits(_hash_of(image)).tobytes().hex()
            item["fine"] = _fine_structure_of(image)
            item["contrast"] = float(high - low)
            item["clipped"] = float(max((sample <= _END).mean(), (sample >= 1 - _END).mean()))
            for name in ("view", "body_part", "shown_by"):
                item[name] = str(said.get(name, ""))
            item["notices"] = [str(notice) for notice in said.get("notices", ())]
        return item
