"""Controls on real X-rays at 16 pixels: what must fail fails, what must pass passes, loud canaries are heard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from medidistill.config import DistillConfig, ExpertConfig, IngestConfig, NetworkConfig, PolicyConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet
from medidistill.ingest import IngestResult, ingest
from medidistill.pipeline.auditing import Procedure, outsiders
from medidistill.privacy import AuditProfile, Claim, audit, set_digest
from medidistill.privacy.gate import judge

pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(1800)]

PROFILE = AuditProfile("control", shadows=16, canaries=1024, students=1, experts=2, recogniser_steps=50)
DISTILL = DistillConfig(ipc=5, outer_steps=40, inner_steps=5, max_start=3, validate_every=0, compile="off")


@pytest.fixture(scope="module")
def data(real_data: Path) -> IngestResult:
    return ingest(real_data / "covid-cxr", IngestConfig(image_size=16))


def procedure(data: IngestResult, folder: Path, **changes: Any) -> Procedure:
    folder.mkdir(parents=True, exist_ok=True)
    return Procedure(
        NetworkConfig(width=8, depth=2),
        ExpertConfig(count=2, epochs=5, lr=0.02),
        dataclasses.replace(DISTILL, **changes),
        TrainingConfig(steps=100, batch_size=15),
        data.train.class_names,
        data.normalisation,
        folder,
    )


def made(data: IngestResult, distil: Procedure, rows: torch.Tensor | None = None) -> DistilledSet:
    train = data.train if rows is None else data.train.select(rows)
    return distil(data.normalisation.apply(train.images), train.labels, train.patient_ids, 11)


def audited(
    data: IngestResult, release: DistilledSet, distil: Procedure, folder: Path, **changes: Any
) -> dict[str, Any]:
    members = changes.pop("members", data.train)
    profile = dataclasses.replace(PROFILE, **changes)
    return audit(
        release, members, outsiders(data), distil, profile, procedure=distil.digest, folder=folder, seed=1
    )  # fmt: skip


def failed(release: DistilledSet, found: dict[str, Any], init: str) -> set[str]:
    verdicts = judge(PolicyConfig(), found, Claim("none"), name=set_digest(release), init=init, budget=None)
    return {verdict.rule for verdict in verdicts if not verdict.passed}


def test_patients_whom_a_set_never_saw_are_not_found_and_their_images_in_its_place_are(
    data: IngestResult, tmp_path: Path
) -> None:
    distil = procedure(data, tmp_path / "work")
    order = {name: i for i, name in enumerate(dict.fromkeys(data.train.patient_ids))}
    even = torch.tensor([order[name] % 2 == 0 for name in data.train.patient_ids])
    release = made(data, distil, torch.nonzero(even).flatten())
    strangers = data.train.select(torch.nonzero(~even).flatten())
    found = audited(data, release, distil, tmp_path / "shadows", members=strangers)
    (point,) = [one for one in found["audits"]["membership_release"]["operating_points"] if one["fpr"] == 0.01]
    assert point["low"] <= 0.01  # no more of them than the attack finds among anybody
    assert "linkage" not in failed(release, found, "noise")
    assert not {"lira", "rmia", "canaries", "copies", "start", "audit"} & failed(release, found, "noise")
    real = dataclasses.replace(release, images=data.normalisation.apply(strangers.images[: len(release)]))
    found = audited(data, real, distil, tmp_path / "shadows", members=strangers)
    assert {"linkage", "copies"} <= failed(real, found, "noise")


def test_a_real_start_fails_also_where_the_record_lies_about_it(data: IngestResult, tmp_path: Path) -> None:
    distil = procedure(data, tmp_path / "work", init="real")
    release = made(data, distil)
    assert release.recipe["init"] == "real"
    found = audited(data, release, distil, tmp_path / "shadows")
    assert "start" in failed(release, found, "real")
    assert {"linkage", "copies"} & failed(release, found, "noise")


def test_canaries_of_ten_times_the_weight_are_found(data: IngestResult, tmp_path: Path) -> None:
    distil = procedure(data, tmp_path / "work")
    release = made(data, distil)
    auc = {
        weight: audited(data, release, distil, tmp_path / str(weight), weight=weight, canaries=256)["audits"][
            "canaries"
        ]["auc"]
        for weight in (1, 10)
    }
    assert auc[10] > max(0.7, auc[1] + 0.1)
