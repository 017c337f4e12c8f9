"""Controls on real X-rays at 16 pixels: what must fail fails, what must pass passes, loud canaries are heard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

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


def made(data: IngestResult, distil: Procedure) -> DistilledSet:
    train = data.train
    return distil(data.normalisation.apply(train.images), train.labels, train.patient_ids, 11)


def failed(data: IngestResult, release: DistilledSet, distil: Procedure, folder: Path, init: str) -> set[str]:
    found = audit(release, data.train, outsiders(data), distil, PROFILE, procedure=distil.digest, folder=folder, seed=1)
    verdicts = judge(PolicyConfig(), found, Claim("none"), name=set_digest(release), init=init, budget=None)
    return {verdict.rule for verdict in verdicts if not verdict.passed}


def test_a_distilled_set_passes_and_the_patients_images_in_its_place_fail(data: IngestResult, tmp_path: Path) -> None:
    distil = procedure(data, tmp_path / "work")
    release = made(data, distil)
    assert failed(data, release, distil, tmp_path / "shadows", "noise") == set()
    real = dataclasses.replace(release, images=data.normalisation.apply(data.train.images[: len(release)]))
    assert {"linkage", "copies"} <= failed(data, real, distil, tmp_path / "shadows", "noise")


def test_a_real_start_fails_also_where_the_record_lies_about_it(data: IngestResult, tmp_path: Path) -> None:
    distil = procedure(data, tmp_path / "work", init="real")
    release = made(data, distil)
    assert release.recipe["init"] == "real"
    assert "start" in failed(data, release, distil, tmp_path / "shadows", "real")
    assert {"linkage", "copies"} & failed(data, release, distil, tmp_path / "shadows", "noise")


def test_canaries_of_ten_times_the_weight_are_found(data: IngestResult, tmp_path: Path) -> None:
    distil = procedure(data, tmp_path / "work")
    release = made(data, distil)
    auc = []
    for weight in (1, 10):
        loud = dataclasses.replace(PROFILE, weight=weight, canaries=256)
        found = audit(
            release, data.train, outsiders(data), distil, loud, procedure=distil.digest,
            folder=tmp_path / str(weight), seed=1,
        )  # fmt: skip
        auc.append(found["audits"]["canaries"]["auc"])
    assert auc[1] > max(0.7, auc[0] + 0.1)
