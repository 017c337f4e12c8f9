"""What several parts share: text of intervals and tables, digests of tensors, patients as codes, binomial limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from medidistill.evaluate.intervals import resample_patients
from medidistill.hashing import tensor_sha256
from medidistill.networks import compiled_once
from medidistill.statistics import Interval, clopper_pearson_limits, patient_codes
from medidistill.textio import csv_text, interval_text, markdown_table


@pytest.mark.parametrize(
    ("digits", "sign", "text"),
    [(3, "", "0.500 [-0.250, 1.000]"), (2, "+", "+0.50 [-0.25, +1.00]"), (0, "", "0 [-0, 1]")],
)
def test_interval_text_rounds_every_number_alike(digits, sign, text):
    assert interval_text(Interval(0.5, -0.25, 1.0), digits, sign) == text


def test_markdown_table_keeps_a_cell_on_its_line_and_in_its_column():
    assert markdown_table(["a|b", "c"], [["1\n2", "x|y"], ["", "3"]]) == [
        "| a\\|b | c |",
        "| --- | --- |",
        "| 1 2 | x\\|y |",
        "|  | 3 |",
    ]


def test_csv_leaves_missing_cells_empty_and_refuses_an_unknown_column():
    assert csv_text(["a", "b"], [{"a": 1}, {"b": "x,y"}]) == 'a,b\n1,\n,"x,y"\n'
    with pytest.raises(ValueError, match="c"):
        csv_text(["a"], [{"c": 1}])


def test_tensor_digest_is_of_the_values_in_order_whatever_the_layout():
    tensor = torch.arange(6.0).view(2, 3)
    assert tensor_sha256(tensor) == tensor_sha256(tensor.t().contiguous().t().requires_grad_())
    assert tensor_sha256(tensor) != tensor_sha256(tensor.t())


def test_patient_codes_follow_the_sorted_names_as_text():
    assert patient_codes(["b", "a", "b", "10", "9"]).tolist() == [3, 2, 3, 0, 1]
    assert patient_codes([7, "7"]).tolist() == [0, 0]


@pytest.mark.parametrize(("hits", "trials"), [(0, 9), (1, 9), (4, 9), (9, 9), (17, 400)])
def test_binomial_limits_equal_those_of_scipy(hits, trials):
    exact = stats.binomtest(hits, trials).proportion_ci(0.9, "exact")
    assert clopper_pearson_limits(hits, trials, 0.9) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_resamples_in_blocks_equal_all_at_once(monkeypatch):
    labels = np.arange(12) % 2
    resamples = resample_patients([str(i // 2) for i in range(12)], labels, 2, 50, 0)
    whole = resamples.over(lambda weights: weights**2)
    assert np.array_equal(whole, resamples.weights(slice(None)) ** 2)
    monkeypatch.setattr("medidistill.evaluate.intervals._BLOCK", 25)
    assert np.array_equal(resamples.over(lambda weights: weights**2), whole)


def test_one_compiled_function_for_equal_keys():
    first = compiled_once(torch.sin, "test", 1)
    assert compiled_once(torch.cos, "test", 1) is first
    assert compiled_once(torch.cos, "test", 2) is not first
