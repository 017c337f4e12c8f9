from __future__ import annotations

import pytest

import medidistill

from .api_example import CLASSES, EVALUATED, patients, stripes


@pytest.fixture(scope="session")
def result() -> medidistill.Result:
    """An evaluated result that no test changes."""
    images, labels = stripes()
    return medidistill.distill(images, labels=labels, class_names=CLASSES, groups=patients(), **EVALUATED)
