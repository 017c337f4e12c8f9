"""What is hidden stays hidden: an attacker who enumerates every table that fits cannot find a hidden cell."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from medidistill.errors import ConfigError
from medidistill.evaluate.clinical.delong import auroc_interval
from medidistill.evaluate.clinical.subgroups import SUPPRESSED, UNKNOWN, age_bands, subgroup_table, subgroup_tables
from medidistill.evaluate.clinical.suppression import feasible_ranges, suppress
from medidistill.results.serialise import to_json

NAMES = ("COVID-19", "Normal", "Pneumonia")


def test_age_bands():
    assert age_bands([0, 17, 17.9, 18, 64, "80", 99, None, "", "old", float("nan"), -1]) == (
        *("0-17",) * 3,
        "18-39",
        "40-64",
        "80+",
        "80+",
        *(UNKNOWN,) * 5,
    )
    with pytest.raises(ConfigError, match="rising"):
        age_bands([1], (40, 18))


def ranges_by_enumeration(counts: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All tables of whole numbers that agree with what is shown and with the totals of the columns."""
    levels, classes = counts.shape
    whole = np.column_stack([counts, counts.sum(1)])
    columns = []
    for k in range(classes):
        total = counts[:, k].sum()
        columns.append([c for c in itertools.product(range(total + 1), repeat=levels) if sum(c) == total])
    low, high = np.full(whole.shape, np.inf), np.full(whole.shape, -np.inf)
    for pick in itertools.product(*columns):
        table = np.array(pick).T
        guess = np.column_stack([table, table.sum(1)])
        if (guess == whole)[~hidden].all():
            low, high = np.minimum(low, guess), np.maximum(high, guess)
    return low, high


@pytest.mark.parametrize("seed", range(6))
def test_linear_programs_find_what_enumeration_finds(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, (3, 2))
    hidden = rng.random((3, 3)) < 0.5
    for found, expected in zip(feasible_ranges(counts, hidden), ranges_by_enumeration(counts, hidden), strict=True):
        assert found == pytest.approx(expected)


def test_one_small_cell_takes_three_others_with_it():
    counts = np.array([[2, 40, 50], [30, 45, 60], [35, 38, 44]])
    small = np.zeros((3, 4), dtype=bool)
    small[0, 0] = True
    low, high = feasible_ranges(counts, small)
    assert low[0, 0] == high[0, 0] == 2  # alone it is given back by its row
    hidden = suppress(counts, small, 10)
    low, high = feasible_ranges(counts, hidden)
    assert (high - low)[hidden].min() >= 10
    assert hidden[0, 0]
    assert hidden.sum() == 4  # a rectangle


def test_two_zeros_hide_behind_a_third_cell_not_behind_each_other():
    # columns: the first class is in the last group alone
    counts = np.array([[0, 45, 44], [0, 48, 48], [104, 93, 98]])
    small = np.zeros((3, 4), dtype=bool)
    small[:2, 0] = True
    hidden = suppress(counts, small, 10)
    low, high = feasible_ranges(counts, hidden)
    assert (high - low)[hidden].min() >= 10
    assert hidden.sum() == 6


def test_random_tables_are_protected_by_brute_force():
    rng = np.random.default_rng(1)
    for _ in range(20):
        counts = rng.integers(0, 7, (3, 2))
        small = np.column_stack([counts < 2, np.zeros(3, dtype=bool)])
        hidden = suppress(counts, small, 2)
        assert (hidden | ~small).all()
        if hidden.any() and not hidden.all():
            low, high = ranges_by_enumeration(counts, hidden)
            assert (high - low)[hidden].min() >= 2 - 1e-9
        if not small.any():
            assert not hidden.any()


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="width=0"):
        suppress([[1, 2]], [[False] * 3], 0)
    with pytest.raises(ConfigError, match="small"):
        suppress([[1, 2]], [[False] * 2], 5)


def example(images: int = 900):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, images)
    z = rng.normal(size=(images, 3))
    z[np.arange(images), labels] += 1.5
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    sex = np.where(rng.random(images) < 0.5, "F", "M").astype(object)
    return labels, p, np.arange(images) // 2, sex


def table(labels, p, patients, groups, **others):
    return subgroup_table(labels, {"iadd": p}, patients.tolist(), list(groups), NAMES, **others)


def test_large_groups_are_shown_with_their_areas():
    labels, p, patients, sex = example()
    found = table(labels, p, patients, sex)
    assert [one.group for one in found] == ["F", "M"]
    for one in found:
        rows = sex == one.group
        assert one.images == rows.sum()
        for k, name in enumerate(NAMES):
            assert one.counts[name] == (rows & (labels == k)).sum()
            expected = auroc_interval(labels[rows] == k, p[rows, k], patients[rows].tolist())
            assert one.auroc["iadd"][name].low == pytest.approx(expected.low, abs=5e-4)
    json.dumps(to_json(found), allow_nan=False)


def test_a_small_group_is_hidden_and_cannot_be_found_by_subtraction():
    labels, p, patients, sex = example()
    sex[:24] = "X"  # twelve patients
    found = {one.group: one for one in table(labels, p, patients, sex)}
    assert found["X"].images == SUPPRESSED
    assert set(found["X"].counts.values()) == {SUPPRESSED}
    assert set(found["X"].auroc["iadd"].values()) == {SUPPRESSED}
    for name in NAMES:  # the totals of the classes are known, so one other group must be hidden in each
        assert any(found[group].counts[name] == SUPPRESSED for group in ("F", "M"))
    assert any(found[group].images == SUPPRESSED for group in ("F", "M"))


def test_a_class_that_a_group_hardly_has_is_hidden_there():
    labels, p, patients, sex = example()
    sex[labels == 0] = "M"
    sex[np.flatnonzero(labels == 0)[:4]] = "F"
    found = {one.group: one for one in table(labels, p, patients, sex)}
    assert found["F"].counts["COVID-19"] == SUPPRESSED
    assert found["F"].auroc["iadd"]["COVID-19"] == SUPPRESSED
    assert found["M"].counts["COVID-19"] == SUPPRESSED
    zero = table(labels, p, patients, np.where(labels == 0, "M", "F"))
    assert zero[0].counts["COVID-19"] == SUPPRESSED  # that a group has none of a disease is a finding about each of it


def test_minimum_counts_patients_not_images():
    labels, p, _, sex = example()
    few = np.where(sex == "F", 0, np.arange(len(labels)))  # all images of F are of one patient
    found = {one.group: one for one in table(labels, p, few, sex)}
    assert found["F"].images == SUPPRESSED


def test_missing_values_are_a_group_and_arguments_are_checked():
    labels, p, patients, sex = example()
    sex[::3] = ""
    sex[1::3] = float("nan")
    assert [one.group for one in table(labels, p, patients, sex)] == ["F", "M", UNKNOWN]
    with pytest.raises(ConfigError, match="minima >= 2"):
        table(labels, p, patients, sex, min_positives=1)
    with pytest.raises(ConfigError, match="3 groups for 900 images"):
        table(labels, p, patients, sex[:3])


def test_many_images_of_few_patients_are_few():
    labels, p, _, _ = example()
    sex = np.where((labels == 0) & (np.arange(len(labels)) >= 40), "M", "F")
    patients = np.arange(len(labels))
    patients[(labels == 0) & (sex == "F")] = 0  # all images of this class and group are of one patient
    found = {one.group: one for one in table(labels, p, patients, sex)}
    assert ((labels == 0) & (sex == "F")).sum() >= 10
    assert found["F"].counts["COVID-19"] == SUPPRESSED


def test_what_one_column_hides_the_other_does_not_show():
    """Sites a and b hide b (few); in the other column the images of b are those of `west`, whose classes are large."""
    labels = np.arange(400) % 2
    patients = [f"p{i}" for i in range(400)]
    site = np.where(np.arange(400) < 300, "a", "b")
    # the same hundred images are a group of the other column; its own third group is small and needs a companion
    ward = np.where(np.arange(400) >= 300, "west", np.where(np.arange(400) < 12, "tiny", "east"))
    alone = subgroup_tables(labels, {}, patients, {"ward": ward.tolist()}, ("x", "y"))["ward"]
    hidden = {one.group for one in alone if one.images == SUPPRESSED}
    assert hidden == {"tiny", "west"}
    both = subgroup_tables(labels, {}, patients, {"site": site.tolist(), "ward": ward.tolist()}, ("x", "y"))
    seen = {name: {one.group: one.images == SUPPRESSED for one in table} for name, table in both.items()}
    assert seen["ward"] == {"tiny": True, "west": True, "east": False}
    # b is west; and with b hidden alone, a and the total would give it away
    assert seen["site"] == {"a": True, "b": True}


def test_columns_that_share_nothing_do_not_touch_each_other():
    labels = np.arange(400) % 2
    patients = [f"p{i}" for i in range(400)]
    columns = {
        "sex": np.where(np.arange(400) // 2 % 2 == 0, "F", "M").tolist(),
        "site": np.where(np.arange(400) < 8, "tiny", np.where(np.arange(400) < 200, "a", "b")).tolist(),
    }
    both = subgroup_tables(labels, {}, patients, columns, ("x", "y"))
    for name, groups in columns.items():
        assert both[name] == subgroup_tables(labels, {}, patients, {name: groups}, ("x", "y"))[name]
    assert all(one.images == 200 for one in both["sex"])
