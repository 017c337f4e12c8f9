"""Controls on real X-rays at 16 pixels: what must fail fails, what must pass passes, loud canaries are heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import privacy_controls as controls
from medidistill.config import IngestConfig
from medidistill.ingest import IngestResult, ingest

pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def data(real_data: Path) -> IngestResult:
    return ingest(real_data / "covid-cxr", IngestConfig(image_size=controls.SIDE))


def test_patients_whom_a_set_never_saw_pass_and_their_images_in_its_place_fail(
    data: IngestResult, tmp_path: Path
) -> None:
    found = controls.strangers(data, tmp_path)
    assert found["failed"] == []
    assert {"linkage", "copies"} <= set(controls.copies(data, tmp_path)["failed"])


def test_a_real_start_fails_also_where_the_record_lies_about_it(data: IngestResult, tmp_path: Path) -> None:
    failed = set(controls.real_start(data, tmp_path)["failed"])
    assert "start" not in failed
    assert {"linkage", "copies"} & failed


def test_canaries_of_ten_times_the_weight_are_found(data: IngestResult, tmp_path: Path) -> None:
    found = controls.loud(data, tmp_path)
    assert found["audits"]["one_run"]["epsilon_lower"] > 0  # more guesses right than chance allows, at 95 %
    assert found["audits"]["canaries"]["auc"] > 0.7
    assert "one_run" in found["failed"]
