"""A cheap detector of text that was burned into the pixels: rows of small, sharp, letter-like shapes.

Letters drawn by a program are strokes of even brightness against their surroundings. White and black top-hat
(what a stroke adds to its surroundings), threshold, connected components; those of the size and fill of letters
are chained into rows of like height on one line. A row of `MIN_LETTERS` or more counts as text.
It reads nothing: side markers of one or two letters pass, and so does handwriting, or text as faint as bone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["MIN_LETTERS", "letters_in_row"]

MIN_LETTERS = 5
_MAX_SIDE = 1024
_BAND = 0.22  # share of the height or width that counts as border
_CONTRAST = 0.18


def _boxes(mask: NDArray[np.bool_], low: float, high: float) -> NDArray[np.float64]:
    """Return (top, left, height, width) of the components that have the size and fill of a letter."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if not count:
        return np.empty((0, 4))
    found = ndimage.find_objects(labels)
    areas = np.bincount(labels.ravel())[1:]
    boxes = np.array([(r.start, c.start, r.stop - r.start, c.stop - c.start) for r, c in found], dtype=np.float64)
    height, width = boxes[:, 2], boxes[:, 3]
    fill = areas / (height * width)
    slim = width <= 0.35 * height  # I, l, 1: a bar fills its box
    good = (height >= low) & (height <= high) & (width >= 2) & (width <= 1.6 * height)
    return boxes[good & (fill >= 0.18) & ((fill <= 0.85) | slim)]


def _longest_row(boxes: NDArray[np.float64]) -> int:
    """Return the number of boxes in the longest chain of like height on one line."""
    if len(boxes) < 2:
        return len(boxes)
    boxes = boxes[np.argsort(boxes[:, 1], kind="stable")]
    best = np.ones(len(boxes), dtype=int)
    bottom, right = boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    for i in range(1, len(boxes)):
        height = np.maximum(boxes[i, 2], boxes[:i, 2])
        like = np.minimum(boxes[i, 2], boxes[:i, 2]) >= 0.6 * height
        aligned = np.minimum(np.abs(bottom[i] - bottom[:i]), np.abs(boxes[i, 0] - boxes[:i, 0])) <= 0.15 * height
        gap = boxes[i, 1] - right[:i]
        near = (gap >= -0.2 * height) & (gap <= 1.3 * height)
        if (chain := like & aligned & near).any():
            best[i] = best[:i][chain].max() + 1
    return int(best.max())


def letters_in_row(picture: NDArray[Any]) -> int:
    """Return how many letter-like shapes stand in the longest row near a border, upright or turned by 90 degrees.

    Args:
        picture: (rows, columns), any number type; its own range is taken as full contrast.

    Returns:
        0 or more; `MIN_LETTERS` and more is taken for text.
    """
    grey = np.asarray(picture, dtype=np.float32)
    step = max(1, int(np.ceil(max(grey.shape) / _MAX_SIDE)))
    if step > 1:
        rows, columns = (side // step * step for side in grey.shape)
        grey = grey[:rows, :columns].reshape(rows // step, step, columns // step, step).mean((1, 3))
    low, high = float(grey.min()), float(grey.max())
    if not high > low:
        return 0
    grey = (grey - low) / (high - low)
    return max(_in_band(view) for turned in (grey, grey.T) for view in (turned, turned[::-1]))


def _in_band(grey: NDArray[np.float32]) -> int:
    """Return the longest row in the top band of a picture."""
    band = grey[: max(12, int(_BAND * grey.shape[0]))]
    tallest = max(14, int(0.05 * max(grey.shape)))
    found = 0
    for one in (band, 1 - band):
        hat = one - ndimage.grey_opening(one, size=(tallest // 2, tallest // 2), mode="nearest")
        found = max(found, _longest_row(_boxes(hat > _CONTRAST, 5, tallest)))
    return found
