"""The summary as PDF: what stands on it, that it is one page, and that nothing runs over its edge."""

from __future__ import annotations

import re
import zlib

import pytest

from medidistill.report.summary import summary_lines, summary_pdf

from ..evaluate.verdict_example import criterion, good, verdict
from .report_example import report_data

LONG = "A class whose name is long and a warning that goes on for more than one line of the page and must be wrapped."
TOLD = verdict([*good(), criterion(-0.3, -0.2), criterion(None)], warnings=(LONG, "Costs $5 or $6."))


def text_of(lines) -> str:
    return "\n".join(" ".join(line.cells) for line in lines)


def test_words_figures_and_cautions_stand_on_it():
    data = report_data(verdict=TOLD)
    shown = text_of(summary_lines(data))
    for words in (TOLD.sentence, *TOLD.missing, *TOLD.warnings, TOLD.chosen_by, data.notice, data.title):
        assert words in shown
    assert "480 test images of 402 patients" in shown
    assert "distilled images (IADD) 15 0.710 [0.670, 0.750]" in shown
    assert shown.count("all real X-rays AUROC") == 3
    assert "Research use. Not for diagnosis." in shown


def test_a_run_without_a_verdict_says_so():
    assert "No verdict" in text_of(summary_lines(report_data()))


@pytest.mark.parametrize("warnings", [0, 12])
def test_it_is_one_page_whose_letters_stay_on_it(warnings):
    content = summary_pdf(report_data(verdict=verdict(good(), warnings=(LONG,) * warnings)))
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", content)) == 1
    assert b"595 842" in content
    streams = [zlib.decompress(one) for one in re.findall(rb"stream\r?\n(x.*?)\r?\nendstream", content, re.DOTALL)]
    page = next(one for one in streams if b"BT" in one)
    found = re.findall(rb"(-?[\d.]+) (-?[\d.]+) cm\nBT", page)
    places = [(float(x), float(y)) for x, y in found]
    assert len(places) > 30
    assert min(y for _, y in places) > 20
    assert max(y for _, y in places) < 822
    assert min(x for x, _ in places) >= 40


def test_the_same_run_gives_the_same_bytes():
    data = report_data(verdict=TOLD)
    assert summary_pdf(data) == summary_pdf(data)
    assert b"CreationDate" not in summary_pdf(data)
