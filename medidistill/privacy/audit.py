"""All attacks on one distilled set, as one document.

What is measured on the set itself: copy and linkage, re-identification, membership of the training patients against
non-members, attribute inference. What is measured on the procedure, by shadow runs: LiRA, RMIA, canaries,
the one-run bound. The document holds numbers and counts, no image and no identifier.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from medidistill.config import TrainingConfig
from medidistill.distilled_set import DistilledSet, LabelledImages
from medidistill.errors import ConfigError, did_you_mean
from medidistill.networks import make_network, train, train_on_distilled
from medidistill.privacy.attacks import SHADOW_SCORES
from medidistill.privacy.attacks.attribute_inference import attribute_audit, fitting_half
from medidistill.privacy.attacks.linkage import linkage_audit
from medidistill.privacy.attacks.membership import by_patient, equally_many, offline_scores, phi
from medidistill.privacy.attacks.one_run import one_run_bound
from medidistill.privacy.attacks.reidentification import reidentification_audit
from medidistill.privacy.shadows import AuditData, DistillFn, ShadowRuns, log_probabilities, plan_shadows, run_shadows
from medidistill.privacy.statistics import Attack
from medidistill.results.audit import (
    AttackSummary,
    AttributeInference,
    AuditDocument,
    AuditFindings,
    AuditProfile,
    CanaryAttack,
    OneRunBound,
    Side,
    Unmeasured,
)
from medidistill.seeding import stream

__all__ = ["PROFILES", "audit", "make_pool", "profile_named", "set_digest"]

PROFILES = {
    profile.name: profile
    for profile in (
        AuditProfile("quick", shadows=16, canaries=1024, students=2, experts=3, recogniser_steps=300),
        AuditProfile("full", shadows=64, canaries=1024, students=4, experts=0, recogniser_steps=1500),
    )
}


def profile_named(name: str) -> AuditProfile:
    """Return a profile by name. Raises `ConfigError` naming the nearest."""
    if name not in PROFILES:
        raise ConfigError(f"--profile {name}: must be one of {', '.join(PROFILES)}{did_you_mean(name, PROFILES)}")
    return PROFILES[name]


def set_digest(distilled: DistilledSet) -> str:
    """Return the digest of a distilled set's images and targets: 16 hexadecimal digits of a SHA-256."""
    digest = hashlib.sha256()
    for part in (distilled.images.float(), distilled.labels, distilled.targets):
        digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def make_pool(release: DistilledSet, members: LabelledImages, others: LabelledImages) -> AuditData:
    """Return the real images of an audit, normalised as the set asks for.

    Raises:
        ConfigError: a patient is both a member and a non-member.
    """
    shared = set(members.patient_ids) & set(others.patient_ids)
    if shared:
        raise ConfigError(f"audit: {len(shared)} patients are both members and non-members; split by patient first")
    names = list(dict.fromkeys(members.patient_ids)) + list(dict.fromkeys(others.patient_ids))
    number = {name: i for i, name in enumerate(names)}
    return AuditData(
        images=release.normalisation.apply(torch.cat([members.images, others.images])),
        labels=torch.cat([members.labels, others.labels]),
        patient=np.array([number[name] for name in (*members.patient_ids, *others.patient_ids)], dtype=np.int64),
        members=len(members),
        num_classes=members.num_classes,
    )


def audit(
    release: DistilledSet,
    members: LabelledImages,
    others: LabelledImages,
    distill: DistillFn,
    profile: AuditProfile,
    *,
    procedure: str,
    folder: Path,
    seed: int = 0,
    workers: int = 1,
    compile: bool = False,
    on_run: Callable[[int, int], None] | None = None,
    on_part: Callable[[str], None] | None = None,
    on_estimate: Callable[[float], None] | None = None,
) -> AuditDocument:
    """Attack a distilled set and the procedure that made it.

    Args:
        release: the set.
        members: real images it was made from, in [0, 1].
        others: real images of non-members from the same sources.
        distill: the procedure, repeated by the shadow runs.
        profile: how much work.
        procedure: digest of its settings.
        folder: receives the shadow runs.
        seed: of all random draws.
        workers: processes of the shadow runs.
        compile: compile the training of students.
        on_run: called with (shadow runs done, total).
        on_part: called with the name of each part before it starts.
        on_estimate: called with the seconds that the shadow runs will take, after the first one; may raise to stop.
    """
    started = time.perf_counter()
    pool = make_pool(release, members, others)
    inside, outside = slice(0, pool.members), slice(pool.members, None)
    announce = on_part or (lambda name: None)
    announce("shadow runs")
    plan = plan_shadows(
        pool,
        release.normalisation,
        runs=profile.shadows,
        canaries=profile.canaries,
        weight=profile.weight,
        seed=seed,
    )
    runs = run_shadows(
        pool,
        plan,
        distill,
        procedure=procedure,
        students=profile.students,
        folder=folder,
        workers=workers,
        compile=compile,
        on_run=on_run,
        on_estimate=on_estimate,
    )
    announce("copy and linkage")
    linkage = linkage_audit(release.images, pool.images[inside], pool.images[outside])
    announce("re-identification")
    reidentification = reidentification_audit(
        release.images,
        pool.images[inside],
        pool.images[outside],
        pool.labels[outside],
        pool.patient[outside],
        steps=profile.recogniser_steps,
        seed=seed,
    )
    announce("attribute inference")
    attribute = _attribute(release, members, others, pool, seed)
    shadows = membership_audits(runs, pool, seed)
    table = log_probabilities(release, pool.images, profile.students, seed, compile=compile).numpy()
    return AuditDocument(
        set=set_digest(release),
        init=release.recipe.get("init", "unknown"),
        images=len(release),
        profile=profile,
        procedure=procedure,
        seed=seed,
        members=Side(len(members), len(set(members.patient_ids))),
        others=Side(len(others), len(set(others.patient_ids))),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - started, 1),
        audits=AuditFindings(
            linkage=linkage,
            reidentification=reidentification,
            attribute=attribute,
            **shadows.rates,
            canaries=shadows.canaries,
            one_run=shadows.one_run,
            membership_release=_membership_of_release(table, runs, pool, seed),
        ),
    )


@dataclass(frozen=True)
class ShadowFindings:
    """What shadow runs found about the procedure: each membership attack by its name, canaries, and a bound."""

    rates: Mapping[str, AttackSummary]
    canaries: CanaryAttack | Unmeasured
    one_run: OneRunBound | Unmeasured


def membership_audits(runs: ShadowRuns, pool: AuditData, seed: int) -> ShadowFindings:
    """Return every membership attack, canaries and the one-run bound of finished shadow runs."""
    plan = runs.plan
    values = phi(runs.log_probabilities[:, : pool.members], pool.labels[: pool.members].numpy())
    values = by_patient(values, pool.patient[: pool.members])
    order = _order(pool.patients, seed)
    unit = np.broadcast_to(np.arange(pool.patients), values.shape)

    def summarize(scores: npt.NDArray[np.float64]) -> AttackSummary:
        return Attack(scores.ravel(), plan.members.ravel(), unit.ravel(), order).summary()

    rates = {name: summarize(score(values, plan.members)) for name, score in SHADOW_SCORES.items()}
    if not plan.canary_in.any() or plan.canary_in.all():
        absent = Unmeasured("no canaries were planted, or all on one side")
        return ShadowFindings(rates, absent, absent)
    own, everywhere, elsewhere = runs.canaries()
    scores = offline_scores(own, everywhere, elsewhere)
    attack = Attack(scores, plan.canary_in, np.arange(len(scores)), _order(len(scores), seed)).summary()
    shift = _shift(scores, plan.canary_in)
    return ShadowFindings(
        rates,
        CanaryAttack(attack.auc, attack.operating_points, weight=plan.weight, mean_shift=shift),
        one_run_bound(scores, plan.canary_in, delta=0.0),
    )


def _membership_of_release(
    table: npt.NDArray[np.float64], runs: ShadowRuns, pool: AuditData, seed: int
) -> AttackSummary:
    """Attack the set itself: its patients against non-members."""
    labels = pool.labels.numpy()
    own = by_patient(phi(table[None], labels), pool.patient)[0]
    everywhere = by_patient(phi(runs.log_probabilities, labels), pool.patient)
    total = len(own)
    out = np.ones(everywhere.shape, dtype=bool)
    out[:, : pool.patients] = ~runs.plan.members
    # a patient who was in half of the runs has the other half to be compared with; non-members get as few
    fewest = np.full(total, out[:, : pool.patients].sum(axis=0).min())
    out[:, pool.patients :] = equally_many(out, fewest, np.random.default_rng(seed))[:, pool.patients :]
    scores = offline_scores(own, everywhere, out)
    member = np.arange(total) < pool.patients
    return Attack(scores, member, np.arange(total), _order(total, seed)).summary()


def _attribute(
    release: DistilledSet, members: LabelledImages, others: LabelledImages, pool: AuditData, seed: int
) -> AttributeInference | Unmeasured:
    if not any(members.sites):
        return Unmeasured("the images carry no site")
    fitting = np.isin(pool.patient[pool.members :], fitting_half(pool.patient[pool.members :], seed))
    rows = torch.from_numpy(np.flatnonzero(fitting) + pool.members)
    _, channels, side, _ = release.images.shape
    baseline = make_network(
        release.network,
        channels=channels,
        image_size=side,
        num_classes=release.num_classes,
        generator=stream(seed, "attribute", "init"),
    )
    training = TrainingConfig(steps=300, batch_size=32, lr=0.01)
    train(baseline, pool.images[rows], pool.labels[rows], training, stream(seed, "attribute", "batches"))
    return attribute_audit(
        train_on_distilled(release, seed=seed),
        baseline,
        (pool.images[: pool.members], np.array(members.sites), pool.patient[: pool.members]),
        (pool.images[pool.members :], np.array(others.sites), pool.patient[pool.members :]),
        seed=seed,
    )


def _order(count: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(stream(seed, "audit", "threshold", count).initial_seed()).permutation(count)


def _shift(scores: npt.NDArray[np.float64], inside: npt.NDArray[np.bool_]) -> float:
    return float(scores[inside].mean() - scores[~inside].mean())
