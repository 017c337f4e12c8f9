"""Test images that networks of one arm call by the wrong class, the most certain errors first. They show patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medidistill.errors import IngestError, MedidistillError
from medidistill.evaluate.protocol import ArmRun
from medidistill.files import load_tensors
from medidistill.pipeline.comparison.arms import cell_file
from view_models.ingested import class_names
from view_models.runs import RunView

__all__ = ["Case", "misclassified"]

_REFERENCE = "full"


@dataclass(frozen=True)
class Case:
    """One test image that is called by the wrong class.

    Args:
        pixels: (rows, columns) in [0, 1], as the networks see it.
        true: its class.
        called: what the networks of the arm call it, by their mean probability.
        probability: mean probability of that.
        reference: what networks trained on all real X-rays call it; empty where they were not compared.
    """

    pixels: npt.NDArray[np.float32]
    true: str
    called: str
    probability: float
    reference: str = ""

    @property
    def reference_is_right(self) -> bool:
        """Whether networks trained on all real X-rays call it by its class."""
        return self.reference == self.true


def misclassified(run: RunView, arm: str, architecture: str) -> list[Case] | None:
    """Return the errors of an arm on the run's own test split; None where its private part was removed.

    Raises:
        IngestError: a file is damaged, or the cells are of other test images.
    """
    file = run.folder.ingest / "test.safetensors"
    if not file.is_file():
        return None
    tensors, _ = load_tensors(file)
    images, labels, names = tensors["images"], tensors["labels"].numpy(), class_names(run)
    called = _mean(run, arm, architecture, len(labels))
    if called is None:
        return None
    other = None if arm == _REFERENCE else _mean(run, _REFERENCE, architecture, len(labels))
    predicted = called.argmax(axis=1)
    wrong = sorted(np.flatnonzero(predicted != labels).tolist(), key=lambda place: -float(called[place].max()))
    return [
        Case(
            images[place].mean(0).numpy(),
            names[int(labels[place])],
            names[int(predicted[place])],
            float(called[place].max()),
            "" if other is None else names[int(other[place].argmax())],
        )
        for place in wrong
    ]


def _mean(run: RunView, arm: str, architecture: str, count: int) -> npt.NDArray[np.float64] | None:
    """Return the mean probabilities of an arm's networks, (images, classes)."""
    cell = cell_file(run.folder, arm, architecture)
    if not cell.is_file():
        return None
    try:
        found = ArmRun.load(cell).test_probabilities
    except MedidistillError as error:
        raise IngestError(f"{cell.name}: cannot be read; resume the run") from error
    if found is None:
        return None
    mean: npt.NDArray[np.float64] = np.asarray(found, np.float64).mean(axis=0)
    if len(mean) != count:
        raise IngestError(f"{cell.name}: holds {len(mean)} test images, the run has {count}; resume the run")
    return mean
