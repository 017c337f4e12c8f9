"""The whole way in a real browser: choose X-rays, distil, watch it finish, compare, download the bundle, verify it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medidistill.export import load, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 600_000  # ms; a run of seconds on an idle machine


@pytest.fixture
def address(made, tmp_path) -> Iterator[str]:
    """The app as the command serves it; its folder of runs is empty."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = ["app", "--root", str(tmp_path / "runs"), "--images", str(made.root), "--port", str(port)]
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true"}
    app = subprocess.Popen([sys.executable, "-m", "medidistill", *arguments], env=environment, start_new_session=True)
    until = time.monotonic() + 300
    while True:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health") as answer:
                assert answer.status == 200
            break
        except OSError:
            assert app.poll() is None
            assert time.monotonic() < until
            time.sleep(0.5)
    yield f"http://localhost:{port}"
    os.killpg(app.pid, signal.SIGTERM)
    app.wait(60)


@pytest.fixture
def page(tmp_path) -> Iterator[Any]:
    """A page of a new Chromium with an empty profile."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=browser, args=FLAGS, viewport={"width": 1280, "height": 800}
        )
        context.set_default_timeout(PATIENCE)
        yield context.new_page()
        context.close()


def test_from_x_rays_to_a_verified_bundle(page: Any, address: str, tmp_path: Path) -> None:
    page.goto(address)
    page.get_by_text("Research use, not for diagnosis.").first.wait_for()
    page.get_by_role("combobox", name="Open a folder").click()
    page.get_by_role("option", name="phantoms").click()
    page.get_by_role("button", name="Use these X-rays").click()
    page.get_by_role("link", name="Distil them").click()

    page.get_by_text("Expected time on this machine").wait_for()
    page.get_by_role("textbox", name="Name of the run").fill("Browser test")
    page.get_by_text("Change what matters most").click()
    for label, value in (("Synthetic images per class", "1"), ("Outer steps", "20")):
        page.get_by_label(label, exact=True).fill(value)
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_text("The work goes on when you leave this page").wait_for()

    # a reload finds the run again by its address; no name of a folder stands in it
    assert "browser" not in page.url
    assert "run=" in page.url
    page.reload()
    page.get_by_text("Finished.", exact=True).wait_for()

    page.get_by_role("link", name="Compare").first.click()
    page.get_by_text("May I train on this set instead of the real X-rays?").first.wait_for()
    page.get_by_text("it stays open whether").first.wait_for()

    page.get_by_role("link", name="Export").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the bundle").click()
    archive = tmp_path / "bundle.zip"
    download.value.save_as(archive)
    zipfile.ZipFile(archive).extractall(tmp_path / "unpacked")
    (bundle,) = (tmp_path / "unpacked").iterdir()
    assert verify(bundle) == []
    assert len(load(bundle)) == 3

    page.get_by_role("link", name="Receive").click()
    page.locator("input[type=file]").set_input_files(archive)
    page.get_by_role("button", name="Open the bundle").click()  # every list has a button `Open`
    page.get_by_text("Whole: every one of").wait_for()
    assert list((tmp_path / "runs" / "received").iterdir())
