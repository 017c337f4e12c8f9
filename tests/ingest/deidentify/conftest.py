"""A key, and phantoms that carry values at every place that the benchmark knows."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import FileDataset

from medidistill.config import PhantomConfig
from medidistill.ingest import generate_phantom
from medidistill.ingest.deidentify import Key

SECRET = "correct-horse-battery-staple-0123456789"


@pytest.fixture
def key() -> Key:
    return Key(SECRET.encode())


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "site.key"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("deidentify") / "phantoms"
    generate_phantom(folder, PhantomConfig(patients_per_class=5, images_per_patient=2, size=128))
    return sorted(folder.rglob("*.dcm"))


@pytest.fixture
def phantom(phantoms: list[Path]) -> FileDataset:
    return pydicom.dcmread(phantoms[0])
