"""Patient re-identification: does a patient-verification network match a distilled image to a member?

Threat model: the attacker holds another X-ray of the patient and a Siamese network, trained on X-rays of
non-members. First the attack is validated on real X-rays: same patient or not, for patients it never saw (AUC). An
attack that fails there (`works`: lower limit above 0.6) says nothing about the set and is marked so.
Then every distilled image is matched: is the most similar real image a member's, more often than M / (M + H)?

Statistic: cosine of 32 features of a small ConvNet, trained to distinguish pairs of one patient from pairs of two
    within one class (logistic loss). Source: Packhaeuser et al. 2022 (Scientific Reports 12, 14851), with a far larger
    network on 100,000 X-rays: AUC .994. Cost: a minute at 32 pixels. Failure modes: small networks on few patients
    recognise the hospital, not the person; a distilled image that mixes several patients matches none of them and may
    still leak.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from medidistill.config import AugmentConfig, NetworkConfig
from medidistill.networks import augment, draw, make_network
from medidistill.privacy.attacks.attack import AttackInfo
from medidistill.privacy.statistics import auc_score, binomial_tail, trials_needed
from medidistill.results.audit import Reidentification, Unmeasured
from medidistill.seeding import stream
from medidistill.statistics import clopper_pearson_limits

__all__ = ["ATTACK", "reidentification_audit", "train_recogniser"]

ATTACK = AttackInfo(
    "reidentification",
    "Patient re-identification",
    "holds another X-ray of the patient and a network that recognises people",
    "a small network recognises the hospital rather than the person",
    "linkability",
    "If a patient could be recognised in a released image, their other X-rays would match it.",
)

_FEATURES = 32
_BATCH = 32
_AUGMENT = AugmentConfig(shift=0.05, scale=0.05, rotate=5, brightness=0.2, contrast=0.2)
_WORKS = 0.6
Ids = npt.NDArray[np.int64]


def _pairs(patient: Ids, labels: Tensor, count: int, generator: np.random.Generator) -> tuple[Ids, Ids, Ids]:
    """Draw (first, second, same): half of the pairs one patient's, half two patients' of one class."""
    groups = {int(p): np.flatnonzero(patient == p) for p in np.unique(patient)}
    several = [rows for rows in groups.values() if len(rows) > 1]
    classes = labels.numpy()
    first, second, same = [], [], []
    for number in range(count):
        if number % 2:
            rows = several[generator.integers(len(several))]
            a, b = generator.choice(rows, 2, replace=False)
        else:
            a = generator.integers(len(patient))
            different = np.flatnonzero((classes == classes[a]) & (patient != patient[a]))
            if not len(different):
                continue
            b = generator.choice(different)
        first.append(a)
        second.append(b)
        same.append(number % 2)
    return np.array(first), np.array(second), np.array(same)


def _features(network: nn.Module, images: Tensor) -> Tensor:
    return torch.nn.functional.normalize(network(images), dim=1)


def train_recogniser(images: Tensor, labels: Tensor, patient: Ids, *, steps: int, seed: int) -> nn.Module:
    """Train the Siamese network on normalised images (N, C, H, W) of known patients; return it in eval mode."""
    network = make_network(
        NetworkConfig(width=16),
        channels=images.shape[1],
        image_size=images.shape[-1],
        num_classes=_FEATURES,
        generator=stream(seed, "reidentification", "init"),
    )
    scale = nn.Parameter(torch.tensor([5.0, -2.0]))
    optimizer = torch.optim.Adam([*network.parameters(), scale], lr=2e-3)
    generator = np.random.default_rng(stream(seed, "reidentification", "pairs").initial_seed())
    noise = stream(seed, "reidentification", "augment")
    for _ in range(steps):
        first, second, same = _pairs(patient, labels, _BATCH, generator)
        both = images[torch.from_numpy(np.concatenate([first, second]))]
        left, right = _features(network, augment(both, _AUGMENT, draw(len(both), noise))).chunk(2)
        logits = scale[0] * (left * right).sum(1) + scale[1]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(same).float())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


@torch.no_grad()
def reidentification_audit(
    released: Tensor,
    members: Tensor,
    others: Tensor,
    other_labels: Tensor,
    other_patient: Ids,
    *,
    steps: int,
    seed: int,
) -> Reidentification | Unmeasured:
    """Train on half of the non-members, validate on the other half, then match the released images.

    Args:
        released: (S, C, H, W) distilled images, network input.
        members: (M, C, H, W) real images that they were made from.
        others: (H, C, H, W) real images of non-members.
        other_labels: (H,) int64.
        other_patient: (H,) which patient.
        steps: of the training.
        seed: of all random draws.

    Returns:
        `Unmeasured` where too few patients have two images.
    """
    generator = np.random.default_rng(stream(seed, "reidentification", "halves").initial_seed())
    people = generator.permutation(np.unique(other_patient))
    known = np.isin(other_patient, people[: len(people) // 2])
    several = [int((np.unique(other_patient[half], return_counts=True)[1] > 1).sum()) for half in (known, ~known)]
    if min(several) < 2:
        return Unmeasured(f"only {sum(several)} of the non-members have two or more images; each half needs two")
    with torch.enable_grad():
        network = train_recogniser(others[known], other_labels[known], other_patient[known], steps=steps, seed=seed)
    rest = np.flatnonzero(~known)
    first, second, same = _pairs(other_patient[rest], other_labels[rest], 1000, generator)
    seen = _features(network, others[rest])
    scores = (seen[first] * seen[second]).sum(1).double().numpy()
    auc = auc_score(scores[same == 1], scores[same == 0])
    low, high = _auc_limits(auc, several[1], len(np.unique(other_patient[rest])))
    mine = _features(network, released)
    to_members = (mine @ _features(network, members).T).max(dim=1).values
    to_others = (mine @ seen.T).max(dim=1).values
    chance = len(members) / (len(members) + len(rest))
    hits = int((to_members > to_others).sum())
    limits = clopper_pearson_limits(hits, len(released))
    return Reidentification(
        auc_on_real_pairs=auc,
        auc_low=low,
        auc_high=high,
        patients_with_pairs=several[1],
        works=low > _WORKS,
        images=len(released),
        matched_to_member=hits,
        low=limits[0],
        high=limits[1],
        chance=chance,
        p_value=binomial_tail(hits, len(released), chance),
        needs_images=trials_needed(0.01, chance),
    )


def _auc_limits(auc: float, positives: int, negatives: int) -> tuple[float, float]:
    """Return 95 % limits that count patients, not pairs (Hanley and McNeil 1982)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    half = 1.96 * float(np.sqrt(max(variance, 0.0) / (positives * negatives)))
    return max(0.0, auc - half), min(1.0, auc + half)
