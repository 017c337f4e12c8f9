"""A purpose as the app asks it: a finding, a threshold, a prevalence. Reads the predictions that a run kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.evaluate import ArmRun
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.comparison import mean_probabilities
from medidistill.evaluate.clinical.purpose import (
    PurposeFigures,
    matched_threshold,
    purpose_figures,
    sensitivity_difference,
    threshold_at_sensitivity,
)
from medidistill.evaluate.intervals import Interval
from medidistill.evaluate.purpose_verdict import Purpose, purpose_verdict
from medidistill.pipeline.comparison.arms import cell_file
from medidistill.pipeline.comparison.scored_labels import ScoredLabels, load_scored_labels
from medidistill.results.verdict import REFERENCE, Colour, Verdict
from view_models.runs import RunView

__all__ = ["Answer", "Predictions", "answer", "default_threshold", "number_in_address", "read_predictions"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Mean probabilities of the networks of the delivered set, and of those of all real X-rays where there are any.

    Args:
        labels: true classes and patients.
        test: (N, K) of the set.
        val: (N_val, K) of the set.
        reference_test: (N, K) of all real X-rays; None where these were not trained on.
        reference_val: (N_val, K), likewise.
        networks: averaged for the set.
        reservations: what forbids a yes whatever is asked, one clause each.
        min_patients: fewest test patients for a yes.
        margin: of sensitivity, as the run was configured.
        confidence: of all limits.
    """

    labels: ScoredLabels
    test: FloatArray
    val: FloatArray
    reference_test: FloatArray | None
    reference_val: FloatArray | None
    networks: int
    reservations: tuple[str, ...] = ()
    min_patients: int = 30
    margin: float = 0.1
    confidence: float = 0.95

    def truth(self, finding: str) -> npt.NDArray[np.bool_]:
        """Return which test images show the finding, (N,)."""
        found: npt.NDArray[np.bool_] = self.labels.test == self.labels.class_names.index(finding)
        return found


@dataclass(frozen=True)
class Answer:
    """What a purpose is answered.

    Args:
        colour: of the verdict.
        sentence: the verdict.
        figures: of the set.
        reference: of all real X-rays at the matched threshold; None where it was not compared.
        difference: of the sensitivities; None where it is not defined.
    """

    colour: Colour
    sentence: str
    figures: PurposeFigures
    reference: PurposeFigures | None = None
    difference: Interval | None = None


def read_predictions(run: RunView, verdict: Verdict | None, *, elsewhere: bool = False) -> Predictions | None:
    """Read what the networks said of each test image; None where a run does not hold it (any more).

    Args:
        run: the run.
        verdict: on these test images.
        elsewhere: of the test set from elsewhere.

    Raises:
        IngestError: a file is damaged.
    """
    labels = load_scored_labels(run.folder, elsewhere=elsewhere)
    if labels is None or verdict is None or run.config is None:
        return None
    cells = {arm: cell_file(run.folder, arm, verdict.architecture) for arm in (verdict.method, REFERENCE)}
    if not cells[verdict.method].is_file():
        return None
    found = {arm: ArmRun.load(file) for arm, file in cells.items() if file.is_file()}
    scored = "external_probabilities" if elsewhere else "test_probabilities"
    sides = (scored, "val_probabilities")
    test, val = ({arm: mean_probabilities([getattr(one, side)]) for arm, one in found.items()} for side in sides)
    own_test, own_val = test[verdict.method], val[verdict.method]
    if own_test is None or own_val is None or len(own_test) != len(labels.test):
        return None
    return Predictions(
        labels=labels,
        test=own_test,
        val=own_val,
        reference_test=test.get(REFERENCE),
        reference_val=val.get(REFERENCE),
        networks=len(found[verdict.method].val_balanced_accuracy),
        reservations=(
            *(() if verdict.patients_known else ("nothing tells which patient an image shows",)),
            *verdict.reservations,
        ),
        min_patients=verdict.min_patients,
        margin=run.config.evaluate.clinical.margin_sensitivity,
        confidence=verdict.confidence,
    )


def default_threshold(predictions: Predictions, finding: str, least: float) -> float:
    """Return the largest threshold that finds `least` of the validation cases, rounded down to half percent."""
    column = predictions.labels.class_names.index(finding)
    try:
        found = threshold_at_sensitivity(predictions.labels.val == column, predictions.val[:, column], least)
    except UndefinedError:
        return 0.5
    return float(np.floor(200 * found) / 200)


def answer(predictions: Predictions, purpose: Purpose, threshold: float) -> Answer:
    """Return figures and verdict of a purpose at a threshold.

    Raises:
        UndefinedError: no test image shows the finding, or all do.
    """
    column = predictions.labels.class_names.index(purpose.finding)
    truth, patients = predictions.truth(purpose.finding), predictions.labels.patients
    how: dict[str, Any] = {"prevalence": purpose.prevalence, "confidence": predictions.confidence}
    figures = purpose_figures(truth, predictions.test[:, column], patients, threshold=threshold, **how)
    reference = difference = None
    if predictions.reference_test is not None and predictions.reference_val is not None:
        try:
            matched = matched_threshold(
                predictions.labels.val == column,
                predictions.val[:, column],
                threshold,
                predictions.reference_val[:, column],
            )
            there = predictions.reference_test[:, column]
            reference = purpose_figures(truth, there, patients, threshold=max(0.0, matched), **how)
            difference = sensitivity_difference(
                predictions.test[truth, column] > threshold,
                there[truth] > matched,
                patients[truth],
                predictions.confidence,
            )
        except UndefinedError:
            difference = None
    colour, sentence = purpose_verdict(purpose, figures, difference, predictions.reservations)
    return Answer(colour, sentence, figures, reference, difference)


def number_in_address(text: str | None, low: float, high: float, default: float) -> float:
    """Return a number that an address names, `default` where it names none or one outside [low, high]."""
    try:
        value = float(text) if text is not None else default
    except ValueError:
        return default
    return value if low <= value <= high else default
