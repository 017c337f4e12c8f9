"""A tiny real job: phantom DICOM studies, a configuration of seconds, and one finished run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medidistill.cli import main
from tests.support.made_once import made_once

CONFIG = """\
name: tiny
notice: A notice that must reach the reader.
seed: 3
threads: 1
deliver: iadd
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 3, batch_size: 16}
distill:
  ipc: 1
  outer_steps: 80
  inner_steps: 2
  expert_epochs: 1
  max_start: 2
  validate_every: 20
  checkpoint_every: 5
evaluate:
  {num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5, batch_size: 16}}
"""


@dataclass(frozen=True)
class Tiny:
    """Where the shared parts of these tests lie."""

    config: Path
    phantoms: Path
    finished: Path

    def arguments(self, output: Path, *more: str) -> list[str]:
        """Return the arguments of a whole run into `output`."""
        return ["run", "--config", str(self.config), "--input", str(self.phantoms), "--output", str(output), *more]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return _tiny(made_once(tmp_path_factory, "tiny", _make_tiny))


def _tiny(root: Path) -> Tiny:
    return Tiny(root / "tiny.yaml", root / "phantoms", root / "finished")


def _make_tiny(root: Path) -> None:
    parts = _tiny(root)
    parts.config.write_text(CONFIG)
    made = ["phantom", str(parts.phantoms), "--patients-per-class", "8", "--images-per-patient", "2", "--size", "64"]
    assert main([*made, "--quiet"]) == 0
    assert main([*parts.arguments(parts.finished), "--quiet"]) == 0


@pytest.fixture(autouse=True)
def nothing_is_drawn(blank_figures: None) -> None:
    """Leave figures blank in every test of the command line; those of the run that all of them share are drawn."""


@pytest.fixture
def finished(tiny: Tiny, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    shutil.copytree(tiny.finished, tmp_path / "finished")
    return tmp_path / "finished"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of small PNG files, see `draw_pictures`."""
    return draw_pictures(tmp_path / "pictures")


def draw_pictures(folder: Path) -> Path:
    """Make a folder of PNG files with labels.csv: two classes, three splits, two images a patient."""
    rng, rows = np.random.default_rng(0), []
    folder.mkdir()
    for label in ("sick", "well"):
        for number, split in enumerate(("train", "train", "val", "test")):
            for image in range(2):
                name = f"{label}-{number}-{image}.png"
                Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(folder / name)
                rows.append(f"{name},{label},{label}{number},{split}")
    (folder / "labels.csv").write_text("\n".join(["path,label,patient_id,split", *rows]) + "\n")
    return folder
