"""Metrics of one arm on every draw of patients and of networks or seeds, so that differences of arms are paired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from medidistill.evaluate.intervals import Interval, PatientResamples, percentile_interval, resample_units
from medidistill.evaluate.protocol import ArmRun
from medidistill.statistics import FloatArray

__all__ = ["Columns", "Group", "measure"]

# run, number of the network -> function from image weights (B, N) to the metrics (B, M) of that network
Columns: TypeAlias = Callable[[ArmRun, int], Callable[[FloatArray], FloatArray]]


@dataclass(frozen=True)
class Group:
    """M metrics of one arm and architecture.

    Args:
        runs: one a seed, by seed.
        per_network: (all networks, M).
        units: (U, M), of each network, or of each seed where there are several.
        draws: (B, M), on each draw of patients and units.
    """

    runs: tuple[ArmRun, ...]
    per_network: FloatArray
    units: FloatArray
    draws: FloatArray

    @property
    def unit(self) -> str:
        """What is drawn beside patients: `seed` or `network`."""
        return "seed" if len(self.runs) > 1 else "network"

    @property
    def unit_keys(self) -> tuple[int, ...]:
        """What names the units: groups with the same ones are given the same draws of them."""
        return tuple(run.seed for run in self.runs) if len(self.runs) > 1 else (self.runs[0].seed, len(self.units))

    def columns(self, count: int) -> Group:
        """Return the same with the first `count` metrics."""
        parts = (part[:, :count] for part in (self.per_network, self.units, self.draws))
        return Group(self.runs, *parts)

    def beside(self, other: Group) -> Group:
        """Return the metrics of this group and then those of `other`, of the same runs on the same draws."""
        pairs = (self.per_network, other.per_network), (self.units, other.units), (self.draws, other.draws)
        return Group(self.runs, *(np.concatenate(pair, axis=1) for pair in pairs))

    def interval(self, column: int, confidence: float) -> Interval:
        """Return the mean over the units of one metric with its percentile interval."""
        return percentile_interval(float(self.units[:, column].mean()), self.draws[:, column], confidence)


def measure(runs: Sequence[ArmRun], columns: Columns, resamples: PatientResamples, seed: int) -> Group:
    """Compute the metrics of one arm and architecture on the test images and on every draw.

    Args:
        runs: one a seed, with test probabilities.
        columns: what is measured.
        resamples: of patients; the same for all arms that are to be compared.
        seed: decides the draws of networks or seeds.
    """
    runs = sorted(runs, key=lambda run: run.seed)
    several = len(runs) > 1
    draws_of_units, units, networks = [], [], []
    for run in runs:
        assert run.test_probabilities is not None
        measured = [_of_network(columns(run, place), resamples) for place in range(len(run.test_probabilities))]
        points, draws = (np.stack(part) for part in zip(*measured, strict=True))
        networks.append(points)
        units.append(points.mean(axis=0, keepdims=True) if several else points)
        draws_of_units.append(draws.mean(axis=0, keepdims=True) if several else draws)
    all_units = np.concatenate(units)
    group = Group(tuple(runs), np.concatenate(networks), all_units, np.empty(0))
    shares = resample_units(len(all_units), len(resamples.counts), seed, group.unit, *group.unit_keys)
    drawn = np.einsum("bu,ubm->bm", shares, np.concatenate(draws_of_units))
    return Group(group.runs, group.per_network, group.units, drawn)


def _of_network(
    columns: Callable[[FloatArray], FloatArray], resamples: PatientResamples
) -> tuple[FloatArray, FloatArray]:
    """Return every metric of one network: on the test split (M,), and on each resample (B, M)."""
    return columns(np.ones((1, len(resamples.patient))))[0], resamples.over(columns)
