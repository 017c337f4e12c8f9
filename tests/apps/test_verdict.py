"""The verdict on Compare, Export and Receive: the same words as in report, card and status; damaged and absent ones."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from medidistill.cli import main
from medidistill.evaluate import ArmRun
from medidistill.pipeline import RunFolder, app_file
from medidistill.pipeline.comparison.scored_labels import save_scored_labels
from medidistill.pipeline.prepared import load_split


def words(path) -> list[str]:
    """Every sentence of a stored verdict that must stand wherever the verdict does."""
    stored = json.loads(path.read_text())
    return [stored["sentence"], *stored["missing"], *stored["warnings"]]


def unmarked(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def test_the_same_words_stand_everywhere(open_page, finished, text_of, capsys, root):
    stored = words(finished / "verdict.json")
    assert len(stored) >= 3  # the answer, what it lacks, and a warning
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


@pytest.mark.parametrize("page", ["compare", "export", "home", "runs"])
def test_a_verdict_that_contradicts_its_figures_is_not_shown(page, open_page, finished, text_of):
    file = finished / "verdict.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"colour": "green", "sentence": "Yes: take it."}))
    test = open_page(page)
    assert "Yes: take it" not in unmarked(text_of(test))
    assert "states 'green', its criteria say 'amber'" in text_of(test)


def test_the_list_tells_no_verdict_of_a_comparison_that_has_not_finished(finished, root):
    from view_models.places import Places
    from view_models.run_list import stored_verdict
    from view_models.runs import read_run

    run = read_run(Places.of(), finished)
    assert stored_verdict(run)[0] == "amber"
    assert stored_verdict(dataclasses.replace(run, finished=("ingest", "experts"))) == ("", "")


@pytest.mark.parametrize("page", ["compare", "export"])
def test_a_run_of_an_earlier_version_has_no_verdict_and_says_so(page, open_page, finished, text_of):
    (finished / "verdict.json").unlink()
    assert "No verdict: this run" in text_of(open_page(page))


def test_the_purpose_is_answered_and_kept_in_the_address(open_page, finished, text_of):
    test = open_page("compare", view="purpose")
    assert not test.exception
    assert {one.label for one in test.number_input} == {
        "Least sensitivity (%)",
        "Margin (percentage points)",
        "Prevalence (%)",
    }
    prevalence = next(one for one in test.number_input if one.label == "Prevalence (%)")
    missed = {one.label: one.value for one in test.metric}
    assert set(missed) >= {"Sensitivity", "Specificity", "PPV", "NPV", "Missed per 1,000", "False alarms per 1,000"}
    prevalence.set_value(2.0).run()
    assert test.query_params["prevalence"] == "2"
    assert {one.label: one.value for one in test.metric}["False alarms per 1,000"] != missed["False alarms per 1,000"]
    test.slider[0].set_value(100.0).run()  # nothing is called
    assert {one.label: one.value for one in test.metric}["Sensitivity"] == "0.0 %"
    assert test.query_params["threshold"] == "100"
    assert any(one.value.startswith("**No: on 2 test patients of class") for one in test.error)


def asked(address: dict[str, str]) -> AppTest:
    """Compare, opened by an address in a new session."""
    test = AppTest.from_file(str(app_file()), default_timeout=120)
    for name, value in address.items():
        test.query_params[name] = value
    test.switch_page("app_pages/compare.py").run()
    assert not test.exception
    return test


def test_an_address_brings_the_purpose_back_and_on_another_run_it_does_not(root, finished):
    from view_models.places import short_id

    test = asked({"view": "purpose"})
    address = {name: test.query_params[name] for name in ("view", "run", "purpose")}
    told = {"finding": "lobar_pneumonia", "least": "70", "threshold": "33.5", "prevalence": "2"}
    test = asked(address | told)
    assert [one.value for one in test.selectbox if one.label == "Class to find"] == ["lobar_pneumonia"]
    assert test.slider[0].value == 33.5
    assert {one.label: one.value for one in test.number_input}["Prevalence (%)"] == 2.0
    shutil.copytree(finished, root / "second")
    for other in (address | told | {"run": short_id("second")}, {"view": "purpose"} | told):
        test = asked(other)
        assert [one.value for one in test.selectbox if one.label == "Class to find"] != ["lobar_pneumonia"]
        assert test.slider[0].value != 33.5
        assert {one.label: one.value for one in test.number_input}["Least sensitivity (%)"] == 90.0
        assert "prevalence" not in test.query_params


def test_the_prevalence_follows_the_class_until_the_user_sets_it(open_page, finished):
    own, val = (load_split(finished / "ingest" / f"{split}.safetensors")[0] for split in ("test", "val"))
    few = own.labels.clone()
    few[:2] = 1 - few[:2].clamp(max=1)  # so that the classes are not equally frequent
    save_scored_labels(RunFolder(finished), dataclasses.replace(own, labels=few), val)
    test = open_page("compare", view="purpose")

    def prevalence():
        return next(one for one in test.number_input if one.label == "Prevalence (%)")

    def find(name):
        next(one for one in test.selectbox if one.label == "Class to find").set_value(name).run()
        said = re.search(r"It was ([\d.]+) % of these", prevalence().help)
        return float(said[1])

    shares = [find(name) for name in ("normal", "lobar_pneumonia") if find(name) == prevalence().value]
    assert len(set(shares)) == 2
    assert "prevalence" not in test.query_params
    prevalence().set_value(2.0).run()
    assert test.query_params["prevalence"] == "2"
    assert find("normal") == prevalence().value


@pytest.mark.parametrize(
    ("name", "value"), [("least", "x"), ("least", "1000"), ("finding", "no such"), ("threshold", "nan")]
)
def test_an_address_that_makes_no_sense_is_no_error(name, value, root, finished):
    test = asked({"view": "purpose"})
    test = asked({"view": "purpose", "purpose": test.query_params["purpose"], name: value})
    assert not [one for one in test.error if "must be" in one.value]


def test_without_predictions_the_purpose_says_what_is_missing(open_page, finished, text_of):
    shutil.rmtree(finished / "evaluate" / "cells")
    assert "this run does not hold them" in text_of(open_page("compare", view="purpose"))


def test_the_purpose_is_answered_on_the_test_set_from_elsewhere_by_its_own_predictions(
    open_page, finished, text_of, root
):
    from view_models.places import Places
    from view_models.purpose import read_predictions
    from view_models.runs import read_run
    from view_models.verdict import readable_verdict

    evaluate = finished / "evaluate"
    (evaluate / "external").mkdir()
    for name in ("comparison.json", "clinical.json", "verdicts.json"):
        shutil.copyfile(evaluate / name, evaluate / "external" / name)
    run = read_run(Places.of(), finished)
    verdict, _ = readable_verdict(run, elsewhere=True)
    assert read_predictions(run, verdict, elsewhere=True) is None  # compared before labels were kept
    assert "this run does not hold them" in text_of(
        open_page("compare", view="purpose", scored="The test set from elsewhere")
    )

    test, _ = load_split(finished / "ingest" / "test.safetensors")[:2]
    val, _ = load_split(finished / "ingest" / "val.safetensors")[:2]
    save_scored_labels(RunFolder(finished), test, val, elsewhere=True)
    for cell in (evaluate / "cells").rglob("*.safetensors"):
        if not cell.name.startswith("labels"):
            arm = ArmRun.load(cell)
            dataclasses.replace(arm, external_probabilities=arm.test_probabilities[..., ::-1].copy()).save(cell)
    found = read_predictions(run, verdict, elsewhere=True)
    own = read_predictions(run, readable_verdict(run)[0])
    np.testing.assert_allclose(found.test, own.test[:, ::-1])
    np.testing.assert_allclose(found.val, own.val)
    shown = open_page("compare", view="purpose", scored="The test set from elsewhere")
    assert not shown.exception
    assert {one.label for one in shown.metric} >= {"Sensitivity", "Missed per 1,000"}
    assert "measured on the patients from elsewhere" in text_of(shown)
