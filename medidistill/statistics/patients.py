"""Patients as numbers: what clustered statistics group images by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.statistics.arrays import IntArray

__all__ = ["patient_codes"]


def patient_codes(patient_ids: Sequence[Any] | npt.NDArray[Any]) -> IntArray:
    """Return the patient of each image as 0..P-1, (N,) int64, in the order of the sorted identifiers.

    Identifiers are compared as text, so that 7 and "7" are one patient.
    """
    codes: IntArray = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)[1].astype(np.int64)
    return codes
