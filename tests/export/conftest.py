from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from .bundle_example import write

# for `--hypothesis-profile=long`: goes on for as long as it is let
settings.register_profile("long", max_examples=10**6, deadline=None)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test changes."""
    return write(tmp_path_factory.mktemp("written") / "bundle")


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    """A bundle that a test may change."""
    return Path(shutil.copytree(written, tmp_path / "bundle"))
