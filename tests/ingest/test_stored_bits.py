"""Stored values out of pixel cells, against arithmetic on Python integers."""

from __future__ import annotations

import numpy as np
import pytest

from medidistill.errors import IngestError
from medidistill.ingest.stored_bits import mask_unused_bits


def by_hand(cell: int, stored: int, high: int, signed: bool) -> int:
    value = (cell >> (high - stored + 1)) % 2**stored
    return value - 2**stored if signed and value >= 2 ** (stored - 1) else value


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("allocated", "stored", "high"),
    [
        *[(8, 8, 7), (8, 7, 6), (8, 7, 7), (8, 1, 3)],
        *[(16, 12, 11), (16, 12, 15), (16, 12, 13), (16, 16, 15), (16, 8, 15), (16, 1, 0)],
        *[(32, 12, 11), (32, 20, 25), (32, 32, 31), (64, 40, 50), (64, 64, 63)],
    ],
)
def test_equals_integer_arithmetic(allocated: int, stored: int, high: int, signed: bool) -> None:
    cells = np.random.default_rng(0).integers(0, 2**allocated - 1, (5, 40), dtype="u8", endpoint=True)
    values = mask_unused_bits(cells.astype(f"u{allocated // 8}"), allocated, stored, high, signed)
    assert values.dtype == np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    assert values.tolist() == [[by_hand(int(cell), stored, high, signed) for cell in row] for row in cells]


def test_takes_any_byte_order_and_leaves_the_input_alone() -> None:
    cells = np.array([0xF123, 0x0FFF], ">u2")
    assert mask_unused_bits(cells, 16, 12, 11, False).tolist() == [0x123, 0xFFF]
    assert mask_unused_bits(cells.astype("i4"), 16, 12, 11, True).tolist() == [0x123, -1]
    assert cells.tolist() == [0xF123, 0x0FFF]


def test_values_that_are_extended_already_stay() -> None:
    values = np.array([-2048, -1, 0, 2047], "i2")
    assert mask_unused_bits(values, 16, 12, 11, True).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("allocated", "stored", "high", "tag"),
    [
        *[(12, 12, 11, "0028,0100"), (1, 1, 0, "0028,0100")],
        *[(16, 0, 0, "0028,0101"), (16, 17, 16, "0028,0101")],
        *[(16, 12, 10, "0028,0102"), (16, 12, 16, "0028,0102"), (8, 8, 15, "0028,0102")],
    ],
)
def test_rejects_attributes_out_of_range(allocated: int, stored: int, high: int, tag: str) -> None:
    with pytest.raises(IngestError, match=tag):
        mask_unused_bits(np.zeros(4, "u2"), allocated, stored, high, False)


def test_rejects_floating_point_pixels() -> None:
    with pytest.raises(IngestError, match="float32"):
        mask_unused_bits(np.zeros(4, "f4"), 32, 32, 31, False)
