"""The VOI window and the look-up tables of DICOM (PS3.3 C.11.1 and C.11.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medidistill.errors import IngestError

__all__ = ["lookup", "window"]


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


def lookup(values: NDArray[Any], item: Dataset, big_endian: bool) -> tuple[NDArray[np.float64], float]:
    """Send values through a LUT sequence item; return the output and the top of its range.

    Values before the first mapped one take the first entry, values after the last one the last (C.11.1.1, C.11.2.1.1).

    Raises:
        IngestError: fewer entries than the descriptor claims, or a depth outside 1 to 16 bits.
    """
    entries, first, depth = (int(v) for v in item.LUTDescriptor)
    entries = entries or 65536
    data = item.LUTData
    if isinstance(data, bytes):
        kind = "u1" if len(data) < 2 * entries else (">u2" if big_endian else "<u2")
        table = np.frombuffer(data[: len(data) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], dtype=kind)
    else:
        table = np.atleast_1d(np.asarray(data))
    if entries < 1 or len(table) < entries or not 1 <= depth <= 16:
        raise IngestError(
            "(0028,3006) LUT Data does not hold what (0028,3002) LUT Descriptor claims, 1 to 16 bits each"
        )
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)
    return table[index].astype(np.float64), float(2**depth - 1)
