"""The quality gate: which images are set aside or used under a warning, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medidistill.config import QualityConfig
from medidistill.ingest.examine import HASH_BITS
from medidistill.ingest.header_screening import LATERAL, OBLIQUE, OTHER_PART, view_of_text
from medidistill.ingest.loading import LoadedImage

__all__ = ["Finding", "near_pairs", "screen_image"]

_BLOCK = 2048
_NOTHING = 1e-6


@dataclass(frozen=True)
class Finding:
    """One doubt about an image.

    Args:
        action: `quarantine` or `warn`.
        reason: in words of this module; holds no value of a header and no name of a file.
    """

    action: str
    reason: str


def screen_image(film: LoadedImage, table_view: str, config: QualityConfig) -> Iterator[Finding]:
    """Yield the findings of one image by itself.

    Args:
        film: the image and what was measured on it.
        table_view: the view that the table of labels states, stronger than the header's.
        config: limits, and what to do.
    """
    if film.contrast <= _NOTHING and float(np.ptp(film.image)) <= _NOTHING:
        yield Finding("quarantine", "constant image")
        return
    view = view_of_text(table_view) or film.view
    shown = f", as shown by {film.shown_by}" if film.shown_by else ""
    doubts = (
        *((config.irregular, True, notice) for notice in film.notices),
        (config.view, view == LATERAL, "lateral view"),
        (config.view, view == OBLIQUE, "oblique view"),
        (config.body_part, film.body_part == OTHER_PART, "a body part other than the chest"),
        (config.blank, film.contrast < config.min_contrast, f"blank: hardly any contrast{shown}"),
        (config.clipped, film.clipped > config.max_clipped, f"clipped: most pixels at one end of the scale{shown}"),
    )
    for action, true, reason in doubts:
        if true and action != "accept":
            yield Finding(action, reason)


def near_pairs(hashes: Sequence[str], groups: Sequence[int], max_bits: int) -> list[tuple[int, int]]:
    """Return the pairs of images in different groups whose hashes differ in few bits, or in nearly all (a negative).

    Args:
        hashes: N hexadecimal hashes of 256 bits.
        groups: N numbers; only pairs of different groups count.
        max_bits: bits that may differ.

    Returns:
        (i, j) with i < j, sorted. Work grows with N squared (10,000 images: seconds), memory with N.
    """
    if not hashes:
        return []
    packed = np.array([np.frombuffer(bytes.fromhex(text), np.uint8) for text in hashes])
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    group: NDArray[np.int64] = np.asarray(groups)
    found: list[tuple[int, int]] = []
    for start in range(0, len(signs), _BLOCK):
        for other in range(start, len(signs), _BLOCK):
            # +1 and -1: the product is the number of bits less twice those that differ
            close = np.abs(signs[start : start + _BLOCK] @ signs[other : other + _BLOCK].T) >= HASH_BITS - 2 * max_bits
            close &= group[start : start + _BLOCK, None] != group[None, other : other + _BLOCK]
            found += [(start + i, other + j) for i, j in np.argwhere(close).tolist() if start + i < other + j]
    return sorted(found)
