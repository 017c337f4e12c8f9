"""The verdict at the top of the report."""

from __future__ import annotations

from html import unescape

import pytest

from medidistill.report import render

from ..evaluate.verdict_example import criterion, good, verdict
from .report_example import report_data

pytestmark = pytest.mark.usefixtures("blank_figures")

RED = verdict([*good(), criterion(-0.3, -0.2), criterion(None)], warnings=("Sites <b>tell</b> the class.",))


@pytest.mark.parametrize("told", [verdict(good()), RED], ids=["green", "red"])
def test_the_words_stand_before_every_other_result(told):
    page = render(report_data(verdict=told))
    shown = unescape(page)
    for words in (told.sentence, *told.missing, *told.warnings, told.chosen_by):
        assert words in shown
    assert page.index("May I train on this set") < page.index("<h2>In short</h2>")
    assert f'class="verdict {told.colour.value}"' in page
    assert "<b>tell" not in page
    box = page[page.index('<section class="verdict') : page.index("<h2>In short</h2>")]
    assert box.count('<tr><th scope="row">all real X-rays</th>') == sum(c.against == "full" for c in told.criteria)


def test_a_report_without_a_verdict_has_no_box():
    assert "May I train on this set" not in render(report_data())
