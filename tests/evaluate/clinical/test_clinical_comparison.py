"""The whole comparison: its numbers are those of the parts, undefined ones are marked, no patient is in it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical import ProbeData, clinical_comparison
from medidistill.evaluate.clinical.decision_curve import decision_curve
from medidistill.evaluate.clinical.delong import auroc_interval, macro_auroc_difference
from medidistill.evaluate.clinical.operating_point import operating_point
from medidistill.evaluate.clinical.recalibration import recalibration
from medidistill.evaluate.intervals import resample_patients
from medidistill.evaluate.weighted import weighted_aurocs

from .clinical_example import NAMES, PATIENTS, SETTINGS, TEST, VAL, compared, run, stored


@pytest.fixture(scope="module")
def result() -> dict:
    sex = np.where(np.arange(len(TEST)) % 4 < 2, "F", "M")
    return stored(subgroups={"sex": sex.tolist()})


def test_numbers_are_those_of_the_parts(result):
    arm = result["arms"][2]
    assert (arm["arm"], arm["networks"]) == ("iadd", 2)
    p = run("iadd", 2.2).test_probabilities.astype(float).mean(0)
    q = run("iadd", 2.2).val_probabilities.astype(float).mean(0)
    for k, figures in enumerate(arm["classes"]):
        truth = k == TEST
        assert figures["class"] == NAMES[k]
        assert figures["auroc"]["estimate"] == pytest.approx(roc_auc_score(truth, p[:, k]))
        assert figures["auroc_bootstrap"]["estimate"] == pytest.approx(figures["auroc"]["estimate"])
        for side in ("low", "high"):
            assert figures["auroc"][side] == pytest.approx(figures["auroc_bootstrap"][side], abs=0.02)
        assert figures["brier"]["estimate"] == pytest.approx(brier_score_loss(truth, p[:, k]), abs=1e-6)
        point = operating_point(k == VAL, q[:, k], truth, p[:, k], PATIENTS)
        assert figures["operating_point"]["counts"] == vars(point.counts)
        assert figures["operating_point"]["threshold"] == pytest.approx(point.threshold, abs=1e-6)
        assert sum(figures["histogram"]["positives"]) == truth.sum() == figures["positives"]
        assert sum(figures["histogram"]["negatives"]) == (~truth).sum()
    assert arm["brier"]["estimate"] == pytest.approx(sum(c["brier"]["estimate"] for c in arm["classes"]))
    assert arm["macro_auroc"]["estimate"] == pytest.approx(np.mean([c["auroc"]["estimate"] for c in arm["classes"]]))


def test_differences_are_against_the_reference_with_a_verdict(result):
    assert [(one["arm"], one["minus"]) for one in result["differences"]] == [("random", "full"), ("iadd", "full")]
    random, iadd = (one["macro"] for one in result["differences"])
    assert random["verdict"] == "inferior"
    assert iadd["verdict"] == "non-inferior"
    p, q = (run(*arm).test_probabilities.astype(float).mean(0) for arm in (("iadd", 2.2), ("full", 2.5)))
    direct = macro_auroc_difference(TEST, p, q, PATIENTS)
    assert (iadd["low"], iadd["p_value"]) == pytest.approx((direct.low, direct.p_value), rel=1e-4)
    called = [(one.argmax(1) == TEST) for one in (p, q)]
    assert result["differences"][1]["mcnemar"]["only_first"] == (called[0] & ~called[1]).sum()


def test_json_safe_and_without_any_patient(result):
    text = json.dumps(result, allow_nan=False)
    assert json.loads(text) == result
    assert "PHANTOM" not in text
    assert result["test"] == {"images": 360, "patients": 180, "images_per_class": dict.fromkeys(NAMES, 120)}
    assert result["settings"] == dataclasses.asdict(SETTINGS)
    assert any("360 test images of 180 patients" in note for note in result["notes"])


def test_same_input_same_result(result):
    sex = np.where(np.arange(len(TEST)) % 4 < 2, "F", "M")
    assert stored(subgroups={"sex": sex.tolist()}) == result


def test_subgroups_hold_every_arm(result):
    (women, men) = result["subgroups"]["sex"]
    assert women["images"] + men["images"] == 360
    assert set(women["auroc"]) == {"full", "random", "iadd"}


def test_runs_without_validation_probabilities_have_no_threshold():
    runs = [run("full", 2.5, val=False), run("iadd", 2.2)]
    for found in (stored(runs=runs)["arms"][0], stored(val_labels=None)["arms"][0]):
        assert "must not be chosen on the test split" in found["classes"][0]["operating_point"]["undefined"]


def test_undefined_figures_are_marked_and_the_rest_goes_on():
    runs = [run("full", 60.0), run("iadd", 60.0), run("mtt", 0.5)]
    found = stored(runs=runs)
    perfect = found["arms"][0]["classes"][0]
    assert "zero variance" in perfect["auroc"]["undefined"]
    assert perfect["auroc"]["estimate"] == 1.0
    assert "separate" in perfect["recalibration"]["undefined"]
    assert "zero variance" in found["differences"][0]["macro"]["undefined"]
    assert "nothing to test" in found["differences"][0]["mcnemar"]["undefined"]
    assert found["differences"][1]["macro"]["verdict"] == "inferior"


def test_seeds_are_averaged_and_architectures_kept_apart():
    runs = [run("full", 2.5, seed=s) for s in (0, 1)] + [run("iadd", 2.0, seed=s) for s in (0, 1)]
    runs += [run("full", 2.5, architecture="vgg11"), run("iadd", 1.0, architecture="vgg11")]
    found = stored(runs=runs)
    assert [(a["arm"], a["architecture"], a["networks"], a["seeds"]) for a in found["arms"]] == [
        ("full", "convnet", 4, [0, 1]),
        ("iadd", "convnet", 4, [0, 1]),
        ("full", "vgg11", 2, [0]),
        ("iadd", "vgg11", 2, [0]),
    ]
    assert [one["architecture"] for one in found["differences"]] == ["convnet", "vgg11"]


def test_the_probe_is_part_of_it():
    rng = np.random.default_rng(0)
    splits = []
    for images in (200, 120):
        sites = np.arange(images) // 2 % 2
        pixels = rng.normal(size=(images, 16, 16)) + 0.3 * sites[:, None, None]
        names = [("north", "south")[site] for site in sites]
        splits.append(ProbeData(pixels, np.arange(images) % 3, names, [str(i) for i in range(images)]))
    found = stored(probe=tuple(splits))["source_probe"]
    assert found["site"]["balanced_accuracy"]["low"] > 0.8
    assert set(found["within_class"]) == set(NAMES)


def test_misuse_is_refused():
    with pytest.raises(ConfigError, match=r"reference='ful'.*did you mean 'full'"):
        compared(settings=dataclasses.replace(SETTINGS, reference="ful"))
    with pytest.raises(ConfigError, match="margin=0"):
        compared(settings=dataclasses.replace(SETTINGS, margin=0))
    with pytest.raises(ConfigError, match="no runs"):
        compared(runs=[])
    with pytest.raises(ConfigError, match="a seed is given twice"):
        compared(runs=[run("full", 1.0), run("full", 1.0)])
    with pytest.raises(ConfigError, match="has no test probabilities"):
        compared(runs=[dataclasses.replace(run("full", 1.0), test_probabilities=None)])
    with pytest.raises(ConfigError, match=r"test probabilities .* must be"):
        clinical_comparison([run("full", 1.0)], TEST, PATIENTS, NAMES[:2])
    with pytest.raises(ConfigError, match="patient identifiers"):
        clinical_comparison([run("full", 1.0)], TEST, PATIENTS[:3], NAMES)


def test_every_interval_counts_patients(result):
    arm, p = result["arms"][2], run("iadd", 2.2).test_probabilities.astype(float).mean(0)
    for k, figures in enumerate(arm["classes"]):
        truth = k == TEST
        assert figures["auroc"]["low"] == pytest.approx(auroc_interval(truth, p[:, k], PATIENTS).low, rel=1e-5)
        assert figures["auroc"]["low"] != pytest.approx(auroc_interval(truth, p[:, k]).low, rel=1e-5)
        slope = recalibration(truth, p[:, k], PATIENTS).slope
        assert figures["recalibration"]["slope"]["low"] == pytest.approx(slope.low, rel=1e-4)
        assert figures["decision_curve"]["low"][10] == pytest.approx(
            decision_curve(truth, p[:, k], PATIENTS).low[10], rel=1e-4
        )


def test_bootstrap_limits_are_those_of_the_whole(result):
    arm, p = result["arms"][2], run("iadd", 2.2).test_probabilities.astype(float).mean(0)
    weights = resample_patients(PATIENTS, TEST, 3, SETTINGS.bootstrap, SETTINGS.seed).weights(slice(None))
    macro = np.quantile(weighted_aurocs(TEST, p, weights).mean(axis=1), [0.025, 0.975])
    assert [arm["macro_auroc_bootstrap"][side] for side in ("low", "high")] == pytest.approx(macro, rel=1e-5)
    losses = ((p - np.eye(3)[TEST]) ** 2).sum(axis=1)
    score = np.quantile(weights @ losses / weights.sum(axis=1), [0.025, 0.975])
    assert [arm["brier"][side] for side in ("low", "high")] == pytest.approx(score, rel=1e-4)


def test_seeds_of_an_arm_are_one_model():
    runs = [run("full", 2.5, seed=seed) for seed in (0, 1)]
    both = np.concatenate([one.test_probabilities for one in runs]).astype(float).mean(0)
    area = stored(runs=runs)["arms"][0]["classes"][0]["auroc"]["estimate"]
    assert area == pytest.approx(roc_auc_score(TEST == 0, both[:, 0]))


def test_few_patients_of_a_class_are_pointed_out(result):
    assert not any("below 30" in note for note in result["notes"])
    few = [f"PHANTOM-{i % 25}-{k}" for i, k in enumerate(TEST)]
    found = clinical_comparison([run("full", 2.5)], TEST, few, NAMES, settings=SETTINGS)
    assert sum("25 test patients: no interval for it is to be relied on below 30" in one for one in found.notes) >= 1
