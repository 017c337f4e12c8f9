"""Where nothing tells the patients, every product of a run says so, and the gate resolves no rule by patient."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from medidistill.cli import main
from tests.pipeline.test_permissions import TINY

SAID = "Patients unknown: split by image."


@pytest.fixture
def source(tmp_path):
    """Class folders of PNG files: no table, no header."""
    rng = np.random.default_rng(0)
    for label in ("sick", "well"):
        (tmp_path / "in" / label).mkdir(parents=True)
        for number in range(8):
            picture = Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8))
            picture.save(tmp_path / "in" / label / f"{number}.png")
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "in"


def test_the_plan_names_every_rule_by_patient_as_unresolved(source, tmp_path, capsys):
    settings = ["--config", str(tmp_path / "tiny.yaml"), "--input", str(source), "--output", str(tmp_path / "out")]
    assert main(["run", "--dry-run", "--quiet", *settings]) == 0
    shown = capsys.readouterr().out
    for rule in ("linkage", "copies", "membership_release", "lira", "rmia"):
        assert f"- rule {rule}: patients unknown, split by image (16 of 16 images)" in shown


@pytest.mark.slow
def test_report_card_and_record_say_it(source, tmp_path, capsys):
    out = tmp_path / "out"
    settings = ["--config", str(tmp_path / "tiny.yaml"), "--input", str(source), "--output", str(out)]
    assert main(["run", "--quiet", *settings]) == 0
    assert SAID in capsys.readouterr().out
    for name in ("report.html", "bundle/README.md", "bundle/recipe.json", "bundle/croissant.json"):
        assert SAID in (out / name).read_text(), name
    assert "patients unknown: split by image." in (out / "evaluate/checklist.md").read_text()
    facts = json.loads((out / "record.json").read_text())["stages"]["ingest"]
    assert facts["patients_known_by"]["nothing"] == 16
    assert any(note.startswith(SAID) for note in facts["notes"])
