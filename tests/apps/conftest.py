"""One tiny real run for all pages, and how a page is opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from medidistill.cli import main
from medidistill.pipeline import app_file
from tests.support.made_once import made_once
from tests.support.undrawn import undrawn

CONFIG = """\
name: tiny
notice: A notice that must reach the reader.
seed: 3
threads: 1
ingest: {image_size: 16, classes: [normal, lobar_pneumonia, bilateral_peripheral_opacities]}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 3, batch_size: 16}
distill:
  {ipc: 1, outer_steps: 20, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 10, checkpoint_every: 5}
evaluate:
  {num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5, batch_size: 16}}
"""


@dataclass(frozen=True)
class Made:
    """What the tests share and do not change."""

    root: Path
    config: Path
    phantoms: Path
    run: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _made(made_once(tmp_path_factory, "app", _make))


def _made(root: Path) -> Made:
    return Made(root, root / "tiny.yaml", root / "phantoms", root / "first")


def _make(root: Path) -> None:
    parts = _made(root)
    parts.config.write_text(CONFIG)
    phantoms = ["phantom", str(parts.phantoms), "--patients-per-class", "8", "--images-per-patient", "2"]
    assert main([*phantoms, "--size", "64", "--quiet"]) == 0
    whole = ["run", "--config", str(parts.config), "--input", str(parts.phantoms), "--output", str(parts.run)]
    with undrawn():  # no page of the app shows a picture of the report
        assert main([*whole, "--quiet"]) == 0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs that the app is pointed at."""
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setenv("MEDIDISTILL_RUNS", str(folder))
    monkeypatch.setenv("MEDIDISTILL_IMAGES", "")
    monkeypatch.delenv("MEDIDISTILL_LOGIN", raising=False)
    return folder


@pytest.fixture
def places(root: Path) -> Any:
    """The folders that the app may look into."""
    from view_models.places import Places

    return Places.of()


@pytest.fixture
def sources(root: Path) -> Any:
    """The module that reads folders of X-rays and uploads."""
    from view_models import sources

    return sources


@pytest.fixture
def finished(root: Path, made: Made) -> Path:
    """A finished run that a test may change."""
    shutil.copytree(made.run, root / "first")
    return root / "first"


@pytest.fixture
def open_page(root: Path) -> Callable[..., AppTest]:
    """Return a function that opens a page of the app and checks what every page must show."""

    def opened(page: str = "", **state: str) -> AppTest:
        test = AppTest.from_file(str(app_file()), default_timeout=120)
        for name, value in state.items():
            test.session_state[name] = value
        if page:
            test.switch_page(f"app_pages/{page}.py")
        test.run()
        assert not test.exception, test.exception[0].message
        assert any("Research use, not for diagnosis" in one.value for one in test.markdown)
        return test

    return opened


@pytest.fixture(scope="session")
def text_of() -> Callable[[AppTest], str]:
    """Return a function that gives every sentence that a page shows."""

    def shown(test: AppTest) -> str:
        kinds = (test.markdown, test.info, test.warning, test.error, test.success, test.caption, test.subheader)
        return "\n".join(str(one.value) for kind in (*kinds, test.code) for one in kind)

    return shown
