"""True classes and patients of the scored images, kept beside the predictions, so that thresholds can be tried later.

Patients are numbers that mean nothing elsewhere. The file lies with the predictions for single images, and `medidistill
clean --all` removes it with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medidistill.distilled_set import LabelledImages
from medidistill.errors import IngestError
from medidistill.files import load_tensors, save_tensors
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.statistics import patient_codes

__all__ = ["ScoredLabels", "load_scored_labels", "save_scored_labels"]

_KIND, _FORMAT = "scored_labels", 1


@dataclass(frozen=True)
class ScoredLabels:
    """What predictions are held against.

    Args:
        class_names: K names.
        test: (N,) class of each test image.
        patients: (N,) patient of each test image, as 0..P-1.
        val: (N_val,) class of each validation image.
    """

    class_names: tuple[str, ...]
    test: npt.NDArray[np.int64]
    patients: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]


def _file(folder: RunFolder, elsewhere: bool) -> Path:
    return folder.evaluate / "cells" / f"labels{'-external' if elsewhere else ''}.safetensors"


def save_scored_labels(
    folder: RunFolder, test: LabelledImages, val: LabelledImages, *, elsewhere: bool = False
) -> None:
    """Write the labels of both splits, readable by the owner alone, unless they are there.

    Args:
        folder: of the run.
        test: the images that were scored.
        val: on which thresholds are chosen.
        elsewhere: `test` is the test set from elsewhere.

    Raises:
        ResourceError: the file cannot be written.
    """
    codes = patient_codes(test.patient_ids)
    kept = _load_cached(folder, elsewhere)
    if kept is not None and kept.class_names == test.class_names:
        now = (test.labels.numpy(), codes, val.labels.numpy())
        if all(np.array_equal(*pair) for pair in zip((kept.test, kept.patients, kept.val), now, strict=True)):
            return
    tensors = {"test": test.labels.to(torch.int64), "val": val.labels.to(torch.int64), "patients": torch.tensor(codes)}
    header = {"kind": _KIND, "format": _FORMAT, "class_names": list(test.class_names)}
    save_tensors(_file(folder, elsewhere), tensors, header, mode=0o600)


def _load_cached(folder: RunFolder, elsewhere: bool) -> ScoredLabels | None:
    try:
        return load_scored_labels(folder, elsewhere=elsewhere)
    except IngestError:
        return None  # damaged: written again


def load_scored_labels(folder: RunFolder, *, elsewhere: bool = False) -> ScoredLabels | None:
    """Read what `save_scored_labels` wrote; None where it is not there. Raises `IngestError` where it is damaged."""
    file = _file(folder, elsewhere)
    if not file.is_file():
        return None
    tensors, header = load_tensors(file)
    if header.get("kind") != _KIND or not {"test", "val", "patients"} <= tensors.keys():
        raise IngestError(f"{file}: not the labels of a comparison; continue the run to write them again")
    test, patients, val = (tensors[name].numpy().astype(np.int64) for name in ("test", "patients", "val"))
    return ScoredLabels(tuple(header["class_names"]), test, patients, val)
