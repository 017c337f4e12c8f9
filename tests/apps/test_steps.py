"""The six steps on Home: how far a run has come, and what comes next."""

from __future__ import annotations

import pytest

from medidistill.config import RunConfig
from medidistill.pipeline import RunFolder


@pytest.fixture
def places(root):
    from view_models.places import Places

    return Places.of()


def states(run, state=None, source=""):
    from view_models.steps import steps

    return {step.page: step.state for step in steps(run, state, source)}


def test_without_a_run_the_first_step_is_next_and_one_only(root):
    assert states(None) == {
        "data": "next",
        "new_run": "later",
        "compare": "later",
        "privacy": "later",
        "export": "later",
        "receive": "later",
    }
    assert states(None, source="/somewhere")["new_run"] == "next"


def test_run_at_work_is_watched(places):
    from view_models.runs import RunState, read_run

    folder = RunFolder.create(places.runs / "half", RunConfig(name="half"))
    found = states(read_run(places, folder.path), RunState("running"), "/x")
    assert (found["new_run"], found["compare"], found["privacy"]) == ("done", "now", "later")


def test_finished_run_has_its_answer_and_its_bundle_and_lacks_an_audit(places, finished, open_page, text_of):
    from view_models.runs import read_run, run_state
    from view_models.steps import steps

    found = {step.page: step for step in steps(read_run(places, finished), run_state(places, finished))}
    assert [found[page].state for page in ("data", "new_run", "compare", "privacy")] == ["done", "done", "done", "next"]
    assert (found["export"].state, found["export"].said) == ("done", "written, not released")
    shown = text_of(open_page("home"))
    assert "written, not released" in shown
    assert "Last runs" in shown


def test_every_technical_word_of_a_tooltip_is_in_the_glossary(root):
    import re
    from pathlib import Path

    from view_models.words import GLOSSARY, explain

    pages = Path(__file__).parents[2] / "apps" / "app_pages"
    asked = {
        word
        for file in pages.glob("*.py")
        for call in re.findall(r"explain\(([^)]*)\)", file.read_text())
        for word in re.findall(r'"([^"]+)"', call)
    }
    assert asked
    assert asked <= set(GLOSSARY)
    assert explain("AUROC").startswith("**AUROC**: ")
