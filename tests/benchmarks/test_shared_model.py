"""A network in few bits: how it is rounded, and the table."""

from __future__ import annotations

import pytest
import torch

from benchmarks.shared_model import rounded, table


def test_values_are_rounded_to_steps_of_the_largest() -> None:
    value = torch.tensor([-7.0, 0.4, 0.6, 3.2])
    assert rounded(value, 4).tolist() == [-7.0, 0.0, 1.0, 3.0]
    assert rounded(value, 32) is value
    assert rounded(torch.zeros(2), 8).tolist() == [0.0, 0.0]
    assert float((rounded(value, 8) - value).abs().max()) <= 7 / 127 / 2 + 1e-6


def test_the_table_has_a_score_for_each_run() -> None:
    rows = [
        {"run": run, "side": side, "bits": 8, "bytes": 20451, "validation": 0.7}
        for run, side in (("a", 32), ("b", 32), ("c", 64))
    ]
    lines = table({"rows": rows}).splitlines()
    assert lines[2:] == ["| 32 | 8 | 20,451 | 0.700, 0.700 |", "| 64 | 8 | 20,451 | 0.700 |"]


@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_have_few_values(bits: int) -> None:
    value = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert len(rounded(value, bits).unique()) <= 2**bits - 1
