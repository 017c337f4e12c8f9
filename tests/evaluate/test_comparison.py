"""The comparison: rows, paired differences, notes, and its text and JSON forms."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from medidistill.config import TrainingConfig
from medidistill.errors import ConfigError
from medidistill.evaluate import metrics
from medidistill.evaluate.comparison import Comparison, compare
from medidistill.evaluate.protocol import ArmRun

NAMES = ("COVID-19", "Normal", "Pneumonia")
LABELS = np.arange(90) % 3
PATIENTS = [f"PHANTOM^{i // 3 // 2 * 3 + i % 3}" for i in range(90)]


def arm_run(arm: str, skill: float, *, networks: int = 4, seed: int = 0, noise: int = 0, **others) -> ArmRun:
    """A run whose networks see the same noise as those of other arms with equal `noise`."""
    z = np.random.default_rng([seed, noise]).normal(size=(networks, len(LABELS), 3))
    z[:, np.arange(len(LABELS)), LABELS] += skill
    p = np.exp(z)
    fields = {
        "arm": arm,
        "architecture": "convnet",
        "seed": seed,
        "chosen": TrainingConfig(steps=7),
        "training_images": 15,
        "num_classes": 3,
        "val_balanced_accuracy": (0.5,) * networks,
        "test_probabilities": (p / p.sum(-1, keepdims=True)).astype(np.float32),
        "info": {"ipc": 5},
    }
    return ArmRun(**(fields | others))


def compared(*runs: ArmRun, **others) -> Comparison:
    return compare(runs, LABELS, PATIENTS, NAMES, **({"bootstrap": 200, "seed": 3} | others))


ARMS = (arm_run("random", 0.5), arm_run("mtt", 1.0), arm_run("iadd", 1.2))


def test_row_holds_the_mean_over_networks_of_scikit_learns_metrics():
    row = compared(*ARMS).rows[1]
    each = [metrics.balanced_accuracy_score(LABELS, one) for one in ARMS[1].test_probabilities]
    assert row.balanced_accuracy.estimate == pytest.approx(np.mean(each))
    assert row.sd_balanced_accuracy == pytest.approx(np.std(each, ddof=1))
    areas = [metrics.macro_auroc_score(LABELS, one) for one in ARMS[1].test_probabilities]
    assert row.macro_auroc.estimate == pytest.approx(np.mean(areas))
    assert [one.estimate for one in row.sensitivity] == pytest.approx(
        np.mean([metrics.sensitivity_scores(LABELS, one) for one in ARMS[1].test_probabilities], axis=0)
    )
    assert [one.estimate for one in row.specificity] == pytest.approx(
        np.mean([metrics.specificity_scores(LABELS, one) for one in ARMS[1].test_probabilities], axis=0)
    )
    assert np.sum(row.confusion) == 4 * 90
    assert np.diag(row.confusion).sum() / 360 == pytest.approx(row.balanced_accuracy.estimate)
    assert (row.networks, row.training_images, row.unit, row.seeds) == (4, 15, "network", (0,))
    for interval in (row.balanced_accuracy, row.macro_auroc, *row.sensitivity, *row.specificity):
        assert interval.low < interval.estimate < interval.high


def test_differences_are_those_asked_for_and_equal_the_rows():
    result = compared(*ARMS)
    assert [(d.arm, d.minus) for d in result.differences[::2]] == [
        ("iadd", "mtt"),
        ("mtt", "random"),
        ("iadd", "random"),
    ]
    rows = {row.arm: row for row in result.rows}
    for one in result.differences:
        gap = getattr(rows[one.arm], one.metric).estimate - getattr(rows[one.minus], one.metric).estimate
        assert one.bootstrap.estimate == pytest.approx(gap)
        assert one.over_units.estimate == pytest.approx(gap)
        assert one.unit == "network"


def test_pairing_removes_what_both_arms_share():
    """The same networks' luck in both arms narrows the interval of their difference; other luck does not."""
    width = {}
    for name, noise in (("shared", 0), ("other", 1)):
        interval = compared(arm_run("mtt", 1.0), arm_run("iadd", 1.2, noise=noise)).differences[0].bootstrap
        width[name] = interval.high - interval.low
    assert width["shared"] < 0.7 * width["other"]


def test_identical_arms_differ_by_exactly_nothing():
    for one in compared(arm_run("mtt", 1.0), arm_run("iadd", 1.0)).differences:
        assert (one.bootstrap.low, one.bootstrap.estimate, one.bootstrap.high) == (0, 0, 0)


def test_several_seeds_are_drawn_as_wholes():
    runs = [arm_run(name, skill, seed=s, networks=2) for s in range(3) for name, skill in (("mtt", 1.0), ("iadd", 1.2))]
    result = compared(*runs)
    row = result.rows[0]
    assert (row.networks, row.seeds, row.unit) == (6, (0, 1, 2), "seed")
    assert len(row.info) == 3
    gaps = [
        np.mean([metrics.balanced_accuracy_score(LABELS, p) for p in b.test_probabilities])
        - np.mean([metrics.balanced_accuracy_score(LABELS, p) for p in a.test_probabilities])
        for a, b in zip(runs[::2], runs[1::2], strict=True)
    ]
    assert result.differences[0].unit == "seed"
    assert result.differences[0].over_units.estimate == pytest.approx(np.mean(gaps))
    assert result.differences[0].bootstrap.estimate == pytest.approx(np.mean(gaps))


def test_arms_with_other_seeds_are_paired_by_patient_alone():
    result = compared(*(arm_run("random", 0.5, seed=s) for s in range(2)), arm_run("full", 2.0, training_images=900))
    one = result.differences[0]
    assert (one.unit, one.over_units) == ("unpaired", None)
    assert one.bootstrap.low > 0


def test_architectures_are_kept_apart():
    result = compared(*ARMS, *(arm_run(r.arm, 0.8, architecture="resnet18") for r in ARMS))
    assert len(result.rows) == 6
    assert {d.architecture for d in result.differences} == {"convnet", "resnet18"}
    assert len(result.differences) == 12


def test_patient_identifiers_widen_the_interval_and_stay_out_of_the_result():
    repeated = np.arange(90) // 3 % 5 * 3 + LABELS  # 15 patients of 6 images
    z = np.random.default_rng(0).normal(size=(1, 15, 3))[:, repeated]
    z[:, np.arange(90), LABELS] += 0.8
    run = arm_run("mtt", 0.0, networks=1, test_probabilities=np.exp(z) / np.exp(z).sum(-1, keepdims=True))
    width = {}
    for name, patients in (("patients", [f"PHANTOM^{i}" for i in repeated]), ("images", [str(i) for i in range(90)])):
        result = compare([run], LABELS, patients, NAMES, bootstrap=300)
        width[name] = result.rows[0].balanced_accuracy.high - result.rows[0].balanced_accuracy.low
        assert "PHANTOM" not in json.dumps(result.to_dict())
    assert width["patients"] > 1.5 * width["images"]


def test_json_round_trip_and_same_seed_same_result():
    result = compared(*ARMS)
    assert Comparison.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert compared(*ARMS) == result
    assert compared(*ARMS, seed=4) != result
    with pytest.raises(ConfigError, match="not a comparison"):
        Comparison.from_dict({"rows": []})


def test_markdown_and_csv_say_the_same():
    result = compared(*ARMS)
    text = result.to_markdown()
    estimate = result.rows[2].balanced_accuracy
    assert f"| iadd | convnet | 15 | {estimate.estimate:.3f} [{estimate.low:.3f}, {estimate.high:.3f}] |" in text
    assert "| iadd - mtt | convnet | balanced accuracy | +" in text
    assert "45 test patients (90 images)" in text
    records = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert len(records) == 3 * (2 + 6) + 6
    found = next(r for r in records if (r["arm"], r["minus"], r["metric"]) == ("iadd", "", "balanced_accuracy"))
    assert float(found["low"]) == estimate.low


def test_notes_say_what_weakens_the_intervals():
    few = compare([arm_run("mtt", 1.0, networks=1)], LABELS, [str(i % 12) for i in range(90)], NAMES, bootstrap=100)
    assert any("Class COVID-19 has 4 test patients" in note for note in few.notes)
    assert any("one network" in note for note in few.notes)
    for patients, told in ((9, True), (10, False)):  # of each class
        names = [f"{i % 3}-{i // 3 % patients}" for i in range(90)]
        notes = compare([arm_run("mtt", 1.0)], LABELS, names, NAMES, bootstrap=100).notes
        assert any("test patients" in note for note in notes) is told
    assert few.rows[0].sd_balanced_accuracy is None
    assert any("drawn again" in note for note in few.notes)
    assert compared(*ARMS).notes == ()


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ((), "no runs"),
        ((arm_run("mtt", 1.0, test_probabilities=None),), "arm mtt, convnet, seed 0: has no test probabilities"),
        ((arm_run("mtt", 1.0), arm_run("mtt", 1.0)), "given twice"),
        ((arm_run("mtt", 1.0, test_probabilities=np.zeros((2, 5, 3), np.float32)),), r"must be \(networks, 90, 3\)"),
        ((arm_run("mtt", 1.0, test_probabilities=np.full((2, 90, 3), np.nan, np.float32)),), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, message):
    with pytest.raises(ConfigError, match=message):
        compared(*runs)
