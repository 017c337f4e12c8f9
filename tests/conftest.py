"""Shared by all tests: one thread, the real data where there are any, and where the checkout is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.undrawn import undrawn

# the same number of threads everywhere: sums of floats depend on it, and small networks are no faster with more
torch.set_num_threads(1)


# the files that take longest; they begin first, so that none of them is still at work when the other workers have ended
_LONG = (
    "apps/test_pages.py",
    "pipelines/test_intake.py",
    "pipelines/test_nightly.py",
    "apps/test_jobs.py",
    "cli/test_run.py",
    "apps/test_checking.py",
    "pipelines/test_intake_killed.py",
    "pipelines/test_intake_keeping.py",
    "distillation/test_loop.py",
    "report/test_figures_clinical.py",
    "pipeline/test_comparing.py",
    "ingest/deidentify/test_folder.py",
    "cli/test_staged_run.py",
    "cli/test_guarantee.py",
    "cli/test_merge.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; with `--no-loadscope-reorder` the workers of pytest-xdist take files in this order."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Seed torch's global generator, so that a test that draws from it has the same numbers in every order of tests."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Fail the test that leaves the process with another umask: whatever runs after it would write other modes."""
    before = os.umask(0o077)
    os.umask(before)
    yield
    left = os.umask(before)
    assert left == before, f"this test left the umask {left:03o}; it found {before:03o}"


@pytest.fixture
def blank_figures() -> Iterator[None]:
    """Leave the figures of reports undrawn."""
    with undrawn():
        yield


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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `NAME-ca.pem`, and `NAME.pem` with `NAME.key` for 127.0.0.1, of two authorities: ours and another."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")

    def openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ours", "other"):
        openssl(*new, "-x509", "-subj", f"/CN={name}", "-keyout", f"{name}-ca.key", "-out", f"{name}-ca.pem")
        openssl(*new, "-subj", "/CN=127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        authority = ("-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key")
        openssl("x509", "-req", "-in", f"{name}.csr", *authority, "-extfile", "names", "-out", f"{name}.pem")
    return folder
