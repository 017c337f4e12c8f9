"""What the cells of a table say together: means over paired seeds, differences, drops between architectures.

The unit is the seed: a cell's figure is the mean over its networks, an estimate the mean over seeds, an interval
Student's t over seeds, where there are at least three. The test images are held fixed, so no interval says how another
draw of images would come out.
Differences are taken seed by seed. `adjusted` is Holm's correction over all comparisons with one rival at one ipc and
architecture: with many methods some difference looks large by chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from medidistill.evaluate import ArmRun
from medidistill.evaluate.metrics import balanced_accuracy_score

__all__ = ["collect", "holm", "paired"]

Key = tuple[str, str, int, str, int]
"""Arm, start, ipc, architecture, seed."""

_LEVEL = 0.95
_FEWEST = 3  # seeds of an interval: Student's t of two is 13 standard errors wide and says nothing
_RIVALS = ("mtt", "random")
_HOME = "convnet"
_PARTS = {
    "iadd_soft": ("iadd", "mtt_soft"),
    "iadd_flat": ("iadd", "ftd"),
    "iadd_datm": ("iadd", "datm"),
    "iadd_fisher": ("iadd", "fisher_w"),
    "bptt_soft": ("bptt",),
}  # what each combination is put together from


def collect(runs: Mapping[Key, ArmRun], test_labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return rows, paired differences, combinations minus their parts and, with several architectures, drops.

    Args:
        runs: cells with test probabilities.
        test_labels: (N,) integers.
    """
    scores: dict[tuple[str, str, int, str], dict[int, float]] = defaultdict(dict)
    validation: dict[tuple[str, str, int, str], dict[int, float]] = defaultdict(dict)
    for (*group, seed), run in runs.items():
        assert run.test_probabilities is not None
        each = [balanced_accuracy_score(test_labels, one) for one in run.test_probabilities]
        name: Any = tuple(group)
        scores[name][seed], validation[name][seed] = float(np.mean(each)), run.val_score
    rows = [
        {
            "arm": arm,
            "start": start,
            "ipc": ipc,
            "architecture": architecture,
            "seeds": sorted(by_seed),
            "networks": len(runs[arm, start, ipc, architecture, min(by_seed)].val_balanced_accuracy),
            "by_seed": [by_seed[seed] for seed in sorted(by_seed)],
            "balanced_accuracy": _interval([by_seed[seed] for seed in sorted(by_seed)]),
            "val_balanced_accuracy": float(np.mean(list(validation[arm, start, ipc, architecture].values()))),
        }
        for (arm, start, ipc, architecture), by_seed in scores.items()
    ]
    return {"rows": rows, "differences": _differences(scores), "drops": _drops(scores), "parts": _parts(scores)}


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    """Return mean and Student's t interval; no interval from fewer than three values."""
    mean = float(np.mean(values))
    if len(values) < _FEWEST:
        return {"estimate": mean, "low": None, "high": None}
    half = float(stats.t.ppf((1 + _LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"estimate": mean, "low": mean - half, "high": mean + half}


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> dict[str, float | None] | None:
    """Return the mean difference over the seeds that both have, its interval and its p; None without such seeds."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    gaps = np.array([one[seed] - other[seed] for seed in seeds])
    found = _interval(gaps.tolist())
    p = None
    if len(gaps) >= _FEWEST:
        spread = float(gaps.std(ddof=1))
        p = float(stats.ttest_1samp(gaps, 0.0).pvalue) if spread > 0 else float(gaps.mean() == 0)
    return {**found, "p": p}


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p values, in the order given; None stays None.

    Holm 1979: the k-th smallest of m is multiplied by m - k + 1, never falls below the one before, and is cut at 1.
    """
    order = sorted((p, i) for i, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    last = 0.0
    for rank, (p, i) in enumerate(order):
        last = max(last, min(1.0, p * (len(order) - rank)))
        adjusted[i] = last
    return adjusted


def _differences(scores: Mapping[tuple[str, str, int, str], Mapping[int, float]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for rival in _RIVALS:
        families: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
        for (arm, start, ipc, architecture), by_seed in scores.items():
            base = _rival(scores, rival, start, ipc, architecture)
            if arm in (rival, "full") or base is None:
                continue
            entry = _minus((arm, start, ipc, architecture), by_seed, rival, base)
            if entry is None:
                continue
            families[ipc, architecture].append(entry)
        for family in families.values():
            for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
                found.append({**entry, "adjusted": p})
    return found


def _parts(scores: Mapping[tuple[str, str, int, str], Mapping[int, float]]) -> list[dict[str, Any]]:
    """Return each combination minus what it is put together from."""
    found = []
    for (arm, start, ipc, architecture), by_seed in scores.items():
        for part in _PARTS.get(arm, ()):
            other = scores.get((part, start, ipc, architecture), {})
            found.append(_minus((arm, start, ipc, architecture), by_seed, part, other))
    return [entry for entry in found if entry is not None]


def _minus(
    group: tuple[str, str, int, str], by_seed: Mapping[int, float], other: str, its_seeds: Mapping[int, float]
) -> dict[str, Any] | None:
    """Return a group minus another method's seeds, with what it is; None where they share no seed."""
    gap = paired(by_seed, its_seeds)
    if gap is None:
        return None
    arm, start, ipc, architecture = group
    return {"arm": arm, "start": start, "minus": other, "ipc": ipc, "architecture": architecture, **gap}


def _rival(
    scores: Mapping[tuple[str, str, int, str], Mapping[int, float]], rival: str, start: str, ipc: int, architecture: str
) -> Mapping[int, float] | None:
    """Return the rival's seeds: MTT from the same start where there is one (a selection has none), random images."""
    starts = ("real",) if rival == "random" else (start, "noise", "real")
    named = ((rival, one, ipc, architecture) for one in starts)
    return next((scores[key] for key in named if key in scores), None)


def _drops(scores: Mapping[tuple[str, str, int, str], Mapping[int, float]]) -> list[dict[str, Any]]:
    """Return by how much each arm falls, from the ConvNet to the mean of the other architectures."""
    found = []
    for (arm, start, ipc, architecture), home in scores.items():
        others = {key[3]: value for key, value in scores.items() if key[:3] == (arm, start, ipc) and key[3] != _HOME}
        if architecture != _HOME or not others:
            continue
        seeds = sorted(set(home).intersection(*others.values()))
        if seeds:
            falls = [home[seed] - float(np.mean([value[seed] for value in others.values()])) for seed in seeds]
            found.append({"arm": arm, "start": start, "ipc": ipc, "seeds": seeds, "drop": _interval(falls)})
    return found
