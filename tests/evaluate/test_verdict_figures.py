"""The figures of the verdict: held to scikit-learn, to the comparison, and to what happens where they are undefined."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from medidistill.errors import ConfigError
from medidistill.evaluate.comparison import compare
from medidistill.evaluate.verdict_figures import VerdictData, VerdictSettings, criteria_by_method, patients_per_class
from medidistill.results.verdict import Measure, Outcome, Question

from .clinical.clinical_example import NAMES, PATIENTS, TEST, VAL, run

SETTINGS = VerdictSettings(bootstrap=200, seed=3)
DATA = VerdictData(TEST, VAL, PATIENTS, NAMES, 5)
RUNS = [run("full", 2.5), run("packed", 0.8), run("iadd", 2.2), run("mtt", 1.0)]


@pytest.fixture(scope="module")
def found():
    return criteria_by_method(RUNS, ("iadd", "mtt"), DATA, SETTINGS)


def of(criteria, against: str, measure: Measure, finding: str = ""):
    (one,) = [c for c in criteria if (c.against, c.measure, c.finding) == (against, measure, finding)]
    return one


def test_differences_from_a_control_are_those_of_the_comparison(found):
    table = compare(RUNS, TEST, PATIENTS, NAMES, bootstrap=200, seed=3)
    for metric, measure in (("balanced_accuracy", Measure.BALANCED_ACCURACY), ("macro_auroc", Measure.AUROC)):
        (gap,) = [d for d in table.differences if (d.arm, d.minus, d.metric) == ("iadd", "packed", metric)]
        assert of(found["iadd"], "packed", measure).difference == gap.bootstrap


def test_sensitivity_is_that_of_scikit_learn_at_the_threshold_of_validation(found):
    arm = RUNS[2]
    each = []
    for k in range(3):
        networks = []
        for val, test in zip(arm.val_probabilities, arm.test_probabilities, strict=True):
            fpr, _, thresholds = roc_curve(k == VAL, val[:, k], drop_intermediate=False)
            # scikit-learn calls score >= threshold; the last one within the false positives that are allowed
            threshold = thresholds[fpr <= 0.1 + 1e-9][-1]
            above = np.sort(val[val[:, k] >= threshold, k])[0]
            networks.append((test[k == TEST, k] >= above).mean())
        each.append(np.mean(networks))
    for k, name in enumerate(NAMES):
        assert of(found["iadd"], "full", Measure.SENSITIVITY, name).estimate == pytest.approx(each[k], abs=0.02)
    macro = of(found["iadd"], "full", Measure.SENSITIVITY).estimate
    singles = [of(found["iadd"], "full", Measure.SENSITIVITY, name).estimate for name in NAMES]
    assert macro == pytest.approx(np.mean(singles))


def test_every_measure_is_asked_of_every_arm_and_every_class_of_the_reference(found):
    asked = {(c.question, c.against, c.measure, c.finding) for c in found["mtt"]}
    assert asked == {
        *((Question.NON_INFERIOR, "full", measure, "") for measure in Measure),
        *((Question.NON_INFERIOR, "full", Measure.SENSITIVITY, name) for name in NAMES),
        *((Question.SUPERIOR, "packed", measure, "") for measure in Measure),
    }
    assert {c.patients for c in found["mtt"]} == {180, 60}
    assert patients_per_class(DATA) == dict.fromkeys(NAMES, 60)


def test_margins_are_those_of_the_settings():
    settings = dataclasses.replace(
        SETTINGS, margin_auroc=0.01, margin_balanced_accuracy=0.02, margin_sensitivity=0.03, bootstrap=100
    )
    criteria = criteria_by_method(RUNS, ("iadd",), DATA, settings)["iadd"]
    margins = {c.measure: c.margin for c in criteria if c.question is Question.NON_INFERIOR}
    assert margins == {Measure.AUROC: 0.01, Measure.BALANCED_ACCURACY: 0.02, Measure.SENSITIVITY: 0.03}
    assert {c.margin for c in criteria if c.question is Question.SUPERIOR} == {0.0}


def test_a_poor_set_is_inferior_and_still_better_than_the_control(found):
    poor = found["mtt"]
    assert all(c.outcome is Outcome.NOT_MET for c in poor if c.question is Question.NON_INFERIOR)
    assert all(c.outcome is Outcome.MET for c in found["iadd"] if c.question is Question.SUPERIOR)


def test_equal_networks_have_no_interval():
    twin = dataclasses.replace(RUNS[0], arm="iadd")
    criteria = criteria_by_method([RUNS[0], twin], ("iadd",), DATA, SETTINGS)["iadd"]
    assert {c.difference for c in criteria} == {None}
    assert all(c.undefined.startswith("an interval for ") for c in criteria)
    assert {c.outcome for c in criteria} == {Outcome.UNDETERMINED}


@pytest.mark.parametrize(
    ("val", "labels", "said"),
    [
        (False, VAL, "no validation probabilities were kept"),
        (True, VAL[:12], "needs 10 validation images outside each"),
    ],
)
def test_without_a_threshold_sensitivity_is_undefined_and_the_rest_is_not(val, labels, said):
    runs = [run(arm, skill, val=val) for arm, skill in (("full", 2.5), ("iadd", 2.2))]
    if val:
        runs = [dataclasses.replace(one, val_probabilities=one.val_probabilities[:, : len(labels)]) for one in runs]
    criteria = criteria_by_method(runs, ("iadd",), dataclasses.replace(DATA, val_labels=labels), SETTINGS)["iadd"]
    undefined = {c.measure for c in criteria if c.undefined}
    assert undefined == {Measure.SENSITIVITY}
    assert all(said in c.undefined for c in criteria if c.undefined)


def test_seeds_of_an_arm_are_taken_together():
    runs = [run(arm, skill, seed=seed) for arm, skill in (("full", 2.5), ("iadd", 2.2)) for seed in (0, 1, 2)]
    criteria = criteria_by_method(runs, ("iadd",), DATA, SETTINGS)["iadd"]
    areas = [
        of(
            criteria_by_method([run("full", 2.5, seed=s), run("iadd", 2.2, seed=s)], ("iadd",), DATA, SETTINGS)["iadd"],
            "full",
            Measure.AUROC,
        ).estimate
        for s in (0, 1, 2)
    ]
    assert of(criteria, "full", Measure.AUROC).estimate == pytest.approx(np.mean(areas))


def test_several_architectures_or_an_absent_method_are_refused():
    for runs, methods in (([*RUNS, run("iadd", 1.0, architecture="vgg11")], ("iadd",)), (RUNS, ("dm",))):
        with pytest.raises(ConfigError, match="needs runs of one architecture"):
            criteria_by_method(runs, methods, DATA, SETTINGS)
