"""The criteria of the verdict: differences of the distilled set from all real images and from controls.

Every figure is that of `medidistill.evaluate.comparison`: the mean over single networks (or over seeds), patients and
networks drawn, the same draws for all arms. Sensitivity is that at the threshold at which the very network reaches the
target specificity on the validation images; the test split chooses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError
from medidistill.evaluate.clinical.operating_point import threshold_at_specificity
from medidistill.evaluate.intervals import percentile_interval, resample_patients
from medidistill.evaluate.protocol import ArmRun
from medidistill.evaluate.resampled import Columns, Group, measure
from medidistill.evaluate.weighted import weighted_aurocs, weighted_rates
from medidistill.results.verdict import REFERENCE, Criterion, Measure, Question
from medidistill.statistics import FloatArray
from medidistill.words import arm_words

__all__ = ["CONTROLS", "VerdictData", "VerdictSettings", "criteria_by_method", "patients_per_class"]

CONTROLS = ("packed", "random", "kmeans", "herding")
_MACRO = {Measure.BALANCED_ACCURACY: 0, Measure.AUROC: 1, Measure.SENSITIVITY: 2}


@dataclass(frozen=True)
class VerdictSettings:
    """What is asked, decided before the test split is opened.

    Args:
        margin_auroc: how much macro AUROC may be lost.
        margin_balanced_accuracy: how much balanced accuracy may be lost.
        margin_sensitivity: how much sensitivity may be lost, on average and for each class.
        target_specificity: that thresholds reach on validation.
        confidence: level of the intervals.
        bootstrap: draws.
        seed: decides the draws.
    """

    margin_auroc: float = 0.05
    margin_balanced_accuracy: float = 0.05
    margin_sensitivity: float = 0.1
    target_specificity: float = 0.9
    confidence: float = 0.95
    bootstrap: int = 1000
    seed: int = 0

    def margin(self, measure: Measure) -> float:
        """Return the margin of non-inferiority of one measure."""
        return float(getattr(self, f"margin_{measure.value}"))


@dataclass(frozen=True)
class VerdictData:
    """What the arms were scored on.

    Args:
        labels: (N,) integers in 0..K-1 of the test images.
        val_labels: (N_val,) of the validation images, on which thresholds are chosen.
        patient_ids: N identifiers; they do not enter the result.
        class_names: K names.
        images_per_class: of the distilled set, for the words.
    """

    labels: npt.NDArray[np.int64]
    val_labels: npt.NDArray[np.int64]
    patient_ids: Sequence[str]
    class_names: tuple[str, ...]
    images_per_class: int


def patients_per_class(data: VerdictData) -> dict[str, int]:
    """Return class -> number of test patients with an image of it."""
    names = np.asarray(data.patient_ids, dtype=str)
    return {name: len(np.unique(names[data.labels == k])) for k, name in enumerate(data.class_names)}


def criteria_by_method(
    runs: Sequence[ArmRun], methods: Sequence[str], data: VerdictData, settings: VerdictSettings
) -> dict[str, tuple[Criterion, ...]]:
    """Return the criteria of each method's set, whichever of them is delivered.

    Args:
        runs: of one architecture, with test probabilities; several seeds of an arm are taken together.
        methods: arms that are distilled sets.
        data: labels and patients of the test images.
        settings: margins and levels.

    Raises:
        ConfigError: runs of several architectures, a method without a run, or probabilities that do not fit.
    """
    arms: dict[str, list[ArmRun]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    if len({run.architecture for run in runs}) > 1 or not set(methods) <= arms.keys():
        raise ConfigError(
            f"verdict on {', '.join(methods)}: needs runs of one architecture for each of them, found arms "
            f"{', '.join(arms)} with {', '.join(sorted({run.architecture for run in runs}))}"
        )
    resamples = resample_patients(
        data.patient_ids, data.labels, len(data.class_names), settings.bootstrap, settings.seed
    )
    wanted = [arm for arm in (*methods, REFERENCE, *CONTROLS) if arm in arms]
    columns = _columns(data, settings)
    groups = {arm: measure(arms[arm], columns, resamples, settings.seed) for arm in dict.fromkeys(wanted)}
    return {method: tuple(_criteria(groups, method, data, settings)) for method in methods}


def _columns(data: VerdictData, settings: VerdictSettings) -> Columns:
    """Return what is measured: balanced accuracy, macro AUROC, mean sensitivity at the threshold, K sensitivities."""

    def of_network(run: ArmRun, place: int) -> Callable[[FloatArray], FloatArray]:
        assert run.test_probabilities is not None
        probabilities = run.test_probabilities[place].astype(np.float64)
        thresholds = _thresholds(run, place, data, settings.target_specificity)
        called, undefined = probabilities > thresholds, np.isnan(thresholds)
        truth = data.labels[:, None] == np.arange(len(data.class_names))

        def columns(weights: FloatArray) -> FloatArray:
            sensitivity = (weights @ (truth & called)) / (weights @ truth)
            sensitivity[:, undefined] = np.nan
            recall = weighted_rates(data.labels, probabilities, weights)[0]
            areas = weighted_aurocs(data.labels, probabilities, weights)
            means = [part.mean(axis=1, keepdims=True) for part in (recall, areas, sensitivity)]
            return np.concatenate([*means, sensitivity], axis=1)

        return columns

    return of_network


def _thresholds(run: ArmRun, place: int, data: VerdictData, target: float) -> FloatArray:
    """Return (K,) thresholds of one network, NaN where validation does not resolve the target."""
    found = np.full(len(data.class_names), np.nan)
    if run.val_probabilities is None:
        return found
    scores = run.val_probabilities[place].astype(np.float64)
    for k in range(len(found)):
        try:
            found[k] = threshold_at_specificity(data.val_labels == k, scores[:, k], target)
        except UndefinedError:
            continue
    return found


def _criteria(groups: dict[str, Group], method: str, data: VerdictData, settings: VerdictSettings) -> list[Criterion]:
    patients = patients_per_class(data)
    everybody = len(set(data.patient_ids))

    def made(question: Question, against: str, measure: Measure, column: int, finding: str = "") -> Criterion:
        margin = settings.margin(measure) if question is Question.NON_INFERIOR else 0.0
        counted = patients[finding] if finding else everybody
        one, other = groups[method], groups[against]
        estimate, reference = (float(group.units[:, column].mean()) for group in (one, other))
        if not np.isfinite([estimate, reference]).all():
            why = _no_threshold(data, settings.target_specificity)
            return Criterion(question, against, measure, margin, counted, finding, undefined=why)
        draws = one.draws[:, column] - other.draws[:, column]
        if np.ptp(draws) == 0:
            why = (
                f"an interval for {_named(measure, finding)} against {arm_words(against, data.images_per_class)} (the "
                f"difference is {estimate - reference:+.3f} on every draw of patients)"
            )
            return Criterion(question, against, measure, margin, counted, finding, estimate, reference, None, why)
        interval = percentile_interval(estimate - reference, draws, settings.confidence)
        return Criterion(question, against, measure, margin, counted, finding, estimate, reference, interval)

    found = []
    if REFERENCE in groups:
        found += [made(Question.NON_INFERIOR, REFERENCE, one, column) for one, column in _MACRO.items()]
        found += [
            made(Question.NON_INFERIOR, REFERENCE, Measure.SENSITIVITY, 3 + k, name)
            for k, name in enumerate(data.class_names)
        ]
    for control in CONTROLS:
        if control in groups:
            found += [made(Question.SUPERIOR, control, one, column) for one, column in _MACRO.items()]
    return found


def _named(measure: Measure, finding: str) -> str:
    name = {Measure.AUROC: "AUROC"}.get(measure, measure.value.replace("_", " "))
    return f"{name} for {finding}" if finding else name


def _no_threshold(data: VerdictData, target: float) -> str:
    needed = int(np.ceil(1 / (1 - target) - 1e-9))
    fewest = min(int((data.val_labels != k).sum()) for k in range(len(data.class_names)))
    why = (
        f"needs {needed} validation images outside each class, found {fewest}"
        if fewest < needed
        else "no validation probabilities were kept, or a class has no validation image"
    )
    return f"a threshold of {100 * target:g} % specificity, chosen on validation ({why})"
