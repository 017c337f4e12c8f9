"""What is said where the source of an image gives its class away."""

from __future__ import annotations

import pytest

from medidistill.evaluate.confounding import NO_SITES, confounding_warnings, unshared_classes
from medidistill.results.clinical import SourceProbe
from medidistill.results.serialise import from_json

NAMES = ("COVID-19", "Normal", "Pneumonia")
NETWORKS = {"all real X-rays": 0.85, "the distilled set (IADD)": 0.79}


def probe(label_from_site: dict) -> SourceProbe:
    plain = {"site": {"undefined": "one site"}, "within_class": {}, "label_from_site": label_from_site}
    return from_json(SourceProbe, plain, "a source probe")


def rule(**accuracy) -> SourceProbe:
    accuracy = accuracy or {"undefined": "no label"}
    found = {"chance": 1 / 3, "balanced_accuracy": accuracy, "sites": 4, "one_class_sites": 2, "patients": 9}
    return probe(found)


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ({}, []),
        ({"a": {"Normal": 3}}, []),
        ({"a": {"Normal": 3, "COVID-19": 1}, "b": {"Pneumonia": 2}}, ["Pneumonia"]),
        ({"a": {"Normal": 3}, "b": {"COVID-19": 2}}, ["COVID-19", "Normal"]),
        ({"a": {"Normal": 3, "COVID-19": 1}, "b": {"Normal": 2, "COVID-19": 0}}, []),
        ({"a": {"Normal": 3, "COVID-19": 1}, "b": {"COVID-19": 2}}, []),
    ],
)
def test_classes_that_share_no_site(sites, expected):
    assert unshared_classes(sites, NAMES) == expected


def test_what_the_site_alone_tells_stands_beside_the_networks_and_the_number_of_patients():
    (told,) = confounding_warnings(rule(estimate=0.71, low=0.6, high=0.8), NETWORKS, ())
    assert "(4 sites, 2 of them with one class alone) reaches a balanced accuracy of 0.71 [0.60, 0.80]" in told
    assert "on 9 test patients, where chance is 0.33" in told
    assert "reach 0.85 on all real X-rays and 0.79 on the distilled set (IADD)" in told


@pytest.mark.parametrize(
    ("accuracy", "warned"),
    [
        ({"estimate": 0.5, "low": 0.34, "high": 0.6}, True),
        ({"estimate": 0.5, "low": 1 / 3, "high": 0.6}, False),
        ({"estimate": 0.5, "low": 0.2, "high": 0.6}, False),
        ({"estimate": 1.0, "undefined": "no limits"}, True),
        ({"estimate": 1 / 3, "undefined": "the rule only guesses"}, False),
        ({}, False),
    ],
)
def test_a_rule_no_better_than_chance_is_no_warning(accuracy, warned):
    assert bool(confounding_warnings(rule(**accuracy), {}, ())) is warned


def test_classes_of_their_own_site_and_unknown_sites_are_said():
    (told,) = confounding_warnings(rule(), {}, ("Normal",))
    assert told.startswith("Class Normal shares no site with another class")
    assert confounding_warnings(None, {}, ()) == [NO_SITES]


def test_files_of_earlier_versions_are_read():
    old = probe({"chance": 0.5, "balanced_accuracy": {"estimate": 0.9, "low": 0.8, "high": 0.95}})
    assert confounding_warnings(old, {}, ()) == []
    assert confounding_warnings(probe({"undefined": "no sites"}), {}, ()) == []
