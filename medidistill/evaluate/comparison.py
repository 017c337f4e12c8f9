"""The comparison: what each arm is worth on the test split, and by how much the arms differ.

The estimate for an arm is the mean of the metric over its networks; where the chain was repeated with several seeds,
the mean over seeds of that. Intervals are those of `medidistill.evaluate.intervals`: patients and networks (or
seeds) are drawn, and every arm sees the same draws, so that a difference is the difference of two table
entries and its interval is paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.config import as_dict
from medidistill.errors import ConfigError
from medidistill.evaluate.intervals import paired_t_interval, percentile_interval, resample_patients
from medidistill.evaluate.metrics import check_scorable, confusion_matrix
from medidistill.evaluate.protocol import ArmRun
from medidistill.evaluate.resampled import Columns, Group, measure
from medidistill.evaluate.weighted import weighted_aurocs, weighted_rates
from medidistill.results.comparison import Comparison, Difference, Row
from medidistill.statistics import FloatArray

__all__ = ["Comparison", "compare"]

_REAL = ("full", "dp_full", "random", "packed", "kmeans", "herding")
_FEW_PATIENTS = 10
_METRICS = ("balanced_accuracy", "macro_auroc")


def compare(
    runs: Sequence[ArmRun],
    test_labels: npt.ArrayLike,
    patient_ids: Sequence[str],
    class_names: Sequence[str],
    *,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare arms on the test split.

    Args:
        runs: results with test probabilities; the same arm and architecture may come once a seed.
        test_labels: (N,) integers in 0..K-1.
        patient_ids: N identifiers of patients; they do not enter the result.
        class_names: K names.
        bootstrap: patient-level resamples.
        confidence: level of the intervals.
        seed: decides the resamples.

    Returns:
        Rows in the order of `runs`; differences `iadd` - `mtt`, every arm - `random`, and every arm that is not real
        images - `packed`, where these were run.

    Raises:
        ConfigError: nothing to compare, a run without test probabilities or twice, shapes that do not fit,
            a class without an image, probabilities that are not finite.
    """
    labels = np.asarray(test_labels)
    grouped = _grouped(runs, len(labels), len(class_names), class_names, labels)
    labels = labels.astype(np.int64)
    resamples = resample_patients(patient_ids, labels, len(class_names), bootstrap, seed)
    groups = {key: measure(group, _columns(labels), resamples, seed) for key, group in grouped.items()}
    differences = [
        difference
        for architecture in dict.fromkeys(architecture for architecture, _ in groups)
        for pair in _pairs([arm for where, arm in groups if where == architecture])
        for difference in _differences(groups, architecture, *pair, confidence)
    ]
    return Comparison(
        class_names=tuple(class_names),
        rows=tuple(_make_row(group, labels, len(class_names), confidence) for group in groups.values()),
        differences=tuple(differences),
        test_images=len(labels),
        test_patients=resamples.counts.shape[1],
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
        notes=_notes(groups, labels, patient_ids, class_names, resamples.redrawn),
    )


def _grouped(
    runs: Sequence[ArmRun], images: int, classes: int, class_names: Sequence[str], labels: npt.NDArray[Any]
) -> dict[tuple[str, str], list[ArmRun]]:
    """Check every run and collect the seeds of each (architecture, arm)."""
    if not runs:
        raise ConfigError("no runs to compare; evaluate at least one arm")
    grouped: dict[tuple[str, str], list[ArmRun]] = {}
    for run in runs:
        where = f"arm {run.arm}, {run.architecture}, seed {run.seed}"
        if run.test_probabilities is None:
            raise ConfigError(f"{where}: has no test probabilities; evaluate it with the test images")
        if run.test_probabilities.ndim != 3 or run.test_probabilities.shape[1:] != (images, classes):
            raise ConfigError(
                f"{where}: test probabilities {run.test_probabilities.shape}, must be (networks, {images}, {classes})"
            )
        for one in run.test_probabilities:
            check_scorable(labels, one, class_names)
        seen = grouped.setdefault((run.architecture, run.arm), [])
        if run.seed in [other.seed for other in seen]:
            raise ConfigError(f"{where}: given twice")
        packed = "factor" in run.info  # how densely it is packed was chosen on validation, seed by seed
        if seen and seen[0].training_images != run.training_images and not packed:
            raise ConfigError(f"{where}: {run.training_images} training images, {seen[0].training_images} elsewhere")
        seen.append(run)
    return grouped


def _columns(labels: npt.NDArray[np.int64]) -> Columns:
    """Return the metrics of a network: balanced accuracy, macro AUROC, K sensitivities, K specificities."""

    def of_network(run: ArmRun, place: int) -> Callable[[FloatArray], FloatArray]:
        assert run.test_probabilities is not None
        probabilities = run.test_probabilities[place].astype(np.float64)

        def columns(weights: FloatArray) -> FloatArray:
            sensitivity, specificity = weighted_rates(labels, probabilities, weights)
            areas = weighted_aurocs(labels, probabilities, weights)
            means = [sensitivity.mean(axis=1, keepdims=True), areas.mean(axis=1, keepdims=True)]
            return np.concatenate([*means, sensitivity, specificity], axis=1)

        return columns

    return of_network


def _make_row(group: Group, labels: npt.NDArray[np.int64], classes: int, confidence: float) -> Row:
    first = group.runs[0]
    confusion = sum(
        confusion_matrix(labels, one)
        for run in group.runs
        for one in (run.test_probabilities if run.test_probabilities is not None else ())
    )
    spread = group.per_network.std(axis=0, ddof=1) if len(group.per_network) > 1 else None
    intervals = [group.interval(column, confidence) for column in range(2 + 2 * classes)]
    return Row(
        arm=first.arm,
        architecture=first.architecture,
        training_images=max(run.training_images for run in group.runs),
        networks=len(group.per_network),
        seeds=tuple(run.seed for run in group.runs),
        unit=group.unit,
        balanced_accuracy=intervals[0],
        macro_auroc=intervals[1],
        sensitivity=tuple(intervals[2 : 2 + classes]),
        specificity=tuple(intervals[2 + classes :]),
        sd_balanced_accuracy=None if spread is None else float(spread[0]),
        sd_macro_auroc=None if spread is None else float(spread[1]),
        val_balanced_accuracy=float(np.mean([run.val_score for run in group.runs])),
        confusion=tuple(tuple(int(n) for n in line) for line in np.asarray(confusion)),
        chosen=tuple(as_dict(run.chosen) for run in group.runs),
        info=tuple(dict(run.info) for run in group.runs),
    )


def _pairs(arms: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [("iadd", "mtt")] if {"iadd", "mtt"} <= set(arms) else []
    pairs += [(arm, "random") for arm in arms if "random" in arms and arm != "random"]
    made = [arm for arm in arms if arm not in _REAL] if "packed" in arms else []
    return pairs + [(arm, "packed") for arm in made]


def _differences(
    groups: Mapping[tuple[str, str], Group], architecture: str, arm: str, minus: str, confidence: float
) -> list[Difference]:
    a, b = groups[architecture, arm], groups[architecture, minus]
    paired = (a.unit, a.unit_keys) == (b.unit, b.unit_keys)
    found = []
    for column, metric in enumerate(_METRICS):
        gap = float(a.units[:, column].mean() - b.units[:, column].mean())
        interval = percentile_interval(gap, a.draws[:, column] - b.draws[:, column], confidence)
        each = a.units[:, column] - b.units[:, column] if paired and len(a.units) > 1 else None
        over_units = None if each is None else paired_t_interval(each, confidence)
        found.append(
            Difference(arm, minus, architecture, metric, interval, over_units, a.unit if paired else "unpaired")
        )
    return found


def _notes(
    groups: Mapping[tuple[str, str], Group],
    labels: npt.NDArray[np.int64],
    patient_ids: Sequence[str],
    class_names: Sequence[str],
    redrawn: int,
) -> tuple[str, ...]:
    """Say what a reader of the intervals must know."""
    notes = []
    names = np.asarray(patient_ids, dtype=str)
    for k, name in enumerate(class_names):
        patients = len(set(names[labels == k]))
        if patients < _FEW_PATIENTS:
            notes.append(f"Class {name} has {patients} test patients: its intervals are too narrow to be trusted.")
    for (architecture, arm), group in groups.items():
        sizes = sorted({run.training_images for run in group.runs})
        if len(sizes) > 1:
            counted = ", ".join(map(str, sizes))
            notes.append(f"{arm}, {architecture}: {counted} training images, by the packing that validation chose.")
    if redrawn:
        notes.append(f"{redrawn} patient resamples lacked a class and were drawn again.")
    if any(len(group.units) == 1 for group in groups.values()):
        notes.append("Arms with one network: the interval covers the patients only, not the variance of training.")
    return tuple(notes)
