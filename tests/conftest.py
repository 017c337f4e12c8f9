"""Shared by all tests: one thread, the real data where there are any, and where the checkout is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# the same number of threads everywhere: sums of floats depend on it, and small networks are no faster with more
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real X-rays; skips the test where MEDIDISTILL_DATA does not name one."""
    value = os.environ.get("MEDIDISTILL_DATA", "")
    if not value:
        pytest.skip("MEDIDISTILL_DATA is not set: no real X-rays here")
    if not Path(value).is_dir():
        pytest.fail(f"MEDIDISTILL_DATA={value}: no such folder")
    return Path(value)
