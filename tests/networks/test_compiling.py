"""One compiled function for each shape, however many there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from medidistill.networks import compiled_once
from medidistill.networks.compiling import CompiledByShape


@pytest.fixture
def strict_compiler() -> Iterator[None]:
    """Make torch's compiler raise where it would go on uncompiled."""
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        yield


def test_more_shapes_than_the_compiler_recompiles_a_function_are_all_compiled(strict_compiler: None) -> None:
    double = CompiledByShape(lambda x: 2 * x)
    for size in range(1, 6):
        assert double(torch.ones(size)).tolist() == [2.0] * size


def test_more_functions_than_the_compiler_recompiles_one_are_all_compiled(strict_compiler: None) -> None:
    for factor in range(2, 7):
        times = compiled_once(lambda x, factor=factor: factor * x, "a test's product", factor)
        assert times(torch.ones(1)).tolist() == [float(factor)]
