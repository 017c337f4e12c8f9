"""The verdict on Compare, Export and Receive: the same words as in report, card and status; damaged and absent ones."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape

import pytest

from medidistill.cli import main


def words(path) -> list[str]:
    """Every sentence of a stored verdict that must stand wherever the verdict does."""
    stored = json.loads(path.read_text())
    return [stored["sentence"], *stored["missing"], *stored["warnings"]]


def unmarked(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def test_the_same_words_stand_everywhere(open_page, finished, text_of, capsys, root):
    stored = words(finished / "verdict.json")
    assert len(stored) > 3
    capsys.readouterr()
    assert main(["status", str(finished)]) == 0
    places = {
        "status": capsys.readouterr().out,
        "card": (finished / "bundle" / "README.md").read_text(),
        "recipe": json.dumps(json.loads((finished / "bundle" / "recipe.json").read_text())["verdict"]),
        "report": unescape((finished / "report.html").read_text()),
        "compare": unmarked(text_of(open_page("compare"))),
        "export": unmarked(text_of(open_page("export"))),
    }
    (root / "received" / "theirs").mkdir(parents=True)
    shutil.copytree(finished / "bundle", root / "received" / "theirs" / "bundle")
    places["receive"] = unmarked(text_of(open_page("receive")))
    lacking = [(place, one) for place, shown in places.items() for one in stored if one not in shown]
    assert lacking == []


def test_the_delivered_method_and_its_rule_stand_on_export(open_page, finished, text_of):
    shown = text_of(open_page("export"))
    assert re.search(r"Delivered is the set of (IADD|MTT)\\?: the best on the validation patients", shown)


@pytest.mark.parametrize("page", ["compare", "export"])
def test_a_verdict_that_contradicts_its_figures_is_not_shown(page, open_page, finished, text_of):
    file = finished / "verdict.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"colour": "green", "sentence": "Yes: take it."}))
    test = open_page(page)
    assert "Yes: take it" not in unmarked(text_of(test))
    assert any("states 'green', its criteria say 'amber'" in one.value for one in test.error)


@pytest.mark.parametrize("page", ["compare", "export"])
def test_a_run_of_an_earlier_version_has_no_verdict_and_says_so(page, open_page, finished, text_of):
    (finished / "verdict.json").unlink()
    assert "No verdict: this run" in text_of(open_page(page))
