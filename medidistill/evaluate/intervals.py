"""Confidence intervals whose unit is the patient, and the network or seed that happened to be trained.

Images of one patient resemble each other, so patients are drawn, each with all of its images. A figure of an arm
is the mean over its networks (or over its seeds, where the whole chain was repeated), so these are drawn too. The two
draws are independent and crossed: the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of
Applied Statistics 1). Its variance is not too small; it counts the interaction of patients and networks, a term of
lower order, up to three times.

What an interval covers: other patients from the same hospitals, and other initial weights and batches (or seeds).
What it does not: another training set, another hospital, the choice of a method after looking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.seeding import derive_seed
from medidistill.statistics import FloatArray, Interval, patient_codes

__all__ = [
    "Interval",
    "PatientResamples",
    "paired_t_interval",
    "percentile_interval",
    "resample_patients",
    "resample_units",
]

_MAX_ROUNDS = 100
_BLOCK = 4_000_000  # image weights held at once, 32 MB


@dataclass(frozen=True)
class PatientResamples:
    """B draws of as many patients as there are, with replacement.

    Args:
        counts: (B, P) how often each patient was drawn.
        patient: (N,) the patient of each image, as an index into the columns of `counts`.
        redrawn: draws that lacked a class and were thrown away for another one.
    """

    counts: npt.NDArray[np.int64]
    patient: npt.NDArray[np.int64]
    redrawn: int

    def weights(self, rows: slice) -> FloatArray:
        """Return how often each image is in the resamples `rows`, (rows, N)."""
        weights: FloatArray = self.counts[rows][:, self.patient].astype(np.float64)
        return weights

    def over(self, compute: Callable[[FloatArray], FloatArray]) -> FloatArray:
        """Return `compute` of the image weights (rows, N) of all resamples, (B, ...), a block of them at a time."""
        step = max(1, _BLOCK // len(self.patient))
        return np.concatenate([compute(self.weights(slice(at, at + step))) for at in range(0, len(self.counts), step)])


def resample_patients(
    patient_ids: Sequence[str], labels: npt.NDArray[np.int64], num_classes: int, resamples: int, seed: int
) -> PatientResamples:
    """Draw patients with replacement, each with all of its images; redraw what lacks a class.

    Args:
        patient_ids: N identifiers.
        labels: (N,) class of each image.
        num_classes: K; every class must have an image.
        resamples: B, >= 1.
        seed: decides the draws.

    Raises:
        ConfigError: counts differ, or a class sits in so few patients that hardly any draw holds it.
    """
    if len(patient_ids) != len(labels) or resamples < 1:
        raise ConfigError(
            f"{len(patient_ids)} patient identifiers for {len(labels)} images, {resamples} resamples: "
            "give one identifier an image and at least one resample"
        )
    patient = patient_codes(patient_ids)
    patients = int(patient.max()) + 1
    holds = np.zeros((patients, num_classes), dtype=np.int64)
    np.add.at(holds, (patient, labels), 1)
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", "patients"))
    counts = np.zeros((resamples, patients), dtype=np.int64)
    lacking, redrawn = np.arange(resamples), 0
    for _ in range(_MAX_ROUNDS):
        counts[lacking] = rng.multinomial(patients, np.full(patients, 1 / patients), size=len(lacking))
        lacking = lacking[((counts[lacking] @ holds) == 0).any(axis=1)]
        if lacking.size == 0:
            return PatientResamples(counts, patient, redrawn)
        redrawn += lacking.size
    fewest = int((holds > 0).sum(axis=0).argmin())
    raise ConfigError(
        f"class {fewest} has {int((holds[:, fewest] > 0).sum())} of {patients} patients: "
        "too few for bootstrap intervals over patients"
    )


def resample_units(units: int, resamples: int, seed: int, *names: str | int) -> FloatArray:
    """Draw networks or seeds with replacement; return the share of each in each draw, (B, units).

    Units are few, and a draw of n of n would understate their variance by (n - 1) / n. Drawing n - 1 of n makes it
    right (Rao and Wu 1988, "Resampling inference with complex survey data", JASA 83). One unit is kept as it is.
    """
    if units == 1:
        return np.ones((resamples, 1))
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", "units", *names))
    shares: FloatArray = rng.multinomial(units - 1, np.full(units, 1 / units), size=resamples) / (units - 1)
    return shares


def percentile_interval(estimate: float, draws: npt.ArrayLike, confidence: float) -> Interval:
    """Return the percentile bootstrap interval of finite `draws` (B,) around `estimate`."""
    values = np.asarray(draws, dtype=np.float64)
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: must be in (0, 1)")
    if values.size == 0 or not np.isfinite(values).all():
        raise ConfigError(f"{int((~np.isfinite(values)).sum())} of {values.size} bootstrap values are not finite")
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high))


def paired_t_interval(differences: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return mean +- t_{n-1} sd / sqrt(n) of paired differences over networks or seeds.

    Covers the variance of training (over seeds) on these test patients; the bootstrap covers the patients too.

    Args:
        differences: (n,) finite numbers, n >= 2.
        confidence: in (0, 1).

    Raises:
        ConfigError: fewer than two differences, or one that is not finite.
    """
    from scipy import stats

    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or d.size < 2 or not np.isfinite(d).all() or not 0 < confidence < 1:
        raise ConfigError(
            f"{d.size} differences, confidence={confidence}: needs >= 2 finite ones and a level in (0, 1)"
        )
    half = float(stats.t.ppf(0.5 + confidence / 2, d.size - 1)) * float(d.std(ddof=1)) / d.size**0.5
    mean = float(d.mean())
    return Interval(mean, mean - half, mean + half)
