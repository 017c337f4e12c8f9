"""Curves on a grid and the CSV files: the numbers of the comparison, every one of them, nothing hidden shown."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from medidistill.evaluate.clinical import ClinicalComparison, UndefinedError, curves_csv, figures_csv, subgroups_csv
from medidistill.evaluate.clinical.curves import precision_recall_points, roc_points

from .clinical_example import NAMES, compared, run


@pytest.fixture(scope="module")
def result() -> ClinicalComparison:
    sites = ["north"] * 180 + ["south"] * 176 + ["east"] * 4
    return compared(runs=[run("full", 2.5), run("iadd", 60.0)], subgroups={"site": sites})


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def scored(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random(n) < 0.3
    return truth, rng.normal(size=n) + truth


def test_areas_below_the_curves_are_those_of_the_whole_curves():
    truth, scores = scored()
    roc, found = roc_points(truth, scores), precision_recall_points(truth, scores)
    assert auc(roc.x, roc.y) == pytest.approx(roc_auc_score(truth, scores), abs=2e-3)
    assert np.mean(found.y) == pytest.approx(average_precision_score(truth, scores), abs=5e-3)
    assert (roc.x[0], roc.x[-1], roc.y[-1], found.x[0], found.x[-1]) == (0, 1, 1, 0.01, 1)


def test_precision_is_that_of_a_threshold_and_never_in_between():
    truth, scores = scored(50)
    precision, recall, _ = precision_recall_curve(truth, scores)
    real = {(round(r, 5), round(p, 5)) for r, p in zip(recall, precision, strict=True)}
    found = precision_recall_points(truth, scores)
    for x, y in zip(found.x, found.y, strict=True):
        reached = min(r for r, _ in real if r >= x - 1e-6)
        assert (reached, y) in real


def test_a_perfect_model_and_one_that_says_one_thing():
    truth = np.array([0, 0, 1, 1])
    perfect, blind = roc_points(truth, [0.1, 0.2, 0.8, 0.9]), roc_points(truth, [0.5] * 4)
    assert set(perfect.y) == {1.0}
    assert blind.y == pytest.approx(blind.x)
    assert set(precision_recall_points(truth, [0.5] * 4).y) == {0.5}
    for curve in (roc_points, precision_recall_points):
        with pytest.raises(UndefinedError):
            curve([1, 1], [0.1, 0.2])


def test_every_single_number_is_a_line(result):
    found = rows(figures_csv(result))
    by_name = {(row["arm"], row["minus"], row["class"], row["measure"]): row for row in found}
    assert len(by_name) == len(found)
    one = result.arms[0].classes[1]
    for measure in ("auroc", "auroc_bootstrap", "average_precision", "brier"):
        row = by_name["full", "", "Normal", measure]
        figure = getattr(one, measure)
        assert [float(row[side]) for side in ("estimate", "low", "high")] == [figure.estimate, figure.low, figure.high]
    assert float(by_name["full", "", "Normal", "operating_point_tp"]["estimate"]) == one.operating_point.counts.tp
    assert float(by_name["full", "", "Normal", "brier_parts_uncertainty"]["estimate"]) == one.brier_parts.uncertainty
    gap = result.differences[0]
    row = by_name["iadd", "full", "", "macro_auroc_difference"]
    assert (float(row["estimate"]), row["verdict"]) == (gap.macro.estimate, gap.macro.verdict)
    assert float(by_name["iadd", "full", "", "mcnemar"]["p_value"]) == gap.mcnemar.p_value
    perfect = by_name["iadd", "", "Normal", "auroc"]
    assert "zero variance" in perfect["undefined"]
    assert perfect["low"] == ""
    assert "separate" in by_name["iadd", "", "Normal", "recalibration"]["undefined"]


def test_every_curve_has_its_points(result):
    found = rows(curves_csv(result))
    kinds = {row["curve"] for row in found if row["arm"] == "full"}
    assert kinds == {
        "roc", "precision_recall", "calibration", "net_benefit", "net_benefit_act_on_all", "histogram_positives",
        "histogram_negatives",
    }  # fmt: skip
    points = [row for row in found if (row["arm"], row["class"], row["curve"]) == ("full", NAMES[0], "net_benefit")]
    curve = result.arms[0].classes[0].decision_curve
    for name, column in (("thresholds", "x"), ("net_benefit", "y"), ("low", "low"), ("high", "high")):
        assert [float(row[column]) for row in points] == list(getattr(curve, name))


def test_hidden_groups_stay_hidden(result):
    found = rows(subgroups_csv(result))
    assert {row["group"] for row in found} == {"north", "south", "east"}
    east = [row for row in found if row["group"] == "east"]
    assert {(row["images_of_class"], row["images_of_group"], row["estimate"]) for row in east} == {
        ("suppressed", "suppressed", "suppressed")
    }
