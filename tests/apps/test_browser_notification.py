"""The notification at the end of a run, by a real browser that was given permission."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from .test_browser import address, context, run_key, runs, seen, settle  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

# keeps what the page asks the browser to show, and lets it do so
_NOTED = """
window.noted = [];
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) { super(title, options); window.noted.push([title, options.body]); }
};
"""


def test_end_of_a_run_is_notified_once_after_permission_by_a_button(
    seen: Any,  # noqa: F811
    context: Any,  # noqa: F811
    address: str,  # noqa: F811
    runs: Path,  # noqa: F811
    made: Any,
) -> None:
    shutil.copytree(made.run, runs / "first")
    page = seen.page
    page.add_init_script(_NOTED)
    page.goto(f"{address}/privacy?run={run_key('first')}")
    settle(page)
    assert not page.get_by_role("button", name="Notify me when it ends").is_visible()
    page.get_by_text("Measure it: start an audit").click()
    page.get_by_role("button", name="Start the audit").click()
    page.get_by_text("The work goes on when you leave this page").wait_for()
    context.grant_permissions(["notifications"], origin=address)  # what a user answers to the question
    button = page.get_by_role("button", name="Notify me when it ends")
    if button.is_visible():
        button.click()
    page.get_by_text("This browser notifies you when it ends.").wait_for()
    page.get_by_role("button", name="Stop the run").click()
    page.get_by_text("Finished.", exact=True).wait_for()
    page.wait_for_function("() => window.noted.length === 1")
    assert page.evaluate("() => window.noted") == [["medidistill", "Run finished."]]
    page.get_by_role("link", name="Compare").first.click()
    page.get_by_text("Networks trained on all real X-rays").first.wait_for()
    assert page.evaluate("() => window.noted.length") == 1
    assert seen.hosts == {"localhost"}
