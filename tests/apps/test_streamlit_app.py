"""The page: what it says without a run, and what it shows of a finished, an unfinished and a damaged one."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from medidistill.config import NetworkConfig, RunConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.pipeline import RunFolder, app_file
from medidistill.record import RunRecord

sys.path.insert(0, str(app_file().parent))

from view_models import distilled_images, find_runs, read_run, report_pictures

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"></svg>'


def _run(path: Path, *, stages: tuple[str, ...] = ()) -> RunFolder:
    folder = RunFolder.create(path, RunConfig(name="Phantoms", notice="Confounded."))
    record = RunRecord()
    for stage in stages:
        record.stage(stage, inputs="")
    record.save(folder.record_file)
    return folder


@pytest.fixture
def finished(tmp_path: Path) -> RunFolder:
    folder = _run(tmp_path / "runs" / "first", stages=("ingest", "experts", "distill/iadd", "evaluate", "report"))
    DistilledSet(
        images=torch.zeros(2, 1, 16, 16),
        labels=torch.tensor([0, 1]),
        alpha=0.02,
        class_names=("normal", "opacity"),
        normalisation=Normalisation(),
        network=NetworkConfig(),
        training=TrainingConfig(),
    ).save(folder.distill("iadd") / "distilled.safetensors")
    folder.evaluate.mkdir()
    (folder.evaluate / "comparison.md").write_text("| arm | balanced accuracy |\n| --- | --- |\n| iadd | 0.812 |\n")
    drawing = base64.b64encode(SVG.encode()).decode()
    picture = f'<img src="data:image/png;base64,{base64.b64encode(PIXEL).decode()}" alt="curve">'
    folder.report.write_text(
        f"<script>alert(1)</script><img src='https://example.org/x.png'><figure>{picture}"
        "<figcaption>Loss of <b>each</b> step</figcaption></figure>"
        f"<img src='data:image/svg+xml;base64,{drawing}' alt='ROC curve'>"
    )
    return folder


def _open(root: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("MEDIDISTILL_RUNS", str(root))
    page = AppTest.from_file(str(app_file()), default_timeout=60).run()
    assert not page.exception
    assert any("Research use, not for diagnosis" in one.value for one in page.caption)
    return page


def test_page_without_a_run_says_how_to_make_one(tmp_path, monkeypatch):
    page = _open(tmp_path, monkeypatch)
    assert "No run below" in page.info[0].value
    assert "medidistill demo" in page.code[0].value


def test_page_of_a_finished_run(finished, tmp_path, monkeypatch):
    page = _open(tmp_path, monkeypatch)
    assert page.sidebar.selectbox[0].options == ["runs/first"]
    assert page.header[0].value == "Phantoms"
    assert page.warning[0].value == "Confounded."
    assert any("| iadd | 0.812 |" in one.value for one in page.markdown)
    assert [one.value for one in page.subheader] == ["What the images are worth", "Distilled images", "Report"]


def test_page_of_an_unfinished_run_says_how_to_go_on(tmp_path, monkeypatch):
    _run(tmp_path / "half", stages=("ingest",))
    page = _open(tmp_path, monkeypatch)
    assert "has not finished" in page.info[0].value
    assert page.code[0].value == f"medidistill run --output {tmp_path / 'half'} --resume"


def test_page_of_a_damaged_run_shows_the_error(tmp_path, monkeypatch):
    folder = _run(tmp_path / "bad")
    folder.record_file.write_text("{")
    page = _open(tmp_path, monkeypatch)
    assert "record.json: not valid JSON" in page.error[0].value


def test_pictures_of_a_report_are_its_embedded_ones_alone(finished, tmp_path):
    pictures = report_pictures(read_run(tmp_path, finished.path))
    assert [(one.content, one.caption) for one in pictures] == [(PIXEL, "Loss of each step"), (SVG, "ROC curve")]


def test_distilled_images_are_for_the_eye(finished, tmp_path):
    images = distilled_images(read_run(tmp_path, finished.path))
    assert [image.caption for image in images] == ["normal", "opacity"]
    assert images[0].content.shape == (16, 16)
    assert float(images[0].content.min()) == 0.5


def test_foreign_folders_are_no_runs(finished, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.yaml").write_text("somebody: else\n")
    assert find_runs(tmp_path) == [finished.path]
