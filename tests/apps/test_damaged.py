"""Damaged files of a run: an error in words where they are read, no page of Home, no traceback, no absolute path."""

from __future__ import annotations

import json
import shutil

import pytest

from medidistill.errors import MedidistillError
from medidistill.pipeline import RunFolder

CONTENTS = ["{}", "[]", "null", '{"a": 1', ""]


@pytest.fixture
def run(finished):
    """The run, read anew."""
    from view_models.places import Places
    from view_models.runs import read_run

    (finished / "evaluate" / "external").mkdir()
    shutil.copy(finished / "evaluate" / "verdicts.json", finished / "evaluate" / "external")
    return read_run(Places.of(), finished)


def _outlook(run):
    from view_models.releases import read_outlook

    return read_outlook(run)


def _standing(run):
    from view_models.releases import read_standing

    return read_standing(run)


def _elsewhere(run):
    from view_models.verdict import read_verdict

    return read_verdict(run, elsewhere=True)


def _history(run):
    from view_models.training import distillation

    return distillation(run, "iadd")


def _tables(run):
    from view_models.ingested import read_ingested

    return read_ingested(run)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("release-check.json", _outlook),
        ("bundle/recipe.json", _standing),
        ("evaluate/external/verdicts.json", _elsewhere),
        ("distill/iadd/history.json", _history),
        ("ingest/manifest.csv", _tables),
        ("ingest/quarantine.csv", _tables),
    ],
)
def test_a_damaged_file_is_an_error_in_words(name, read, content, run):
    assert read(run) is not None
    (run.folder.path / name).write_text(content)
    if (name, content) == ("distill/iadd/history.json", "{}"):
        assert not read(run).entries
        return
    with pytest.raises(MedidistillError):
        read(run)


@pytest.mark.parametrize("content", [*CONTENTS, '{"alt": "a", "caption": "b", "cases": [{"outcome": "x"}]}'])
def test_a_damaged_grad_cam_is_an_error_in_words(content, run):
    from view_models.saliency import read_explained

    run.folder.explained.mkdir()
    (run.folder.explained / "picture.png").write_bytes(b"x")
    (run.folder.explained / "cases.json").write_text(content)
    with pytest.raises(MedidistillError):
        read_explained(run)


def test_a_grad_cam_without_its_picture_is_an_error_in_words(run):
    from view_models.saliency import read_explained

    run.folder.explained.mkdir()
    cases = [{"outcome": "both are right", "true class": "normal"}]
    (run.folder.explained / "cases.json").write_text(json.dumps({"alt": "a", "caption": "b", "cases": cases}))
    with pytest.raises(MedidistillError, match="not whole"):
        read_explained(run)


@pytest.mark.parametrize(
    ("name", "content"), [("audit/audit.json", '{"a":'), ("bundle/recipe.json", "[]"), ("verdict.json", "{")]
)
def test_home_stands_one_damaged_run(name, content, finished, root, open_page, text_of):
    file = finished / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    test = open_page("home")
    shown = text_of(test)
    assert not test.error
    assert "Last runs" in shown
    assert str(root) not in shown


def test_a_damaged_history_leaves_the_rest_of_progress(finished, root, open_page, text_of):
    (finished / "distill" / "iadd" / "history.json").write_text('{"a": 1')
    test = open_page("distill")
    (said,) = (one.value for one in test.error)
    assert "distill/iadd/history.json" in said
    assert str(root) not in said
    assert "How the distillation goes" in text_of(test)  # the other method


def test_a_damaged_status_is_a_line_in_the_fragment(finished, root, open_page, text_of):
    (finished / "status.json").write_text("[]")
    test = open_page("distill")
    assert test.error
    assert str(root) not in text_of(test)


def test_the_loss_is_explained_by_what_a_method_lowers(finished, open_page, text_of):
    shown = text_of(open_page("distill"))
    assert ("a loss of another kind" in shown, shown.count("below 1 a network")) == (False, 1)
    settings = RunFolder(finished).config_file
    settings.write_text(settings.read_text().replace("methods: {}", "methods: {mtt: {objective: snapshots}}"))
    shown = text_of(open_page("distill"))
    assert "a loss of another kind" in shown
    assert shown.count("below 1 a network") == 1
