"""The clinical comparison: every figure of this package for every arm, and each arm against the reference.

`medidistill.evaluate.compare` answers "what is a method worth, whatever network it happens to train": it averages over
single networks and draws them. This answers "what is this model worth for patients": the networks of an arm are
averaged into one model (mean probability), taken as given, and only the patients are uncertain. An average of
networks is better than one of them, so figures here lie a little above those of `compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError, did_you_mean
from medidistill.evaluate.clinical.arms import Model, ScoredSplit, arm_figures
from medidistill.evaluate.clinical.checks import as_patients, or_undefined
from medidistill.evaluate.clinical.delong import auroc_difference, macro_auroc_difference
from medidistill.evaluate.clinical.mcnemar import mcnemar
from medidistill.evaluate.clinical.noninferiority import noninferiority
from medidistill.evaluate.clinical.source_probe import ProbeData, source_probe
from medidistill.evaluate.clinical.subgroups import subgroup_tables
from medidistill.evaluate.intervals import resample_patients
from medidistill.evaluate.metrics import check_scorable
from medidistill.evaluate.protocol import ArmRun
from medidistill.results.clinical import (
    ArmDifference,
    ClinicalComparison,
    ClinicalSettings,
    JudgedDifference,
    PairedDifference,
    ScoredImages,
)

__all__ = ["clinical_comparison", "mean_probabilities"]


def clinical_comparison(
    runs: Sequence[ArmRun],
    test_labels: npt.ArrayLike,
    patient_ids: Sequence[str],
    class_names: Sequence[str],
    *,
    settings: ClinicalSettings | None = None,
    val_labels: npt.ArrayLike | None = None,
    subgroups: Mapping[str, Sequence[Any]] | None = None,
    probe: tuple[ProbeData, ProbeData] | None = None,
) -> ClinicalComparison:
    """Return every clinical figure of every arm.

    Args:
        runs: results with test probabilities; several seeds of an arm are averaged into its one model.
        test_labels: (N,) integers in 0..K-1, every class present.
        patient_ids: N identifiers; they do not enter the result.
        class_names: K names.
        settings: margin, target specificity, levels and minima; defaults where None.
        val_labels: (N_val,) labels of the validation split, for thresholds; None leaves operating points undefined.
        subgroups: column -> N values, for example `sex`, `age` (see `age_bands`), `site`.
        probe: training and test images with their sites, for the source probe.

    Raises:
        ConfigError: no runs, unknown reference, shapes that do not fit, a class without an image.
    """
    settings = settings or ClinicalSettings()
    noninferiority(0.0, 0.0, settings.margin)  # refuse a wrong margin before minutes of work
    labels = np.asarray(test_labels)
    validation = None if val_labels is None else np.asarray(val_labels).astype(np.int64)
    models = _models(runs, labels, class_names, validation)
    arms = [model.arm for model in models]
    if settings.reference not in arms:
        raise ConfigError(
            f"reference={settings.reference!r}: is not among the arms {', '.join(dict.fromkeys(arms))}"
            f"{did_you_mean(settings.reference, arms)}"
        )
    labels = labels.astype(np.int64)
    patients = as_patients(patient_ids, len(labels))
    split = ScoredSplit(
        labels=labels,
        patients=patients.tolist(),
        class_names=tuple(class_names),
        resamples=resample_patients(patient_ids, labels, len(class_names), settings.bootstrap, settings.seed),
        val_labels=validation,
    )
    several = len({model.architecture for model in models}) > 1
    shown = {f"{m.arm}, {m.architecture}" if several else m.arm: m.test for m in models}
    return ClinicalComparison(
        settings=settings,
        class_names=tuple(class_names),
        test=ScoredImages(
            images=len(labels),
            patients=int(patients.max()) + 1,
            images_per_class=dict(zip(class_names, np.bincount(labels).tolist(), strict=True)),
        ),
        arms=tuple(arm_figures(model, split, settings) for model in models),
        differences=tuple(_differences(models, split, settings)),
        subgroups=subgroup_tables(
            labels,
            shown,
            patient_ids,
            subgroups or {},
            class_names,
            min_patients=settings.min_patients,
            min_positives=settings.min_positives,
            confidence=settings.confidence,
        ),
        source_probe=None
        if probe is None
        else source_probe(
            *probe,
            class_names,
            bootstrap=settings.bootstrap,
            confidence=settings.confidence,
            seed=settings.seed,
        ),
        notes=tuple(_notes(models, split)),
    )


def _models(
    runs: Sequence[ArmRun],
    labels: npt.NDArray[Any],
    class_names: Sequence[str],
    val_labels: npt.NDArray[np.int64] | None,
) -> list[Model]:
    """Average the networks of each arm and architecture, in the order of `runs`."""
    if not runs:
        raise ConfigError("no runs to compare; evaluate at least one arm")
    grouped: dict[tuple[str, str], list[ArmRun]] = {}
    for run in runs:
        grouped.setdefault((run.architecture, run.arm), []).append(run)
    models = []
    for (architecture, arm), group in grouped.items():
        where = f"arm {arm}, {architecture}"
        if len({run.seed for run in group}) < len(group):
            raise ConfigError(f"{where}: a seed is given twice")
        test = mean_probabilities([run.test_probabilities for run in group])
        if test is None:
            raise ConfigError(f"{where}: has no test probabilities; evaluate it with the test images")
        if test.ndim != 2 or test.shape[1] != len(class_names):
            raise ConfigError(f"{where}: test probabilities {test.shape}, must be ({len(labels)}, {len(class_names)})")
        check_scorable(labels, test, class_names)
        val = mean_probabilities([run.val_probabilities for run in group])
        if val is not None and val_labels is not None:
            check_scorable(val_labels, val, class_names)
        models.append(
            Model(
                arm=arm,
                architecture=architecture,
                networks=sum(len(run.val_balanced_accuracy) for run in group),
                seeds=tuple(run.seed for run in group),
                training_images=group[0].training_images,
                test=test,
                val=val,
            )
        )
    return models


def mean_probabilities(parts: Sequence[npt.NDArray[np.float32] | None]) -> npt.NDArray[np.float64] | None:
    """Return the mean over all networks of (networks, N, K) arrays, rows adding up to 1; None where one is missing."""
    present = [np.asarray(part, dtype=np.float64) for part in parts if part is not None]
    if len(present) < len(parts):
        return None
    if len({part.shape[1:] for part in present}) > 1:
        raise ConfigError(f"probabilities of {[part.shape for part in present]}: seeds of an arm must share images")
    mean: npt.NDArray[np.float64] = np.concatenate(present).mean(axis=0)
    total = mean.sum(axis=-1, keepdims=True)
    np.divide(mean, total, out=mean, where=np.abs(total - 1) < 1e-3)
    return mean


def _differences(models: Sequence[Model], split: ScoredSplit, settings: ClinicalSettings) -> list[ArmDifference]:
    """Return each arm minus the reference of the same architecture."""
    found = []
    level, who, truth = settings.confidence, split.patients, split.labels
    references = {model.architecture: model for model in models if model.arm == settings.reference}
    for model in models:
        minus = references.get(model.architecture)
        if minus is None or model is minus:
            continue
        right, right_there = (one.test.argmax(axis=1) == truth for one in (model, minus))
        macro = partial(macro_auroc_difference, truth, model.test, minus.test, who, confidence=level)
        by_class = {
            name: partial(auroc_difference, truth == k, model.test[:, k], minus.test[:, k], who, confidence=level)
            for k, name in enumerate(split.class_names)
        }
        found.append(
            ArmDifference(
                arm=model.arm,
                minus=minus.arm,
                architecture=model.architecture,
                macro=or_undefined(partial(_judged, macro, settings.margin)),
                classes={name: or_undefined(partial(_judged, one, settings.margin)) for name, one in by_class.items()},
                mcnemar=or_undefined(partial(mcnemar, right, right_there)),
            )
        )
    return found


def _judged(differ: Callable[[], PairedDifference], margin: float) -> JudgedDifference:
    """Return a difference of AUROCs with its verdict."""
    gap = differ()
    return JudgedDifference(**vars(gap), verdict=noninferiority(gap.low, gap.high, margin).outcome)


def _notes(models: Sequence[Model], split: ScoredSplit) -> list[str]:
    notes = []
    people, images = len(set(split.patients)), len(split.labels)
    if people < images:
        notes.append(
            f"{images} test images of {people} patients: limits of AUROC, proportions over patients, slopes and net "
            "benefit count patients. McNemar's test, Clopper-Pearson limits, calibration bins and the reference value "
            "of the calibration error take images as independent, and are too sure of themselves here."
        )
    patients = np.asarray(split.patients)
    for k, name in enumerate(split.class_names):
        count = len(np.unique(patients[split.labels == k]))
        if count < 30:
            notes.append(f"Class {name} has {count} test patients: no interval for it is to be relied on below 30.")
    if any(model.networks > 1 for model in models):
        notes.append("Each arm is the mean probability of its networks, taken as one given model.")
    if any(model.val is None for model in models) or split.val_labels is None:
        notes.append(
            "Without validation probabilities there are no thresholds, so no sensitivity at fixed specificity."
        )
    return notes
