"""The verdict and a purpose in a real browser: what was chosen survives a reload, by the address alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from .test_browser import address, context, page, run_key, runs, seen  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_purpose_survives_a_reload_and_the_verdict_leads_three_pages(
    page: Any,  # noqa: F811
    address: str,  # noqa: F811
    made: Any,
    tmp_path: Path,
) -> None:
    (tmp_path / "runs").mkdir(exist_ok=True)
    shutil.copytree(made.run, tmp_path / "runs" / "first")
    run = run_key("first")  # the demo lies beside it
    sentence = json.loads((made.run / "verdict.json").read_text())["sentence"]
    for name in ("compare", "export"):
        page.goto(f"{address}/{name}?run={run}")
        page.get_by_text("May I train on this set instead of the real X-rays?").first.wait_for()
        page.get_by_text(sentence).first.wait_for()
    page.get_by_text("Delivered is the set of").first.wait_for()

    page.goto(f"{address}/compare?run={run}")
    page.get_by_text("For my purpose").click()
    prevalence = page.get_by_label("Prevalence (%)", exact=True)
    prevalence.fill("2")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("prevalence=2(&|$)"))
    slider = page.get_by_role("slider")
    slider.focus()
    before = page.url
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("before => location.href !== before", arg=before)
    page.wait_for_timeout(3000)
    there = page.url

    page.goto("about:blank")
    page.goto(there)
    page.get_by_text("Missed per 1,000").wait_for()
    assert page.get_by_label("Prevalence (%)", exact=True).input_value() == "2.0"
    assert page.url == there
    threshold = float(re.search(r"threshold=([0-9.]+)", there)[1])
    page.get_by_text(f"{threshold:.1f} %", exact=True).first.wait_for()
