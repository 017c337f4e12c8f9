"""Compare: whose patients a view is about, and whose report lies beside a verdict."""

from __future__ import annotations

import json

import pytest

ELSEWHERE = "The test set from elsewhere"


@pytest.fixture
def outside(finished):
    """A run with a test set from elsewhere, of 999 images and without a source probe."""
    folder = finished / "evaluate" / "external"
    folder.mkdir()
    for name, told in (("comparison.json", {"test_images": 999}), ("clinical.json", {"source_probe": None})):
        found = json.loads((finished / "evaluate" / name).read_text())
        (folder / name).write_text(json.dumps(found | told))
    return finished


def test_misclassified_cases_are_of_the_own_test_patients_and_counted_against_them(outside, open_page, text_of):
    shown = text_of(open_page("compare", view="cases", scored=ELSEWHERE))
    own = json.loads((outside / "evaluate" / "comparison.json").read_text())["test_images"]
    assert f"of {own} test images** are called by another class" in shown
    assert "all are of the run's own test patients" in shown
    assert "999 test images" not in shown


def test_grad_cam_says_whose_images_it_shows(outside, open_page, text_of):
    assert "of the run's own test patients" in text_of(open_page("compare", view="looks", scored=ELSEWHERE))


def test_a_probe_that_was_made_on_the_own_patients_alone_is_not_said_to_be_missing(outside, open_page, text_of):
    shown = text_of(open_page("compare", view="probe", scored=ELSEWHERE))
    assert "The probe was not made on the test set from elsewhere; it was on the run's own test patients." in shown


def test_a_report_from_before_the_verdict_is_marked(finished, open_page):
    def offered():
        test = open_page("compare", view="files")
        labels = [one.label for one in test.download_button]
        warned = [one.value for one in test.warning if "written before the verdict above" in one.value]
        return sorted(label for label in labels if "one page" in label), bool(warned)

    now = ["The report, one page (report.html)", "The summary, one page (PDF)"]
    assert offered() == (now, False)
    # as `run --resume --until evaluate --set deliver=mtt` leaves it
    verdict = finished / "verdict.json"
    verdict.write_text(json.dumps(json.loads(verdict.read_text()) | {"chosen_by": "Delivered is another set."}))
    assert offered() == ([f"{one}, from before" for one in now], True)


def test_a_report_that_a_stopped_run_did_not_write_again_is_marked(finished, root):
    from view_models.places import Places
    from view_models.results import report_is_current
    from view_models.runs import read_run

    run = read_run(Places.of(), finished)
    assert report_is_current(run)
    del run.facts["report"]
    assert not report_is_current(run)
