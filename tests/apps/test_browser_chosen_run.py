"""Every page that starts work on a run shows that run afterwards, in a real browser and beside a newer run."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from .test_browser import address, context, page, run_key, runs, seen, settle  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

TITLE = "The older run"


def ended(page: Any) -> None:  # noqa: F811
    """Wait until the work on the run has ended, and check that the page shows this run and no other."""
    page.wait_for_url(re.compile("/distill"))
    page.get_by_role("heading", name=TITLE).wait_for()
    assert parse_qs(urlsplit(page.url).query)["run"] == [run_key("first")]
    page.get_by_text("The work goes on when you leave this page").wait_for(state="detached")
    page.get_by_text(re.compile("^Finished")).first.wait_for()
    assert page.get_by_role("heading", name=TITLE).is_visible()
    assert parse_qs(urlsplit(page.url).query)["run"] == [run_key("first")]


def open_list(page: Any, name: str) -> None:  # noqa: F811
    """Open a list of options; again where a redraw of the page has closed it."""
    for _ in range(20):
        page.get_by_role("combobox", name=name).click()
        page.wait_for_timeout(3000)
        if page.get_by_role("option").count():
            return
    raise AssertionError(f"the list {name!r} does not stay open")


def test_make_it_attack_write_again_and_release_keep_the_chosen_run(
    page: Any,  # noqa: F811
    address: str,  # noqa: F811
    runs: Path,  # noqa: F811
    made: Any,
) -> None:
    from view_models.places import Places
    from view_models.run_labels import write_label

    for name in ("first", "second"):
        shutil.copytree(made.run, runs / name)
    os.utime(runs / "second" / "run.yaml")  # the newest is shown where nothing is chosen
    write_label(Places(runs, ()), run_key("first"), TITLE, "")
    key = run_key("first")

    page.goto(f"{address}/compare?run={key}&view=looks")
    page.get_by_role("button", name="Make it").click()
    ended(page)

    page.goto(f"{address}/privacy?run={key}")
    settle(page)
    page.get_by_text("Measure it: start an audit").click()
    page.get_by_role("button", name="Start the audit").click()
    ended(page)

    page.get_by_role("link", name="Privacy").first.click()  # by the links of the page, not by an address
    page.get_by_role("button", name="Write bundle and report again").click()
    ended(page)

    page.get_by_role("link", name="Export").first.click()
    page.get_by_text("Release it in spite of failed rules").click()
    settle(page)
    open_list(page, "Rules that failed")
    page.get_by_role("option", name="Select all").click()
    page.keyboard.press("Escape")
    settle(page)
    page.get_by_role("textbox", name="Name of who answers for it").fill("A tester of phantoms")
    page.get_by_role("textbox", name="Reason").fill("Phantoms show nobody.")
    page.get_by_role("button", name="Release in spite of these rules").click()
    ended(page)
    page.get_by_role("link", name="Export").first.click()
    page.get_by_role("button", name=re.compile("^Download the bundle")).wait_for()
    assert parse_qs(urlsplit(page.url).query)["run"] == [key]
