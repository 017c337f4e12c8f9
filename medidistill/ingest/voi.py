"""The VOI window of DICOM (PS3.3 C.11.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from medidistill.errors import IngestError
from medidistill.ingest.notices import Notice

__all__ = ["Window", "choose_window", "window"]


@dataclass(frozen=True)
class Window:
    """Window Center and Window Width, in the unit of the output of the modality transformation."""

    center: float
    width: float


def choose_window(
    centers: Sequence[float | None], widths: Sequence[float | None]
) -> tuple[Window | None, Notice | None]:
    """Return the first window that has both a centre and a width, and a notice on the choice.

    Args:
        centers: values of (0028,1050) Window Center, None for each empty one.
        widths: values of (0028,1051) Window Width, likewise.
    """
    pairs = list(zip_longest(centers, widths))
    for number, (center, width) in enumerate(pairs):
        if center is not None and width is not None:
            several = Notice.SEVERAL_WINDOWS if len(pairs) > 1 else None
            return Window(center, width), Notice.EMPTY_WINDOW if number else several
    return None, Notice.HALF_WINDOW if any(value is not None for pair in pairs for value in pair) else None


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
        IngestError: a centre or width that is not finite, a width outside its range, or an unknown function.

    Source: DICOM PS3.3 C.11.2.1.2.1, C.11.2.1.3.
    """
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise IngestError("(0028,1056) VOI LUT Function must be LINEAR, LINEAR_EXACT or SIGMOID")
    if not np.isfinite(center) or not np.isfinite(width):
        raise IngestError("(0028,1050) Window Center and (0028,1051) Window Width must be finite")
    if function == "LINEAR" and width < 1:
        raise IngestError("(0028,1051) Window Width must be >= 1 for LINEAR")
    if not width > 0:
        raise IngestError(f"(0028,1051) Window Width must be > 0 for {function}")
    if function == "SIGMOID":
        # beyond +-60 the curve is 0 or 1 in float64, and exp would overflow
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -60.0, 60.0)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)
