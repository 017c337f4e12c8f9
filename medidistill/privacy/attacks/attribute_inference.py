"""Attribute inference: does the set reveal more about its members than about non-members?

Threat model: the attacker holds a patient's image and wants an attribute that is not its label (here the site). They
infer it from the features of networks trained on the released set. What holds for non-members too is knowledge about
the population, not a leak: the same attack is therefore run on non-members, and with networks trained on other real
patients instead of the set. The leak is the difference of differences:

    gain = (accuracy on members - on non-members) with the set  -  the same without it.

Statistic: a logistic regression on the penultimate features, fitted on half of the other patients; balanced over
attributes; 95 % interval by a bootstrap over patients. Cost: seconds. Failure modes: an attribute that is a proxy for
the label (a hospital with one disease only) is predictable for non-members too; with few patients the interval is wide,
and a wide interval around 0 is no evidence of 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medidistill.networks import penultimate
from medidistill.privacy.attacks.attack import AttackInfo
from medidistill.results.audit import AttributeInference, Unmeasured
from medidistill.seeding import stream

__all__ = ["ATTACK", "attribute_audit"]

ATTACK = AttackInfo(
    "attribute",
    "Attribute inference (site)",
    "holds the patient's X-ray and wants to know the hospital it is from",
    "an attribute that follows from the diagnosis is predictable for non-members too",
    "inference",
    "If the set revealed attributes of members, they would be inferred better than those of non-members.",
)

_RESAMPLES = 500
Ids = npt.NDArray[np.int64]


@torch.no_grad()
def _features(network: nn.Module, images: Tensor) -> npt.NDArray[np.float64]:
    """Return the penultimate features, (N, D)."""
    parts = [penultimate(network.eval(), part)[0] for part in torch.split(images, 512)]
    return torch.cat(parts).double().numpy()


def attribute_audit(
    with_set: nn.Module,
    without_set: nn.Module,
    members: tuple[Tensor, npt.NDArray[np.str_], Ids],
    others: tuple[Tensor, npt.NDArray[np.str_], Ids],
    *,
    seed: int,
) -> AttributeInference | Unmeasured:
    """Measure the gain of the set for inferring an attribute.

    Args:
        with_set: a network trained on the released set.
        without_set: a network of the same architecture trained on the fitting half of the others.
        members: normalised images (M, C, H, W), their attribute (M,) and patient (M,).
        others: the same for non-members; half of these patients fits the attack.
        seed: of the split into halves and of the bootstrap.

    Returns:
        `Unmeasured` where fewer than two values of the attribute are shared.
    """
    from sklearn.linear_model import LogisticRegression

    (member_images, member_value, member_patient), (other_images, other_value, other_patient) = members, others
    generator = np.random.default_rng(stream(seed, "attribute").initial_seed())
    fitting = np.isin(other_patient, fitting_half(other_patient, seed))
    shared = sorted(set(other_value[fitting]) & set(other_value[~fitting]) & set(member_value) - {""})
    if len(shared) < 2:
        return Unmeasured(f"needs two values of the attribute on all sides, found {len(shared)}")
    right: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    for name, network in (("with_set", with_set), ("without_set", without_set)):
        inside, outside = _features(network, member_images), _features(network, other_images)
        centre, scale = outside[fitting].mean(0), outside[fitting].std(0) + 1e-6
        model = LogisticRegression(max_iter=500, C=0.01, class_weight="balanced")
        model.fit((outside[fitting] - centre) / scale, other_value[fitting])
        right[name] = (
            (model.predict((inside - centre) / scale) == member_value).astype(np.float64),
            (model.predict((outside[~fitting] - centre) / scale) == other_value[~fitting]).astype(np.float64),
        )
    member_kept, other_kept = np.isin(member_value, shared), np.isin(other_value[~fitting], shared)
    sides = (
        (member_patient[member_kept], member_value[member_kept], {k: v[0][member_kept] for k, v in right.items()}),
        (
            other_patient[~fitting][other_kept],
            other_value[~fitting][other_kept],
            {k: v[1][other_kept] for k, v in right.items()},
        ),
    )

    def gain(draw: bool) -> float:
        difference = 0.0
        for sign, (patient, value, hits) in zip((1, -1), sides, strict=True):
            weight = _resample(patient, generator) if draw else np.ones(len(patient))
            for name, direction in (("with_set", 1), ("without_set", -1)):
                difference += sign * direction * _balanced(hits[name], value, weight, shared)
        return difference

    draws = np.array([gain(True) for _ in range(_RESAMPLES)])
    low, high = np.nanquantile(draws, [0.025, 0.975])
    accuracy = {
        f"{name}_{side}": _balanced(hits[name], value, np.ones(len(patient)), shared)
        for side, (patient, value, hits) in zip(("members", "others"), sides, strict=True)
        for name in hits
    }
    return AttributeInference(
        values=len(shared),
        members=len(np.unique(sides[0][0])),
        others=len(np.unique(sides[1][0])),
        balanced_accuracy=accuracy,
        gain=gain(False),
        low=float(low),
        high=float(high),
    )


def fitting_half(patient: Ids, seed: int) -> Ids:
    """Return the patients that the attack is fitted on; the rest form the evaluation half."""
    people = np.random.default_rng(stream(seed, "attribute", "halves").initial_seed()).permutation(np.unique(patient))
    return people[: len(people) // 2]


def _resample(patient: Ids, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    people, row = np.unique(patient, return_inverse=True)
    return np.bincount(generator.integers(len(people), size=len(people)), minlength=len(people))[row].astype(float)


def _balanced(
    hits: npt.NDArray[np.float64], value: npt.NDArray[np.str_], weight: npt.NDArray[np.float64], shared: list[str]
) -> float:
    shares = []
    for one in shared:
        here = value == one
        total = weight[here].sum()
        shares.append(float((hits[here] * weight[here]).sum() / total) if total else float("nan"))
    return float(np.nanmean(shares))
