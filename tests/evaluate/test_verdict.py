"""The verdict: every colour rule, its words, what is missing, and its stored form."""

from __future__ import annotations

import dataclasses
import json

import pytest

from medidistill.errors import ConfigError
from medidistill.evaluate.intervals import Interval
from medidistill.results.verdict import Colour, Measure, Outcome, Verdict

from .verdict_example import MEASURES, criterion, good, verdict


@pytest.mark.parametrize(
    ("low", "high", "against", "expected"),
    [
        (-0.02, 0.03, "full", Outcome.MET),
        (-0.0499, -0.01, "full", Outcome.MET),  # worse, and non-inferior
        (-0.05, 0.03, "full", Outcome.UNDETERMINED),  # touches the margin
        (-0.2, 0.1, "full", Outcome.UNDETERMINED),
        (-0.2, -0.05, "full", Outcome.UNDETERMINED),  # touches it from below
        (-0.2, -0.0501, "full", Outcome.NOT_MET),
        (0.01, 0.1, "packed", Outcome.MET),
        (0.0, 0.1, "packed", Outcome.UNDETERMINED),
        (0.0, 0.0, "packed", Outcome.UNDETERMINED),  # a tie
        (-0.1, 0.0, "packed", Outcome.UNDETERMINED),
        (-0.1, -0.001, "packed", Outcome.NOT_MET),
        (None, 0.0, "full", Outcome.UNDETERMINED),
        (None, 0.0, "packed", Outcome.UNDETERMINED),
    ],
)
def test_outcome_of_an_interval(low, high, against, expected):
    assert criterion(low, high, against=against).outcome is expected


def test_green_needs_every_criterion_met():
    found = verdict(good())
    assert (found.colour, found.missing) == (Colour.GREEN, ())
    assert found.sentence.startswith("Yes: on 240 test patients, networks trained on the distilled set (IADD) instead")
    assert "random real X-rays in as many bytes and 10 random real X-rays per class" in found.sentence


@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize(
    ("interval", "expected"),
    [((-0.3, -0.2), Colour.RED), ((-0.3, 0.3), Colour.AMBER), (None, Colour.AMBER)],
)
def test_one_criterion_in_any_place_decides(place, interval, expected):
    criteria = good()
    old = criteria[place]
    changed = criterion(*(interval or (None,)), against=old.against, measure=old.measure)
    criteria[place] = changed
    assert verdict(criteria).colour is expected


def test_a_class_that_fails_alone_is_red_though_the_mean_holds():
    failed = criterion(-0.3, -0.2, measure=Measure.SENSITIVITY, finding="COVID-19", margin=0.1)
    found = verdict([*good(), failed])
    assert found.colour is Colour.RED
    assert "sensitivity for COVID-19 (-0.250 [-0.300, -0.200], margin 0.1)" in found.sentence


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("full", "no network was trained on all real X-rays"),
        ("packed", "no control of random real X-rays in the same bytes"),
    ],
)
def test_a_missing_arm_is_named_and_never_green(without, said):
    found = verdict(good(without=without))
    assert found.colour is Colour.AMBER
    assert any(said in one for one in found.missing)


def test_other_controls_may_be_missing():
    assert verdict(good(without="random")).colour is Colour.GREEN


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patients_per_class": {"COVID-19": 29, "Normal": 120}}, "fewer than 30 test patients of COVID-19 (29)"),
        ({"patients_known": False}, "nothing tells which patient an image shows"),
        ({"reservations": ("class Normal shares no site with another class",)}, "class Normal shares no site"),
        ({"criteria": ()}, "no network was trained on all real X-rays"),
    ],
)
def test_what_forbids_a_green_verdict_is_named(changes, said):
    found = dataclasses.replace(verdict(good()), **changes)
    assert found.colour is Colour.AMBER
    assert any(said in one for one in found.missing), found.missing


def test_thirty_patients_are_enough():
    assert verdict(good(), patients_per_class={"COVID-19": 30, "Normal": 30}).colour is Colour.GREEN


def test_undefined_figures_are_named_once():
    criteria = [*good(), criterion(None), criterion(None, measure=Measure.SENSITIVITY)]
    assert verdict(criteria).missing == ("an interval for AUROC",)


def test_few_patients_do_not_turn_red_into_amber():
    criteria = [*good(), criterion(-0.3, -0.2)]
    assert verdict(criteria, patients_per_class={"COVID-19": 2}).colour is Colour.RED


def test_a_control_that_beats_the_set_is_named():
    beaten = [criterion(-0.2, -0.1, against="kmeans"), criterion(-0.1, 0.1, against="kmeans", measure=MEASURES[1])]
    sentence = verdict([*good(), *beaten]).sentence
    assert sentence.startswith("No: on 240 test patients, networks trained on the distilled set (IADD) do worse than")
    assert "10 real X-rays per class chosen by k-means in AUROC (-0.150 [-0.200, -0.100])" in sentence


def test_amber_says_what_stays_open_and_counts_images_where_patients_are_unknown():
    criteria = [criterion(-0.2, 0.1), *good(without="full")]
    sentence = verdict(criteria, patients_known=False).sentence
    assert sentence == (
        "Not shown: on 300 test images of unknown patients it stays open whether networks trained on the distilled set "
        "(IADD) instead of all real X-rays lose less than the margin."
    )
    some = verdict([*good(), criterion(-0.1, 0.1, against="herding"), criterion(0.1, 0.2, against="herding")]).sentence
    assert "do better than networks trained on 10 real X-rays per class chosen by herding in AUROC" in some


def test_stored_form_is_rebuilt_exactly_and_holds_the_words():
    found = verdict([*good(), criterion(None)], warnings=("One.",), reservations=("another",))
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Verdict.from_dict(stored) == found
    assert (stored["colour"], stored["sentence"]) == ("amber", found.sentence)
    assert stored["criteria"][0]["against_words"] == "all real X-rays"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"colour": "green"}, "states 'green', its criteria say 'amber'"),
        ({"format": 2}, "newer than 1"),
        ({"criteria": [{}]}, r"not a verdict: the field 'question' is missing @ \$.criteria\[0\]"),
        ({"method": None, "criteria": None}, "not a verdict"),
    ],
)
def test_a_stored_form_that_contradicts_itself_is_refused(changes, error):
    stored = verdict([*good(), criterion(-0.2, 0.2)]).to_dict()
    with pytest.raises(ConfigError, match=error):
        Verdict.from_dict(stored | changes)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"margin": 0.0}, "only for superiority"),
        ({"margin": 1.0}, "only for superiority"),
        ({"undefined": "why"}, "either a difference or why"),
        ({"difference": Interval(0.0, 0.1, -0.1)}, "finite and ordered"),
        ({"difference": Interval(0.0, float("nan"), 0.1)}, "finite and ordered"),
    ],
)
def test_a_criterion_refuses_what_it_cannot_judge(changes, error):
    with pytest.raises(ConfigError, match=error):
        dataclasses.replace(criterion(-0.01, 0.01), **changes)
