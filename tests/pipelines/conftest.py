"""Films, a hospital that has not sent them yet, and one whose batch was processed."""

from __future__ import annotations

import csv
import os
import shutil

import pydicom
import pytest

from medidistill.cli import main
from medidistill.config import PhantomConfig
from medidistill.ingest import generate_phantom

from ..support.undrawn import undrawn


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Phantoms of 15 patients, one study each, in three classes."""
    folder = tmp_path_factory.mktemp("films")
    generate_phantom(folder, PhantomConfig(patients_per_class=5, images_per_patient=2, size=64), progress=False)
    found = {path.relative_to(folder).as_posix(): pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))}
    with open(folder / "labels.csv", newline="") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    return [(film, labels[name]) for name, film in found.items()]


@pytest.fixture
def hospital(tmp_path, films):
    """A hospital whose intake holds nothing yet."""
    from .hospital import Hospital  # needs the extra for PACS, which other tests of this folder do without

    return Hospital(tmp_path / "hospital", films)


@pytest.fixture(scope="session")
def processed(tmp_path_factory, films):
    """An intake that was processed in this process: children then find every module loaded."""
    from .hospital import Hospital

    warm = Hospital(tmp_path_factory.mktemp("warm") / "hospital", films)
    warm.receive()
    with undrawn():
        before = os.umask(0)
        try:
            assert main(warm.arguments()) == 0
            assert os.umask(0) == 0
        finally:
            os.umask(before)
    return warm


@pytest.fixture
def delivered(hospital, processed):
    """An intake with one batch that was delivered, for a test to change."""
    shutil.copytree(processed.intake, hospital.intake)
    return hospital
