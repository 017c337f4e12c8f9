import copy

import pytest

from benchmarks.quick_audit import refused_by

SILENT = {
    "attacks": {
        "membership_release": {"high": 0.03},
        "lira": {"high": 0.02},
        "rmia": {"high": 0.02},
        "canaries": {"high": 0.1},
    },
    "one_run": {"epsilon_lower": 0.5},
    "linkage": {"pixels": 0.01, "high_pass": 0.9},
}


def test_figures_at_the_limits_of_the_policy_pass():
    assert refused_by(SILENT) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "rule"),
    [
        ("linkage", "pixels", 0.009, "linkage"),
        ("linkage", "high_pass", 0.009, "linkage"),
        ("attacks", "membership_release", {"high": 0.031}, "membership"),
        ("attacks", "lira", {"high": 0.031}, "LiRA"),
        ("attacks", "rmia", {"high": 0.031}, "RMIA"),
        ("attacks", "canaries", {"high": 0.101}, "canaries"),
        ("one_run", "epsilon_lower", 0.51, "epsilon"),
    ],
)
def test_each_figure_above_its_limit_is_named(part, name, value, rule):
    run = copy.deepcopy(SILENT)
    run[part][name] = value
    assert refused_by(run) == [rule]
