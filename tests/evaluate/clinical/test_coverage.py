"""Coverage of what the comparison reports, simulated as a whole: three classes, two images a patient, two models.

The fast test sees a method that is grossly wrong; the slow one holds every interval to 95 % +- 2 %.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from medidistill.evaluate.clinical.brier import brier_losses
from medidistill.evaluate.clinical.delong import macro_auroc_difference, macro_auroc_interval
from medidistill.evaluate.clinical.mcnemar import mcnemar
from medidistill.evaluate.clinical.noninferiority import noninferiority
from medidistill.evaluate.intervals import percentile_interval, resample_patients
from medidistill.evaluate.weighted import weighted_aurocs

PATIENTS, PER_PATIENT, RESAMPLES, MARGIN = 150, 2, 400, 0.05
SKILLS = (1.2, 0.9)


def draw(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return labels, patients, and the probabilities of both models; images of a patient are alike."""
    labels = np.repeat(rng.integers(0, 3, patients), PER_PATIENT)
    own = 0.7 * np.repeat(rng.normal(size=(patients, 3)), PER_PATIENT, axis=0)
    shared = own + 0.5 * rng.normal(size=(len(labels), 3))
    models = []
    for skill in SKILLS:
        z = skill * np.eye(3)[labels] + shared + 0.5 * rng.normal(size=shared.shape)
        models.append(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
    return labels, np.repeat(np.arange(patients), PER_PATIENT), models


@functools.cache
def truth() -> tuple[float, float, float]:
    """Macro areas of both models and the Brier score of the first, from half a million images."""
    labels, _, models = draw(np.random.default_rng(99), 250_000)
    ones = np.ones((1, len(labels)))
    areas = [float(weighted_aurocs(labels, p, ones).mean()) for p in models]
    return areas[0], areas[1], float(brier_losses(labels, models[0]).sum(axis=1).mean())


def coverages(simulations: int) -> dict[str, float]:
    rng = np.random.default_rng(5)
    area, other, brier = truth()
    hits: dict[str, int] = {}

    def count(name: str, hit: bool) -> None:
        hits[name] = hits.get(name, 0) + hit

    for simulation in range(simulations):
        labels, patients, (p, q) = draw(rng, PATIENTS)
        names = patients.tolist()
        exact = macro_auroc_interval(labels, p, names)
        count("macro AUROC, DeLong", exact.low <= area <= exact.high)
        gap = macro_auroc_difference(labels, q, p, names)
        count("paired difference", gap.low <= other - area <= gap.high)
        # at the border of the margin the claim of non-inferiority may be wrong in 2.5 % of studies
        at_border = noninferiority(gap.low - (other - area) - MARGIN, gap.high - (other - area) - MARGIN, MARGIN)
        count("wrong claim of non-inferiority", at_border.outcome == "non-inferior")
        weights = resample_patients(names, labels, 3, RESAMPLES, seed=simulation).weights(slice(None))
        drawn = percentile_interval(exact.estimate, weighted_aurocs(labels, p, weights).mean(axis=1), 0.95)
        count("macro AUROC, bootstrap", drawn.low <= area <= drawn.high)
        losses = brier_losses(labels, p).sum(axis=1)
        score = percentile_interval(losses.mean(), weights @ losses / weights.sum(axis=1), 0.95)
        count("Brier, bootstrap", score.low <= brier <= score.high)
    return {name: number / simulations for name, number in hits.items()}


def false_alarms(simulations: int) -> float:
    """Share of p < 0.05 of McNemar's test for two models of equal skill on independent images."""
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(simulations):
        first, second = rng.random((2, 400)) < 0.75
        alarms += mcnemar(first, second).p_value < 0.05
    return alarms / simulations


def test_intervals_of_the_comparison_cover_roughly():
    found = coverages(100)  # standard error 2.2 %
    wrong = found.pop("wrong claim of non-inferiority")
    assert min(found.values()) > 0.95 - 0.075, found
    assert wrong < 0.1


@pytest.mark.slow
def test_intervals_of_the_comparison_cover_95_per_cent():
    found = coverages(3000)  # standard error 0.4 %
    assert found.pop("wrong claim of non-inferiority") == pytest.approx(0.025, abs=0.015)
    assert found == pytest.approx(dict.fromkeys(found, 0.95), abs=0.02)


def test_mcnemar_cries_wolf_in_at_most_one_of_twenty():
    share = false_alarms(1500)
    assert 0.02 < share < 0.05 + 0.012
