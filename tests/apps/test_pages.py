"""Every page without a run, of a finished run, of an unfinished one, and of a damaged one."""

from __future__ import annotations

import gc
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from streamlit.testing.v1 import AppTest

from medidistill.cli.commands.app import give_demo
from medidistill.config import RunConfig
from medidistill.files import save_tensors
from medidistill.pipeline import RunFolder, app_file

PAGES = ("home", "data", "new_run", "runs", "distill", "compare", "gallery", "privacy", "export", "receive")


@pytest.mark.parametrize("page", ["distill", "compare", "gallery", "privacy", "export"])
def test_page_without_a_run_offers_the_demo(page, open_page, text_of):
    test = open_page(page)
    assert "Nothing to show yet" in text_of(test)
    assert test.button("make_demo").label == "Make the demo"


def test_pages_without_a_run_that_need_none(open_page, text_of):
    assert open_page("data").button("look_here").label == "Look into this folder"
    assert "No run yet" in text_of(open_page("runs"))
    home = text_of(open_page("home"))
    assert "Six steps" in home
    assert "**1. X-rays**" in home
    assert "No bundle was opened yet" in text_of(open_page("receive"))


@pytest.mark.parametrize("page", PAGES)
def test_page_of_a_finished_run_names_no_patient(page, open_page, finished, made, text_of):
    names = {line.split(",")[0].split("/")[0] for line in (made.phantoms / "labels.csv").read_text().splitlines()[1:]}
    assert names
    assert "p-" in (finished / "ingest" / "manifest.csv").read_text()
    test = open_page(page)
    shown = text_of(test)
    assert "PHANTOM^" not in shown
    assert not [name for name in names if name in shown]
    # what was neither audited nor released is said in red, and nothing else is
    said = {"privacy": ["**Nothing was audited"], "export": ["Not released: no gate"]}.get(page, [])
    assert [one.value[: len(text)] for one, text in zip(test.error, said, strict=True)] == said
    assert "finished" in "".join(one.value for one in test.sidebar.markdown)


@pytest.mark.parametrize("page", ["compare", "gallery", "export"])
def test_page_of_an_unfinished_run_says_what_comes_first(page, open_page, root, text_of):
    RunFolder.create(root / "half", RunConfig(name="half"))
    assert "Nothing to show yet" in text_of(open_page(page))


@pytest.mark.parametrize("page", ["distill", "compare", "gallery", "privacy", "export"])
def test_page_of_a_damaged_run_shows_one_line(page, open_page, finished):
    (finished / "record.json").write_text("{")
    test = open_page(page)
    assert ["record.json: not valid JSON" in one.value for one in test.error] == [True]


def test_notice_and_answer_lead_the_comparison(open_page, finished, text_of):
    shown = text_of(open_page("compare"))
    assert "A notice that must reach the reader." in shown
    assert re.search(r"\*\*(Yes|No|Not shown): on 6 test patients", shown)


@pytest.mark.parametrize("view", ["accuracy", "roc", "calibration", "decision", "probabilities", "confusion"])
def test_every_view_has_its_picture_its_table_and_both_as_files(view, open_page, finished):
    test = open_page("compare", view=view)
    assert len(test.image) == 1
    assert len(test.dataframe) == 1
    assert [one.label for one in test.download_button] == ["Picture (SVG)", "Figures (CSV)"]


def test_views_follow_the_chosen_arms(open_page, finished):
    test = open_page("compare", view="accuracy")
    arms = test.pills("arms")
    arms.set_value(["mtt", "iadd"]).run()
    assert set(test.dataframe[0].value["what"]) == {
        "distilled images (MTT)",
        "distilled images (IADD)",
        "distilled images (IADD) minus distilled images (MTT)",
    }


def test_subgroups_probe_and_files(open_page, finished, text_of):
    assert "**By site**" in text_of(open_page("compare", view="subgroups"))
    assert "probe" in text_of(open_page("compare", view="probe")).lower()
    labels = [one.label for one in open_page("compare", view="files").download_button]
    assert any("checklist.md" in label for label in labels)
    assert any("report.html" in label for label in labels)


def test_patients_from_elsewhere_are_a_view_of_their_own(open_page, finished, text_of):
    elsewhere = finished / "evaluate" / "external"
    assert "On patients from elsewhere" not in text_of(open_page("compare"))
    elsewhere.mkdir()
    for name in ("comparison.json", "clinical.json", "comparison.csv"):
        shutil.copy(finished / "evaluate" / name, elsewhere / name)
    changed = json.loads((elsewhere / "comparison.json").read_text())
    changed["rows"][0]["balanced_accuracy"] = {"estimate": 0.123, "low": 0.1, "high": 0.2}
    (elsewhere / "comparison.json").write_text(json.dumps(changed))
    own = open_page("compare")
    assert "0.123 [0.100, 0.200]" not in list(own.dataframe[0].value["balanced accuracy"])
    test = open_page("compare", scored="The test set from elsewhere")
    assert "On patients from elsewhere" in text_of(test)
    assert "0.123 [0.100, 0.200]" in list(test.dataframe[0].value["balanced accuracy"])
    files = [one.label for one in open_page("compare", view="files").download_button]
    assert any("elsewhere-comparison.csv" in label for label in files)


def test_what_networks_look_at_shows_patients_only_when_asked(open_page, finished, text_of):
    assert "No such picture was made" in text_of(open_page("compare", view="looks"))
    place = finished / "ingest" / "explained"
    place.mkdir()
    shutil.copy(Path(__file__).parents[2] / "docs" / "pictures" / "distilled.png", place / "picture.png")
    cases = [{"outcome": "both are right", "true class": "normal", "full": "normal 0.90", "iadd": "normal 0.60"}]
    (place / "cases.json").write_text(json.dumps({"alt": "a", "caption": "How to read it.", "cases": cases}))
    test = open_page("compare", view="looks")
    assert not test.image
    assert list(test.dataframe[0].value["iadd"]) == ["normal 0.60"]
    test.toggle("show_looks").set_value(True).run()
    assert len(test.image) == 1
    assert "How to read it." in text_of(test)
    shutil.rmtree(finished / "ingest")
    assert "none can be made now" in text_of(open_page("compare", view="looks"))


def test_each_case_lies_under_its_maps_at_the_resolution_of_its_film(open_page, finished, text_of):
    place = finished / "ingest" / "explained"
    place.mkdir()
    shutil.copy(Path(__file__).parents[2] / "docs" / "pictures" / "distilled.png", place / "picture.png")
    cases = [{"outcome": "both are right", "true class": name, "all real X-rays": "normal 0.90"} for name in "ab"]
    told = {"alt": "a", "caption": "How to read it.", "cases": cases, "arms": ["full", "iadd"]}
    (place / "cases.json").write_text(json.dumps(told))
    tensors = {f"{case}/film": torch.full((200, 200), 90, dtype=torch.uint8) for case in range(2)}
    tensors |= {f"{case}/map/{arm}": torch.rand(8, 8) for case in range(2) for arm in ("full", "iadd")}
    save_tensors(place / "cases.safetensors", tensors, {"kind": "explained_cases"})
    test = open_page("compare", view="looks")
    assert not test.image
    test.toggle("show_looks").set_value(True).run()
    assert not test.exception
    assert len(test.image) == 3
    assert "200 x 200 pixels here, its central square as the file holds it" in text_of(test)
    test.selectbox("looks_case").set_value(1).run()
    test.slider("looks_zoom").set_value(4.0).run()
    assert not test.exception
    assert test.slider("looks_across")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("", "they began as noise."),
        ("methods: {iadd: {init: gaussian}}", "they began as draws of class Gaussians."),
        ("methods: {mtt: {init: mixture}, iadd: {start_from: mtt}}", "they began as draws of Gaussians of patient"),
        ("methods: {mtt: {init: real}, iadd: {start_from: mtt}}", "The images are not shown here"),
        ("methods: {mtt: {init: real}, iadd: {init: gaussian, start_from: mtt}}", "The images are not shown here"),
    ],
)
def test_forming_images_are_shown_by_what_their_first_set_began_as(settings, said, open_page, finished, text_of):
    file = finished / "run.yaml"
    text = file.read_text()
    assert text.count("methods: {}") == 1
    file.write_text(text.replace("methods: {}", settings or "methods: {}"))
    shown = text_of(open_page("distill"))
    assert said in shown
    assert ("The images as they form" in shown) is ("not shown" not in said)


def test_gallery_shows_patients_only_when_asked(open_page, finished, text_of):
    test = open_page("gallery")
    before = len(test.image)
    test.toggle("show_patients").set_value(True).run()
    assert not test.exception
    # three distilled images, each with three neighbours
    assert len(test.image) == before + 3 * (1 + 3)
    assert "no proof of safety" in text_of(test) or "Look at these pairs" in text_of(test)


def test_gallery_without_the_private_part(open_page, finished, text_of):
    shutil.rmtree(finished / "ingest")
    assert "private part of this run was removed" in text_of(open_page("gallery"))


def test_address_holds_no_name_of_a_run(open_page, finished):
    finished.rename(finished.parent / "doe-jane")
    test = open_page("compare")
    key = test.query_params["run"]
    assert len(key) == 12
    assert set(key) <= set("0123456789abcdef")


def test_login_shows_nothing_before_the_user_has_signed_in(root, monkeypatch, finished):
    monkeypatch.setenv("MEDIDISTILL_LOGIN", "1")
    test = AppTest.from_file(str(app_file()), default_timeout=120).run()
    assert [one.label for one in test.button] == ["Sign in"]
    assert not test.selectbox
    assert "first" not in "".join(one.value for one in test.markdown)


@pytest.mark.parametrize(
    "page", [one if one in ("gallery", "compare") else pytest.param(one, marks=pytest.mark.slow) for one in PAGES]
)
def test_page_of_the_demo_of_the_first_start(page, open_page, root, text_of):
    give_demo(root)
    test = open_page(page)
    assert "finished" in "".join(one.value for one in test.sidebar.markdown)
    shown = text_of(test)
    assert "Nothing to show yet" not in shown
    if page == "gallery":
        test.toggle("show_patients").set_value(True).run()
        assert not test.error
        assert "unusually near" in text_of(test) or "Look at these pairs" in text_of(test)
    if page == "compare":
        assert re.search(r"\*\*(Yes|No|Not shown): on \d+ test patients", shown)
        assert test.segmented_control("scored").options == [
            "The run's own test patients",
            "The test set from elsewhere",
        ]


def test_clicks_do_not_search_the_libraries_for_garbage(open_page, monkeypatch):
    from view_models import collecting

    test = open_page("receive")
    assert gc.get_freeze_count() > 100_000
    collecting.freeze_imported_objects()  # what the page itself loaded
    monkeypatch.setattr(gc, "collect", lambda *_: pytest.fail("nothing was loaded since"))
    assert not collecting.freeze_imported_objects()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "a_module_that_is_new", ModuleType("a_module_that_is_new"))
    assert collecting.freeze_imported_objects()
    test.run()
    assert not test.exception


def test_a_new_run_says_what_its_numbers_cannot_show(open_page, made, text_of, monkeypatch):
    monkeypatch.setenv("MEDIDISTILL_IMAGES", str(made.phantoms))
    test = open_page("new_run", data_from=str(made.phantoms), data_look=str(made.phantoms))
    assert "the gate would refuse this set" not in "\n".join(one.value for one in test.warning)
    next(one for one in test.select_slider if one.label.startswith("Audit")).set_value("quick").run()
    assert not test.exception
    said = text_of(test)
    assert "the gate would refuse this set whatever the audit finds" in said
    assert "rule lira" in said
    start = next(one for one in test.button if one.key == "start_run")
    assert start.disabled
    test.checkbox(key="unreleased").check().run()
    assert not next(one for one in test.button if one.key == "start_run").disabled


def test_legend_names_arms_in_words_and_a_dark_page_turns_the_drawing(root):
    from view_models.results import darkened, legend_html

    legend = legend_html(["full", "random", "bundle-<x>"], 2, dark=False)
    assert "2 random real X-rays per class" in legend
    assert "<x>" not in legend
    assert "filter" not in legend
    assert "filter: invert" in legend_html(["full"], 2, dark=True)
    assert darkened('<?xml version="1.0"?><svg width="1"><svg/></svg>').count("filter: invert") == 1


def test_subgroups_that_are_all_hidden_are_one_sentence(root):
    import pandas as pd

    from view_models.results import all_hidden

    hidden = pd.DataFrame({"group": ["a", "b"], "AUROC, all real X-rays": ["suppressed", "suppressed"]})
    shown = pd.DataFrame({"group": ["a", "b"], "AUROC, all real X-rays": ["suppressed", "0.900 [0.800, 1.000]"]})
    assert all_hidden(hidden)
    assert not all_hidden(shown)
    assert not all_hidden(pd.DataFrame({"group": [], "AUROC, all real X-rays": []}))


def test_misclassified_cases_are_patients_and_shown_only_when_asked(open_page, finished, text_of):
    from view_models.misclassified import misclassified
    from view_models.places import Places
    from view_models.runs import read_run

    run = read_run(Places.of(), finished)
    found = misclassified(run, "mtt", "convnet")
    assert found
    assert all(case.true != case.called for case in found)
    assert [case.probability for case in found] == sorted((case.probability for case in found), reverse=True)
    test = open_page("compare", view="cases")
    assert "test images** are called by another class" in text_of(test)
    assert not test.image
    shutil.rmtree(finished / "ingest")
    assert misclassified(run, "mtt", "convnet") is None
