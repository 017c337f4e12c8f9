"""The verdict for one purpose: every colour rule and its border."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.purpose import purpose_figures
from medidistill.evaluate.intervals import Interval
from medidistill.evaluate.purpose_verdict import Purpose, purpose_verdict
from medidistill.results.verdict import Colour

PURPOSE = Purpose("COVID-19", least_sensitivity=0.8, margin=0.1, prevalence=0.05)
FIGURES = purpose_figures(np.repeat([1, 0], 100), np.repeat([0.9, 0.1], 100), None, threshold=0.5, prevalence=0.05)


def figures(low: float, high: float, **others):
    return dataclasses.replace(FIGURES, sensitivity=Interval((low + high) / 2, low, high), **others)


@pytest.mark.parametrize(
    ("found", "gap", "colour", "said"),
    [
        (
            (0.85, 0.95),
            (-0.05, 0.05),
            Colour.GREEN,
            "Yes: on 100 test patients of class COVID-19 and 100 others",
        ),
        ((0.8, 0.95), (-0.05, 0.05), Colour.GREEN, "enough cases are found"),
        ((0.79, 0.95), (-0.05, 0.05), Colour.AMBER, "it stays open whether enough cases are found"),
        ((0.6, 0.79), (-0.05, 0.05), Colour.RED, "too few cases are found (sensitivity 0.70 [0.60, 0.79]"),
        ((0.6, 0.8), (-0.05, 0.05), Colour.AMBER, "it stays open"),
        ((0.85, 0.95), (-0.1, 0.05), Colour.AMBER, "whether it finds as many as training on all real X-rays"),
        ((0.85, 0.95), (-0.3, -0.1), Colour.AMBER, "within 0.1"),
        ((0.85, 0.95), (-0.3, -0.11), Colour.RED, "by more than 0.1 (-0.20 [-0.30, -0.11])"),
        ((0.6, 0.7), (-0.3, -0.2), Colour.RED, "and fewer are found than after training on all real X-rays"),
        ((0.85, 0.95), None, Colour.AMBER, "which has no interval here"),
    ],
)
def test_colour_and_words(found, gap, colour, said):
    difference = None if gap is None else Interval((gap[0] + gap[1]) / 2, *gap)
    decided, sentence = purpose_verdict(PURPOSE, figures(*found), difference)
    assert decided is colour
    assert said in sentence


@pytest.mark.parametrize("side", ["patients_with", "patients_without"])
def test_few_patients_are_never_enough_for_a_yes(side):
    gap = Interval(0.0, -0.05, 0.05)
    assert purpose_verdict(PURPOSE, figures(0.85, 0.95, **{side: 30}), gap)[0] is Colour.GREEN
    colour, sentence = purpose_verdict(PURPOSE, figures(0.85, 0.95, **{side: 29}), gap)
    assert colour is Colour.AMBER
    assert "fewer than 30" in sentence


def test_a_reservation_forbids_a_yes_and_stands_in_the_sentence():
    gap = Interval(0.0, -0.05, 0.05)
    colour, sentence = purpose_verdict(PURPOSE, figures(0.85, 0.95), gap, ("patients are unknown",))
    assert (colour, sentence.endswith("others, patients are unknown.")) == (Colour.AMBER, True)


@pytest.mark.parametrize("name", ["least_sensitivity", "margin", "prevalence"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1])
def test_what_is_asked_must_be_a_share(name, value):
    with pytest.raises(ConfigError, match="must be in"):
        dataclasses.replace(PURPOSE, **{name: value})
