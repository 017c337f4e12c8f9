"""The viewer of X-rays in a real browser: a file is looked at, excluded with a reason, and taken back."""

from __future__ import annotations

from typing import Any

import pytest

from .test_browser import address, context, runs, seen, settle  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_file_is_excluded_with_a_reason_and_taken_back(seen: Any, address: str, runs: Any) -> None:  # noqa: F811
    page = seen.page
    page.goto(f"{address}/data")
    settle(page)
    page.get_by_role("combobox", name="Open a folder").click()
    page.get_by_role("option", name="phantoms").click()
    page.get_by_text("Images with a label").wait_for()
    page.get_by_text("Show these patients' images").click()
    page.get_by_role("button", name="View").first.click()
    page.get_by_role("textbox", name="Reason to exclude this file").fill("cut off at the left")
    page.get_by_role("button", name="Exclude this file", exact=True).click()
    page.get_by_text("Excluded by hand (1)").click()
    page.get_by_text("cut off at the left").wait_for()
    settle(page)
    page.get_by_role("button", name="Use it again", exact=True).click()
    page.get_by_text("Excluded by hand").wait_for(state="detached")
    assert seen.hosts == {"localhost"}
