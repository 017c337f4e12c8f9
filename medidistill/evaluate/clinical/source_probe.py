"""Can the source of an image be told from it, and how far does knowing the source alone go?

Public collections mix hospitals, and a model may learn the hospital instead of the disease. Two figures show the danger
before any network is trained:

* `site`: balanced accuracy of a logistic regression that predicts the *site* from tiny images. Near 1 / sites: it
  cannot be told. Near 1: anything that differs between sites can pass for disease.
* `label_from_site`: balanced accuracy over the *labels* of a rule that knows nothing but the site. Above 1 / K: part
  of every model's score may be the source. A diagnostic model worth its name must stand clearly above it.

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
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.checks import UndefinedError, marked
from medidistill.evaluate.intervals import Interval, percentile_interval, resample_patients
from medidistill.evaluate.weighted import weighted_rates

__all__ = ["ProbeData", "label_from_site", "shrink", "site_probe", "source_probe"]

FloatArray = npt.NDArray[np.float64]
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
    truth: npt.NDArray[np.int64], called: npt.NDArray[np.int64], classes: int, test: ProbeData, **how: Any
) -> Interval:
    resamples = resample_patients(test.patient_ids, truth, classes, how["bootstrap"], how["seed"])
    guess = np.eye(classes)[called]
    draws = weighted_rates(truth, guess, resamples.weights(slice(None)))[0].mean(axis=1)
    point = weighted_rates(truth, guess, np.ones((1, len(truth))))[0].mean()
    if np.ptp(draws) == 0:
        raise UndefinedError(f"balanced accuracy {point:.3f} on every resample: no limits", float(point))
    return percentile_interval(float(point), draws, how["confidence"])


def site_probe(
    train: ProbeData, test: ProbeData, *, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Fit the probe on `train` and score it on `test`.

    Returns:
        `{"sites": names, "chance": 1 / sites, "balanced_accuracy": interval}`, the interval over patients.

    Raises:
        UndefinedError: fewer than two sites with ten images in both splits.
    """
    train, test, names = _common(train, test)
    truth = np.searchsorted(names, np.asarray(test.sites))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300, class_weight="balanced"))
    with warnings.catch_warnings():
        # a probe that has not quite converged is a lower bound, which is all that it ever is
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(shrink(train.images), np.searchsorted(names, np.asarray(train.sites)))
    called = model.predict(shrink(test.images))
    how: dict[str, Any] = {"bootstrap": bootstrap, "confidence": confidence, "seed": seed}
    return {
        "sites": names,
        "chance": 1 / len(names),
        "balanced_accuracy": marked(lambda: _scored(truth, called, len(names), test, **how)),
    }


def label_from_site(
    train: ProbeData, test: ProbeData, *, bootstrap: int = 1000, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """Call every image by the label that its site holds most of, relative to the label's frequency in training.

    Returns:
        `{"chance": 1 / labels, "balanced_accuracy": interval}`.

    Raises:
        UndefinedError: fewer than two common sites, or one label among them.
    """
    train, test, names = _common(train, test)
    labels = np.unique(train.labels)
    if len(labels) < 2 or not np.array_equal(np.unique(test.labels), labels):
        raise UndefinedError(
            f"the common sites hold {len(labels)} labels in training: a baseline needs two, in both splits"
        )
    place = np.searchsorted(names, np.asarray(train.sites))
    counts = np.zeros((len(names), len(labels)))
    np.add.at(counts, (place, np.searchsorted(labels, train.labels)), 1)
    rule = (counts / counts.sum(axis=0)).argmax(axis=1)
    truth = np.searchsorted(labels, test.labels)
    called = rule[np.searchsorted(names, np.asarray(test.sites))]
    how: dict[str, Any] = {"bootstrap": bootstrap, "confidence": confidence, "seed": seed}
    return {
        "chance": 1 / len(labels),
        "balanced_accuracy": marked(lambda: _scored(truth, called, len(labels), test, **how)),
    }


def source_probe(
    train: ProbeData,
    test: ProbeData,
    class_names: Sequence[str],
    *,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Return `{"site", "within_class": {class: site probe}, "label_from_site"}`, undefined parts marked."""
    how: dict[str, Any] = {"bootstrap": bootstrap, "confidence": confidence, "seed": seed}

    def within(k: int) -> dict[str, Any]:
        return site_probe(train.select(train.labels == k), test.select(test.labels == k), **how)

    return {
        "site": marked(lambda: site_probe(train, test, **how)),
        "within_class": {name: marked(partial(within, k)) for k, name in enumerate(class_names)},
        "label_from_site": marked(lambda: label_from_site(train, test, **how)),
    }
