"""The whole way in a real browser: from Home to an answer and a verified bundle, and the receiver's way with it.

The clicks of a way are counted: seven lead from Home to the answer and the downloaded bundle.
"""

from __future__ import annotations

import hashlib
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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
PAGES = ("", "data", "new_run", "runs", "distill", "compare", "gallery", "privacy", "export", "receive")
# a run of seconds, whichever preset is chosen; the environment is stronger than a preset
SMALL = {
    "ingest__image_size": "16",
    "network__width": "4",
    "network__depth": "1",
    "experts__count": "2",
    "experts__epochs": "3",
    "distill__ipc": "1",
    "distill__outer_steps": "20",
    "distill__inner_steps": "2",
    "distill__expert_epochs": "1",
    "distill__max_start": "2",
    "distill__validate_every": "10",
    "distill__factor": "1",
    "distill__bits": "32",
    "distill__coarse": "1",
    "evaluate__num_networks": "2",
    "evaluate__full_epochs": "2",
    "evaluate__bootstrap": "100",
    "evaluate__arms": "[full, random, mtt, iadd]",
    "evaluate__small__steps": "5",
    "evaluate__adaptive__steps": "5",
}


@dataclass
class Seen:
    """What a page did beside being drawn.

    Args:
        page: the page.
        hosts: that were asked for anything.
        clicks: so far.
    """

    page: Any
    hosts: set[str] = field(default_factory=set)
    clicks: int = 0

    def click(self, target: Any) -> None:
        """Click, and count it."""
        self.clicks += 1
        target.click()


def small_run() -> dict[str, str]:
    return {f"MEDIDISTILL_SET__{key}": value for key, value in SMALL.items()}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder of runs that the app is given."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def address(made, runs, tmp_path) -> Iterator[str]:
    """The app as the command serves it."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = ["app", "--root", str(runs), "--images", str(made.root), "--port", str(port)]
    environment = {**os.environ, "STREAMLIT_SERVER_HEADLESS": "true", **small_run()}
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
def context(tmp_path) -> Iterator[Any]:
    """A new Chromium with an empty profile."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: install the package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=browser, args=FLAGS, viewport={"width": 1280, "height": 800}
        )
        opened.set_default_timeout(PATIENCE)
        yield opened
        opened.close()


@pytest.fixture
def seen(context) -> Seen:
    """A page, and every host that it asks for something."""
    found = Seen(context.new_page())
    found.page.on("request", lambda request: found.hosts.update(asked_host(request.url)))
    return found


@pytest.fixture
def page(seen) -> Any:
    """A page of a new browser, for tests that count nothing."""
    return seen.page


def asked_host(address: str) -> set[str]:
    """Return the host that an address asks; none for what the browser holds itself."""
    parts = urlsplit(address)
    return set() if parts.scheme in ("blob", "data") else {parts.hostname or ""}


def run_key(name: str) -> str:
    """Return how addresses name a run."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def settle(page: Any) -> None:
    """Wait until a page is drawn."""
    page.get_by_text("Research use, not for diagnosis").first.wait_for()
    page.wait_for_function("() => !document.querySelector('[data-testid=stStatusWidget], [data-testid=stSkeleton]')")


def test_from_home_to_the_answer_and_a_verified_bundle_in_seven_clicks(
    seen: Seen, address: str, tmp_path: Path
) -> None:
    page = seen.page
    page.goto(address)
    settle(page)
    seen.click(page.get_by_role("link", name="New run").first)
    seen.click(page.get_by_role("combobox", name="Open a folder"))
    seen.click(page.get_by_role("option", name="phantoms"))
    page.get_by_text("24 patients").wait_for()
    # what is still being drawn moves, and a click that begins on a button and ends beside it is none
    page.get_by_role("button", name="Start", exact=True).wait_for()
    page.get_by_text("Measuring this machine").first.wait_for(state="detached")
    settle(page)
    seen.click(page.get_by_role("button", name="Start", exact=True))
    page.get_by_text("The work goes on when you leave this page").wait_for()

    # a reload finds the run again by its address; no name of a folder stands in it
    assert "run=" in page.url
    assert "phantoms" not in page.url
    page.reload()
    page.get_by_text("Finished.", exact=True).wait_for()
    assert "Finished" in page.title()

    seen.click(page.get_by_role("link", name="Compare").first)
    page.get_by_text("May I train on this set instead of the real X-rays?").first.wait_for()
    page.get_by_text("it stays open whether").first.wait_for()

    seen.click(page.get_by_role("link", name="Export").first)
    with page.expect_download() as download:
        seen.click(page.get_by_role("button", name="Download"))
    assert seen.clicks <= 7
    archive = tmp_path / "bundle.zip"
    download.value.save_as(archive)
    zipfile.ZipFile(archive).extractall(tmp_path / "unpacked")
    (bundle,) = (tmp_path / "unpacked").iterdir()
    assert verify(bundle) == []
    assert len(load(bundle)) == 3
    assert seen.hosts == {"localhost"}


def test_receiver_opens_confirms_trains_and_tests_on_own_patients(
    seen: Seen, address: str, made, tmp_path: Path
) -> None:
    from medidistill.files import sha256_file

    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted((made.run / "bundle").rglob("*")):
            packed.write(file, f"bundle/{file.relative_to(made.run / 'bundle')}")
    page = seen.page
    page.goto(f"{address}/receive")
    settle(page)
    page.locator("input[type=file]").first.set_input_files(archive)
    page.get_by_role("button", name="Open the bundle").click()  # every list has a button `Open`
    page.get_by_text("Complete; sender not confirmed.").wait_for()
    page.get_by_role("textbox", name="The number that the sender told you").fill(
        sha256_file(made.run / "bundle" / "SHA256SUMS")
    )
    page.keyboard.press("Enter")
    page.get_by_text("Complete, and the sender's").wait_for()
    assert "bundle=" in page.url
    settle(page)
    page.get_by_text("Test on labelled X-rays of our own").click()
    page.get_by_text("Train on part of our own X-rays").wait_for()
    settle(page)
    page.wait_for_timeout(3000)  # a redraw closes an open list
    page.get_by_role("combobox", name="Open a folder").last.click()
    page.get_by_role("option", name="phantoms").click()
    settle(page)
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_text("Trained.").wait_for()
    page.get_by_text("networks trained on the bundle differ in balanced accuracy").wait_for()
    page.get_by_text("On the sender's patients", exact=True).wait_for()
    page.reload()  # the address keeps the bundle, and the confirmation stays
    page.get_by_text("Complete, and the sender's").wait_for()
    assert seen.hosts == {"localhost"}


def test_every_page_asks_nobody_but_this_machine_and_is_accessible(seen: Seen, address: str, runs: Path, made) -> None:
    shutil.copytree(made.run, runs / "first")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page, grave = seen.page, []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name in PAGES:
            page.goto(f"{address}/{name}")
            settle(page)
            found = axe.Axe().run(page).response["violations"]
            grave += [
                f"{scheme} {name or 'home'}: {one['id']}: {one['nodes'][0]['html'][:200]}"
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
    assert not grave, "\n".join(grave)
    assert seen.hosts == {"localhost"}


def test_second_tab_follows_when_a_run_that_had_ended_works_again(
    seen: Seen, context: Any, address: str, runs: Path, made
) -> None:
    shutil.copytree(made.run, runs / "first")
    page, other = seen.page, context.new_page()
    page.goto(f"{address}/distill?run={run_key('first')}")  # the finished demo lies beside it
    page.get_by_text("Finished.", exact=True).wait_for()
    here = page.url
    other.goto(f"{address}/privacy?run={run_key('first')}")
    other.get_by_text("Measure it: start an audit").click()
    other.get_by_role("button", name="Start the audit").click()
    other.get_by_text("The work goes on when you leave this page").wait_for()
    page.get_by_text("The work goes on when you leave this page").wait_for()  # nobody touched this tab
    assert page.url == here
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_text("Finished.", exact=True).wait_for()
    other.get_by_text("Finished.", exact=True).wait_for()


def test_back_needs_one_press_and_the_view_is_in_the_address(seen: Seen, address: str, runs: Path, made) -> None:
    shutil.copytree(made.run, runs / "first")
    page = seen.page
    page.goto(f"{address}/?run={run_key('first')}")
    settle(page)
    page.get_by_role("link", name="Compare").first.click()
    page.get_by_text("Networks trained on all real X-rays").wait_for()
    settle(page)
    page.get_by_role("radio", name="ROC curves").click()
    page.get_by_role("button", name="Picture (SVG)").wait_for()
    assert "view=roc" in page.url
    page.reload()
    page.get_by_role("button", name="Picture (SVG)").wait_for()
    page.get_by_role("link", name="Gallery").first.click()
    page.get_by_text("Beside the nearest real images").wait_for()
    page.go_back()
    page.get_by_role("button", name="Picture (SVG)").wait_for()
    page.go_back()
    page.get_by_text("Networks trained on all real X-rays").wait_for()
    page.go_back()
    page.get_by_text("Six steps").wait_for()
