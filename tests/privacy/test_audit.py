from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.privacy import ATTACKS, AuditProfile, audit, audit_text, profile_named, set_digest
from medidistill.privacy.audit import make_pool
from medidistill.privacy.dpo_report import dpo_report_html, dpo_report_markdown
from medidistill.privacy.shadows import DistillFn, plan_shadows, run_shadows
from medidistill.results.audit import AuditDocument, Side

from .procedures import FIXED, Copies, Means, as_set, people

TINY = AuditProfile("tiny", shadows=8, canaries=80, students=1, experts=1, recogniser_steps=5)


def measured(folder: Path, distill: DistillFn, profile: AuditProfile = TINY) -> tuple[DistilledSet, AuditDocument]:
    members, others = people(120, 0), people(120, 1, prefix="q")
    release = distill(FIXED.apply(members.images), members.labels, members.patient_ids, 5)
    return release, audit(release, members, others, distill, profile, procedure="p", folder=folder, seed=3)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> AuditDocument:
    return measured(tmp_path_factory.mktemp("copied"), Copies(1000))[1]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> AuditDocument:
    return measured(tmp_path_factory.mktemp("averaged"), Means(8))[1]


def test_released_images_are_found_by_every_way_of_looking(copied: AuditDocument) -> None:
    found = copied.audits
    assert found.linkage.pixels.p_value < 1e-9
    assert found.linkage.pixels.nearer_than_limit == 240
    assert found.lira.auc > 0.55
    assert found.membership_release.auc > 0.55
    assert found.canaries.auc > 0.55


def test_means_of_everybody_are_not_found(averaged: AuditDocument) -> None:
    found = averaged.audits
    assert found.linkage.pixels.p_value > 0.01
    assert found.linkage.pixels.nearer_than_limit == 0
    assert abs(found.lira.auc - 0.5) < 0.08
    assert found.one_run.epsilon_lower < 1.5


def test_the_document_is_json_without_patients_and_is_told_in_words(averaged: AuditDocument) -> None:
    text = json.dumps(averaged.to_dict(), allow_nan=False)
    assert '"p0"' not in text
    assert averaged.members == Side(240, 120)
    assert AuditDocument.from_dict(json.loads(text)) == averaged
    told = audit_text(averaged)
    assert "Membership, the procedure (LiRA): AUC 0." in told
    for text in (dpo_report_markdown(averaged), dpo_report_html(averaged)):
        assert "no proof of anonymity" in text
        assert "WP216: singling out" in text
        assert all(about.title in text for about in ATTACKS.values())
    assert "http" not in dpo_report_html(averaged)
    # 120 patients: half of the non-members hold no 1 % of anything
    assert "not resolvable, needs 200 non-members" in told


def test_a_stopped_audit_goes_on_with_the_runs_it_lacks(tmp_path: Path) -> None:
    members, others = people(20, 0), people(20, 1, prefix="q")
    pool = make_pool(as_set(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]), "noise"), members, others)
    plan = plan_shadows(pool, FIXED, runs=4, canaries=8, seed=1)
    seen: list[int] = []

    def counting(images: torch.Tensor, labels: torch.Tensor, patients: object, seed: int) -> DistilledSet:
        seen.append(seed)
        return Means(2)(images, labels, [], seed) if len(seen) != 3 else stop()

    def stop() -> DistilledSet:
        raise KeyboardInterrupt

    settings: dict[str, Any] = {"students": 1, "folder": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        run_shadows(pool, plan, counting, procedure="a", **settings)
    again = run_shadows(pool, plan, counting, procedure="a", **settings)
    assert len(seen) == 5
    whole = run_shadows(pool, plan, Means(2), procedure="a", students=1, folder=tmp_path / "other")
    np.testing.assert_array_equal(again.log_probabilities, whole.log_probabilities)
    # another procedure is done again
    run_shadows(pool, plan, counting, procedure="b", **settings)
    assert len(seen) == 9
    # and so are runs on other data of the same size, and on other patients
    moved = dataclasses.replace(pool, images=pool.images + 0.1)
    run_shadows(moved, plan, counting, procedure="b", **settings)
    assert len(seen) == 13
    patient = np.concatenate([pool.patient[: pool.members][::-1], pool.patient[pool.members :]])
    swapped = dataclasses.replace(pool, patient=patient)
    run_shadows(swapped, plan, counting, procedure="b", **settings)
    assert len(seen) == 17
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.safetensors")} == {0o600}


def test_everybody_is_in_half_of_the_runs_and_canaries_are_unlike_everybody() -> None:
    members, others = people(30, 0), people(25, 1, prefix="q")
    pool = make_pool(as_set(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]), "noise"), members, others)
    plan = plan_shadows(pool, FIXED, runs=6, canaries=60, weight=10, seed=1)
    np.testing.assert_array_equal(plan.members.sum(0), 3)
    np.testing.assert_array_equal(np.bincount(plan.canary_run), 10)
    assert set(plan.canary_label) == {0, 1}
    flat = np.concatenate([pool.images.flatten(1).numpy(), plan.canary_images.reshape(60, -1)])
    likeness = np.corrcoef(flat)[len(pool.images) :]
    np.fill_diagonal(likeness[:, len(pool.images) :], 0)
    assert np.abs(likeness).max() < 0.9
    again = plan_shadows(pool, FIXED, runs=6, canaries=60, weight=10, seed=1)
    np.testing.assert_array_equal(plan.canary_images, again.canary_images)
    for run in range(6):
        images, labels, patients = plan.training_set(pool, run)
        inside = [f"patient {p}" for p in np.flatnonzero(plan.members[run])]
        planted = ((plan.canary_run == run) & plan.canary_in).sum()
        assert len(images) == len(labels) == len(patients) == 2 * len(inside) + 10 * planted
        assert set(patients) - set(inside) == {
            f"canary {c}" for c in np.flatnonzero((plan.canary_run == run) & plan.canary_in)
        }


def test_what_cannot_be_audited_is_refused() -> None:
    members = people(10, 0)
    release = as_set(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]), "noise")
    with pytest.raises(ConfigError, match="10 patients are both members and non-members"):
        make_pool(release, members, members)
    with pytest.raises(ConfigError, match="even number >= 4"):
        plan_shadows(make_pool(release, members, people(4, 1, prefix="q")), FIXED, runs=5, canaries=0)
    with pytest.raises(ConfigError, match="did you mean 'quick'"):
        profile_named("quik")


def test_the_digest_names_images_and_targets() -> None:
    images, labels = torch.rand(2, 1, 16, 16), torch.tensor([0, 1])
    one = as_set(images, labels, "noise")
    assert set_digest(one) == set_digest(as_set(images.clone(), labels, "real"))
    assert set_digest(one) != set_digest(as_set(images + 1e-3, labels, "noise"))
    assert set_digest(one) != set_digest(as_set(images, labels.flip(0), "noise"))


@pytest.mark.slow
def test_worker_processes_find_what_one_process_finds(tmp_path: Path) -> None:
    members, others = people(20, 0), people(20, 1, prefix="q")
    pool = make_pool(as_set(torch.zeros(2, 1, 16, 16), torch.tensor([0, 1]), "noise"), members, others)
    plan = plan_shadows(pool, FIXED, runs=4, canaries=8, seed=1)
    found = [
        run_shadows(pool, plan, Means(2), procedure="a", students=1, folder=tmp_path / str(n), workers=n)
        for n in (1, 2)
    ]
    np.testing.assert_array_equal(found[0].log_probabilities, found[1].log_probabilities)
