"""Can the source of an image be told from it, and how far does knowing the source alone go?

Public collections mix hospitals, and a model may learn the hospital instead of the disease. Two figures show the danger
before any network is trained:

* `site`: balanced accuracy of a logistic regression that predicts the *site* from tiny images. Near 1 / sites: it
  cannot be told. Near 1: anything that differs between sites can pass for disease.
* `label_from_site`: balanced accuracy and AUROC over the *labels* of a rule that knows nothing but the site, over all
  sites, those of one class and images of unknown site included. Above 1 / K and 0.5: part of every model's score may
  be the source. A diagnostic model worth its name must stand clearly above it.

Sites differ in their mix of diseases, so a site may be told by the disease. `within_class` asks again among the
images of one label. A low figure does not clear the data: a larger model may see what a linear one cannot.

Source: Zech et al. 2018, PLOS Medicine 15; DeGrave, Janizek, Lee 2021, Nature Machine Intelligence 3.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, or_undefined
from medidistill.evaluate.clinical.proportions import clopper_pearson
from medidistill.evaluate.intervals import Interval, percentile_interval, resample_patients
from medidistill.evaluate.weighted import weighted_aurocs
from medidistill.results.clinical import LabelFromSite, SiteProbe, SourceProbe
from medidistill.statistics import FloatArray

__all__ = ["ProbeData", "label_from_site", "shrink", "site_probe", "source_probe"]

_SIZE = 16
_FEWEST = 10


@dataclass(frozen=True)
class ProbeData:
    """Images of one split for the probe.

    Args:
        images: (N, H, W) or (N, 1, H, W) floats.
        labels: (N,) integers in 0..K-1.
        sites: N names, empty where unknown.
        patient_ids: N identifiers.
    """

    images: npt.NDArray[np.floating[Any]]
    labels: npt.NDArray[np.integer[Any]]
    sites: Sequence[str]
    patient_ids: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.labels) == len(self.sites) == len(self.patient_ids):
            raise ConfigError(
                f"{len(self.images)} images, {len(self.labels)} labels, {len(self.sites)} sites, "
                f"{len(self.patient_ids)} patients: all counts must be equal"
            )

    def select(self, index: npt.NDArray[np.bool_]) -> ProbeData:
        """Return the images where `index` is true."""
        rows = np.flatnonzero(index).tolist()
        sites, patients = [self.sites[i] for i in rows], [self.patient_ids[i] for i in rows]
        return ProbeData(self.images[index], self.labels[index], sites, patients)


@dataclass(frozen=True)
class _Resampling:
    """How intervals are made: number of resamples, level, seed."""

    bootstrap: int
    confidence: float
    seed: int


def shrink(images: npt.NDArray[np.floating[Any]], size: int = _SIZE) -> FloatArray:
    """Return (N, size^2) block means of grey images; rows and columns that do not fill a block are cut off."""
    grey = np.asarray(images, dtype=np.float64)
    grey = grey.mean(axis=1) if grey.ndim == 4 else grey
    step = min(grey.shape[1:]) // size
    if grey.ndim != 3 or step < 1:
        raise ConfigError(f"images {images.shape}: must be (N, H, W) with H, W >= {size}")
    cut = grey[:, : size * step, : size * step].reshape(len(grey), size, step, size, step)
    means: FloatArray = cut.mean(axis=(2, 4)).reshape(len(grey), -1)
    return means


def _common(train: ProbeData, test: ProbeData) -> tuple[ProbeData, ProbeData, list[str]]:
    """Keep the sites that both splits hold often enough, unknown ones left out."""
    often = [
        name
        for name in sorted(set(train.sites) & set(test.sites))
        if name and min(list(split.sites).count(name) for split in (train, test)) >= _FEWEST
    ]
    if len(often) < 2:
        raise UndefinedError(f"{len(often)} sites with {_FEWEST} images in training and test: a probe needs two")
    return train.select(np.isin(train.sites, often)), test.select(np.isin(test.sites, often)), often


def _scored(
    truth: npt.NDArray[np.int64], called: npt.NDArray[np.int64], classes: int, test: ProbeData, how: _Resampling
) -> Interval:
    return _credited(truth, np.eye(classes)[called], test, how)


def _credited(truth: npt.NDArray[np.int64], credit: FloatArray, test: ProbeData, how: _Resampling) -> Interval:
    """Return the balanced accuracy of a rule that gives image i the share `credit[i, k]` of a vote for class k."""
    classes = credit.shape[1]
    right = credit[np.arange(len(truth)), truth]
    held = truth[:, None] == np.arange(classes)

    def balanced(weights: FloatArray) -> FloatArray:
        means: FloatArray = ((weights * right) @ held / (weights @ held)).mean(axis=1)
        return means

    resamples = resample_patients(test.patient_ids, truth, classes, how.bootstrap, how.seed)
    draws, point = balanced(resamples.weights(slice(None))), float(balanced(np.ones((1, len(truth))))[0])
    if np.ptp(draws) > 0:
        return percentile_interval(point, draws, how.confidence)
    if not np.isin(right, (0.0, 1.0)).all():
        raise UndefinedError(f"balanced accuracy {point:.3f} on every resample: the rule only guesses", point)
    return _exact(point, right > 0, held, test.patient_ids, how.confidence)


def _exact(
    point: float,
    right: npt.NDArray[np.bool_],
    held: npt.NDArray[np.bool_],
    patient_ids: Sequence[str],
    confidence: float,
) -> Interval:
    """Return limits where every image of a class is called alike, so that resamples do not vary.

    Each class has all or none of its n patients right: Clopper-Pearson at a level that holds for all classes at once
    (Bonferroni); the limits of the mean are the means of the limits.
    """
    names = np.asarray(patient_ids, dtype=str)
    limits = []
    for flags in held.T:
        patients = len(np.unique(names[flags]))
        hits = patients if right[flags].all() else 0
        limits.append(clopper_pearson(hits, patients, 1 - (1 - confidence) / held.shape[1]))
    return Interval(point, *(float(np.mean([getattr(one, side) for one in limits])) for side in ("low", "high")))


def site_probe(
    train: ProbeData, test: ProbeData, *, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> SiteProbe:
    """Fit the probe on `train` and score it on `test`.

    Raises:
        UndefinedError: fewer than two sites with ten images in both splits.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test, names = _common(train, test)
    truth = np.searchsorted(names, np.asarray(test.sites))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300, class_weight="balanced"))
    with warnings.catch_warnings():
        # a probe that has not quite converged is a lower bound, which is all that it ever is
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(shrink(train.images), np.searchsorted(names, np.asarray(train.sites)))
    called = model.predict(shrink(test.images))
    how = _Resampling(bootstrap, confidence, seed)
    return SiteProbe(
        sites=tuple(names),
        chance=1 / len(names),
        balanced_accuracy=or_undefined(lambda: _scored(truth, called, len(names), test, how)),
    )


def label_from_site(
    train: ProbeData, test: ProbeData, *, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> LabelFromSite:
    """Measure how well the site alone tells the label: a rule learned on training images, scored on test images.

    An image is called by the label that its site holds most of, relative to the label's frequency in training; labels
    that tie share the vote. The AUROC takes that share as the score. Every site counts, however few images it has and
    if all of them are of one class; images of unknown site are taken as one more site; at a site that training does
    not hold the rule guesses.

    Raises:
        UndefinedError: no site is known, there is one alone, or a split lacks a label of the other.
    """
    known = sorted(set(train.sites))
    labels = np.unique(train.labels)
    if len(known) < 2:
        raise UndefinedError(f"{len(known)} sites in training: a rule by site needs two")
    if len(labels) < 2 or not np.array_equal(np.unique(test.labels), labels):
        raise UndefinedError(f"{len(labels)} labels in training: a rule by site needs two, in both splits")
    counts = np.zeros((len(known), len(labels)))
    np.add.at(counts, (np.searchsorted(known, np.asarray(train.sites)), np.searchsorted(labels, train.labels)), 1)
    frequency = counts / counts.sum(axis=0)
    share = {name: row / row.sum() for name, row in zip(known, frequency, strict=True)}
    scores = np.stack([share.get(site, np.full(len(labels), 1 / len(labels))) for site in test.sites])
    best = np.isclose(scores, scores.max(axis=1, keepdims=True))
    truth = np.searchsorted(labels, test.labels)
    how = _Resampling(bootstrap, confidence, seed)
    return LabelFromSite(
        chance=1 / len(labels),
        balanced_accuracy=or_undefined(lambda: _credited(truth, best / best.sum(axis=1, keepdims=True), test, how)),
        macro_auroc=or_undefined(lambda: _macro_auroc(truth, scores, test, how)),
        sites=sum(bool(name) for name in known),
        one_class_sites=int(((counts > 0).sum(axis=1) == 1)[[bool(name) for name in known]].sum()),
        patients=len(set(test.patient_ids)),
    )


def _macro_auroc(truth: npt.NDArray[np.int64], scores: FloatArray, test: ProbeData, how: _Resampling) -> Interval:
    resamples = resample_patients(test.patient_ids, truth, scores.shape[1], how.bootstrap, how.seed)
    draws = weighted_aurocs(truth, scores, resamples.weights(slice(None))).mean(axis=1)
    point = float(weighted_aurocs(truth, scores, np.ones((1, len(truth)))).mean())
    if np.ptp(draws) == 0:
        raise UndefinedError(f"AUROC {point:.3f} on every resample: no limits", point)
    return percentile_interval(point, draws, how.confidence)


def source_probe(
    train: ProbeData,
    test: ProbeData,
    class_names: Sequence[str],
    *,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> SourceProbe:
    """Return the three parts, each `Undefined` where the data do not define it."""

    def within(k: int) -> SiteProbe:
        parts = train.select(train.labels == k), test.select(test.labels == k)
        return site_probe(*parts, bootstrap=bootstrap, confidence=confidence, seed=seed)

    return SourceProbe(
        site=or_undefined(
            lambda: site_probe(train, test, bootstrap=bootstrap, confidence=confidence, seed=seed),
        ),
        within_class={name: or_undefined(partial(within, k)) for k, name in enumerate(class_names)},
        label_from_site=or_undefined(
            lambda: label_from_site(train, test, bootstrap=bootstrap, confidence=confidence, seed=seed),
        ),
    )
