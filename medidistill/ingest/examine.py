"""What can be told of a film from its pixels, measured before it is cut and resized."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.transforms.transform import MapTransform
from numpy.typing import NDArray
from PIL import Image

__all__ = ["OUTLINE_BITS", "Examined", "outline"]

_SIDE = 16
OUTLINE_BITS = _SIDE * _SIDE
_SAMPLE = 512  # contrast and clipping are read off a grid of at most so many rows and columns
_END = 1 / 510  # half a step of 8 bits: what a display shows as black or white


def outline(picture: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the difference hash of a picture: whether it brightens from each of 17 columns to the next, in 16 rows.

    A picture keeps its outline when it is recompressed, resized, or shown brighter; 256 bits, as chest X-rays are
    so alike that 64 do not tell patients apart.

    Args:
        picture: (rows, columns) float32.

    Returns:
        (256,) bool.

    Source: the difference hash of N. Krawetz, "Kind of like that", 2013; grid and length are ours.
    """
    small = np.asarray(Image.fromarray(picture).resize((_SIDE + 1, _SIDE), Image.Resampling.BOX))
    return np.asarray(small[:, 1:] > small[:, :-1]).ravel()


class Examined(MapTransform):  # type: ignore[misc, unused-ignore]
    """Note of (1, H, W) pictures: a digest of the pixels, the outline, contrast, clipping, view and body part."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with what was measured, as text and numbers."""
        item = dict(data)
        for key in self.key_iterator(item):
            picture = np.ascontiguousarray(item[key][0].numpy())
            said = getattr(item[key], "meta", {})
            step = max(1, -(-max(picture.shape) // _SAMPLE))
            sample = picture[::step, ::step]
            low, high = np.percentile(sample, [1, 99])
            item["pixels"] = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()
            item["outline"] = np.packbits(outline(picture)).tobytes().hex()
            item["contrast"] = float(high - low)
            item["clipped"] = float(max((sample <= _END).mean(), (sample >= 1 - _END).mean()))
            item["view"], item["body_part"] = str(said.get("view", "")), str(said.get("body_part", ""))
        return item
