"""The workplace of the fault campaign; see `workplace.py`."""

from __future__ import annotations

import importlib
import time

import numpy as np
import pytest
from PIL import Image

from medidistill.cli import main

from .workplace import CONFIG, START, Workplace, events, wait


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    root = tmp_path_factory.mktemp("faults")
    place = Workplace(root, root / "tiny.yaml", root / "pictures")
    place.config.write_text(CONFIG)
    place.pictures.mkdir()
    rng, rows = np.random.default_rng(0), []
    for label in ("sick", "well"):
        for patient in range(8):
            split = ("train", "train", "train", "train", "val", "val", "test", "test")[patient]
            for image in range(2):
                name = f"{label}-{patient}-{image}.png"
                Image.fromarray(rng.integers(0, 255, (20, 20), dtype=np.uint8)).save(place.pictures / name)
                rows.append(f"{name},{label},{label}{patient},{split}")
    (place.pictures / "labels.csv").write_text("\n".join(["path,label,patient_id,split", *rows]) + "\n")
    # once in this process: the children then find every module loaded
    assert main(place.arguments(root / "warm")) == 0
    importlib.import_module("medidistill.report")
    began = time.monotonic()
    child = place.start(root / "whole", None, None, "--until", "report")
    while not events(root / "whole"):
        time.sleep(0.001)
    before = time.monotonic() - began
    assert wait(child) == 0
    place.measure(root / "whole")
    place.seconds[START] = before
    place.check(root / "warm")
    return place
