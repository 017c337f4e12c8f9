"""Images of any common range and layout become [0, 1], and everything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medidistill.errors import ArgumentError, ArgumentTypeError
from medidistill.intensities import as_batch, to_unit_range


@pytest.mark.parametrize(
    ("values", "top", "words"),
    [
        (np.array([[0, 255]], np.uint8), 255, ""),
        (np.array([[0, 100]], np.uint8), 255, ""),
        (np.array([[0, 200]], np.int64), 255, ""),
        (np.array([[0, 1000]], np.uint16), 1023, "10 bits"),
        (np.array([[0, 4095]], np.uint16), 4095, "12 bits"),
        (np.array([[0, 4096]], np.int32), 16383, "14 bits"),
        (np.array([[0, 65535]], np.uint16), 65535, "16 bits"),
        (np.array([[0, 0.25]], np.float32), 1, ""),
        (np.array([[0, 1.0]], np.float64), 1, ""),
        (np.array([[0, 254.0]], np.float32), 255, "0 to 255"),
    ],
)
def test_the_largest_value_of_the_range_becomes_one(values, top, words):
    found = to_unit_range(values)
    assert found.high == top
    assert found.images.dtype == torch.float32
    assert found.images[0, 0, 0, 1].item() == pytest.approx(values[0, 1] / top, rel=1e-6)
    assert words in found.note
    assert bool(words) == bool(found.note)


def test_a_given_range_is_used():
    found = to_unit_range(np.array([[-1024.0, 1024.0, 0.0]]), (-1024, 1024))
    assert found.images.flatten().tolist() == [0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("values", "value_range", "words"),
    [
        (np.array([[-0.1, 1.0]]), None, "must not be normalised yet"),
        (np.array([[0.0, 256.0]]), None, "give value_range"),
        (np.array([[0, 70000]]), None, "give value_range"),
        (np.array([[0.0, np.inf]]), None, "1 values that are NaN or infinite"),
        (np.array([[0.0, 2.0]]), (0, 1), "within value_range=(0, 1)"),
        (np.array([[0.0, 2.0]]), (0, np.nan), "low < high"),
        (np.array([[0.0, 2.0]]), 5, "two numbers"),
        (np.array([[True, False]]), None, "whole numbers or floats"),
        (np.array([["a", "b"]]), None, "a tensor or array of numbers"),
        (np.zeros((2, 2, 4, 4)), None, "1 or 3 channels"),
        (np.zeros((0, 4, 4)), None, "at least one image"),
    ],
)
def test_refuses(values, value_range, words):
    with pytest.raises(ArgumentError) as caught:
        to_unit_range(values, value_range)
    assert words in str(caught.value)


def test_a_wrong_type_is_a_type_error_and_a_value_error():
    with pytest.raises(ArgumentTypeError) as caught:
        to_unit_range("pixels")
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 7), (1, 1, 5, 7)),
        ((2, 5, 7), (2, 1, 5, 7)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
        ((2, 5, 7, 3), (2, 3, 5, 7)),
        ((2, 5, 7, 1), (2, 1, 5, 7)),
        ((2, 3, 5, 3), (2, 3, 5, 3)),
    ],
)
def test_every_layout_becomes_a_batch_of_channels_first(shape, expected):
    assert tuple(as_batch(np.zeros(shape)).shape) == expected
