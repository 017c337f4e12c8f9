"""Membership scores from shadow runs: LiRA and RMIA, for patients.

Threat model: the attacker holds a patient's images with their labels, knows how sets are distilled, and trains networks
on the released set. They have runs of the same procedure with and without the patient (shadows) to compare with.

The statistic of an image is phi = log p_y - log(1 - p_y), of a patient the mean over their images. Each run in
turn takes the place of the released set, and the rest are its shadows.

- `lira_scores`: log N(phi; in) - log N(phi; out), means by patient, variances shared by all patients below 64 shadows
  (Carlini et al. 2022, arXiv 2112.03570).
- `offline_scores`: (phi - mean_out) / sd_out, for patients in at most one shadow.
- `rmia_scores`: share of the non-members z with (p_r(x) / p(x)) / (p_r(z) / p(z)) >= 1 (Zarifzadeh et al. 2024,
  arXiv 2312.03262).

Cost: none beside the shadow runs. Failure modes: few shadows make weak scores, and a weak attack is no evidence of
    safety; a shadow is trained on half of the patients, so the procedure is audited at half its size; averages hide
    outliers, which is why canaries are reported separately.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medidistill.errors import ConfigError
from medidistill.privacy.attacks.attack import AttackInfo
from medidistill.statistics import BoolArray, FloatArray

__all__ = [
    "CANARIES",
    "LIRA",
    "OF_RELEASE",
    "RMIA",
    "by_patient",
    "equally_many",
    "lira_scores",
    "offline_scores",
    "phi",
    "rmia_scores",
]

_OWN_VARIANCE = 64  # from this many shadows on, each patient's variance is estimated separately
_SMALLEST = 1e-6


def phi(log_probabilities: FloatArray, labels: npt.NDArray[np.int64]) -> FloatArray:
    """Return log p_y - log(1 - p_y) for (..., N, K) log-probabilities and (N,) labels; shape (..., N)."""
    picked = np.take_along_axis(
        log_probabilities, np.broadcast_to(labels, log_probabilities.shape[:-1])[..., None], axis=-1
    )
    rest = log_probabilities.copy()
    np.put_along_axis(rest, np.broadcast_to(labels, log_probabilities.shape[:-1])[..., None], -np.inf, axis=-1)
    top = rest.max(axis=-1, keepdims=True)
    others = top[..., 0] + np.log(np.exp(rest - top).sum(axis=-1))
    result: FloatArray = picked[..., 0] - others
    return result


def by_patient(values: FloatArray, patient: npt.NDArray[np.int64]) -> FloatArray:
    """Return the mean of (R, N) values over each patient's images, (R, P)."""
    counts = np.bincount(patient)
    return np.stack([np.bincount(patient, row) / counts for row in values])


def _moments(values: FloatArray, chosen: BoolArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Return mean, variance and count of each patient over the chosen runs, each (P,), of (R, P) values."""
    count = chosen.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (values * chosen).sum(axis=0) / count
        variance = ((values - mean) ** 2 * chosen).sum(axis=0) / (count - 1)
    return mean, np.maximum(variance, _SMALLEST), count


def equally_many(chosen: BoolArray, counts: npt.NDArray[np.int64], draws: np.random.Generator) -> BoolArray:
    """Return `counts` of the chosen runs of each patient, at random; (R, P) and (P,)."""
    order = np.where(chosen, draws.random(chosen.shape), np.inf)
    ranks = order.argsort(axis=0).argsort(axis=0)
    kept: BoolArray = chosen & (ranks < counts)
    return kept


def _pooled(variance: FloatArray, count: npt.NDArray[np.int64], runs: int) -> FloatArray:
    """Return each patient's variance, or below 64 runs the mean over patients, weighted by degrees of freedom."""
    if runs >= _OWN_VARIANCE:
        return variance
    freedom = np.maximum(count - 1, 0)
    usable = np.where(freedom > 0, variance, 0.0)
    shared: FloatArray = (usable * freedom).sum() / freedom.sum()
    return np.broadcast_to(np.maximum(shared, _SMALLEST), variance.shape)


def lira_scores(values: FloatArray, members: BoolArray) -> FloatArray:
    """Return the log-likelihood ratio of every patient in every run, (R, P).

    Args:
        values: (R, P) statistic of each patient in each run.
        members: (R, P) whether the patient was in.

    Raises:
        ConfigError: a patient is in, or out of, fewer than two of the other runs.
    """
    result, draws = np.zeros_like(values), np.random.default_rng(0)
    for row, own in enumerate(values):
        others = np.arange(len(values)) != row
        inside, outside = members & others[:, None], ~members & others[:, None]
        # the row's own run is left out of one side: as many are taken of the other, or its mean would be the surer one
        # and tell on which side the run was
        counts = np.minimum(inside.sum(axis=0), outside.sum(axis=0))
        if counts.min() < 2:
            raise ConfigError(
                "LiRA needs every patient in, and out of, two or more of the other shadows; run more shadows"
            )
        for side, sign in ((inside, 1.0), (outside, -1.0)):
            mean, variance, count = _moments(values, equally_many(side, counts, draws))
            spread = _pooled(variance, count, len(values))
            result[row] += sign * (-0.5 * np.log(spread) - (own - mean) ** 2 / (2 * spread))
    return result


def offline_scores(values: FloatArray, outside: FloatArray, out: BoolArray) -> FloatArray:
    """Return the z score of (P,) values against runs without the patient: (value - mean) / pooled sd.

    Args:
        values: (P,) statistic at the attacked run.
        outside: (R, P) the same at the shadows.
        out: (R, P) whether the patient was out of the shadow.

    Raises:
        ConfigError: a patient is out of fewer than two shadows.
    """
    count = out.sum(axis=0)
    if count.min() < 2:
        raise ConfigError("the attack needs every patient out of at least two shadows; run more shadows")
    mean = (outside * out).sum(axis=0) / count
    squares = ((outside - mean) ** 2 * out).sum(axis=0)
    variance = squares.sum() / (count - 1).sum() if len(outside) < _OWN_VARIANCE else squares / (count - 1)
    result: FloatArray = (values - mean) / np.sqrt(np.maximum(variance, _SMALLEST))
    return result


def rmia_scores(values: FloatArray, members: BoolArray) -> FloatArray:
    """Return the share of the run's non-members that each patient dominates, (R, P), from phi values (R, P)."""
    probability = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    reference = (probability.sum(axis=0) - probability) / (len(values) - 1)
    ratio = probability / np.maximum(reference, 1e-12)
    scores = np.empty_like(values)
    for row, (own, inside) in enumerate(zip(ratio, members, strict=True)):
        pool = np.sort(own[~inside])
        # a patient is not compared with themselves
        scores[row] = (np.searchsorted(pool, own, side="right") - ~inside) / max(1, len(pool) - 1)
    return scores


OF_RELEASE = AttackInfo(
    "membership_release",
    "Membership, this set",
    "holds a patient's X-rays and asks whether they were among those it was made from",
    "one set only; the shadow runs it is compared with use half of the patients",
    "singling out",
    "Networks trained on a set that memorised a patient would be more confident on their X-rays.",
    short="membership, this set",
)
LIRA = AttackInfo(
    "lira",
    "Membership, the procedure (LiRA)",
    "the same, over repeated runs of the procedure",
    "an average over patients; unusual patients are at higher risk",
    "singling out",
    "The same question for the procedure, over repeated runs that each leave out half of the patients.",
    short="LiRA, procedure",
    score=lira_scores,
)
RMIA = AttackInfo(
    "rmia",
    "Membership, the procedure (RMIA)",
    "the same with another statistic",
    "as above",
    "singling out",
    "The same with a different test statistic, since no single attack is the strongest.",
    short="RMIA, procedure",
    score=rmia_scores,
)
CANARIES = AttackInfo(
    "canaries",
    "Planted canaries",
    "the same for synthetic outlier patients, who are easier to find",
    "random patterns are one kind of outlier; others may be easier to find",
    "singling out",
    "Unusual patients are at higher risk than the average; planted outliers show how much higher.",
)
