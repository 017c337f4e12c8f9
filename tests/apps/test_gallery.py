"""The gallery: what distances to real images say, and when they say nothing."""

from __future__ import annotations

import pytest

from medidistill.files import load_tensors, save_tensors


@pytest.mark.parametrize("left", [0, None])
def test_without_validation_images_nothing_is_judged(left, finished, open_page, text_of):
    file = finished / "ingest" / "val.safetensors"
    tensors, header = load_tensors(file)
    save_tensors(file, {name: one[:left] for name, one in tensors.items()}, header)
    test = open_page("gallery", show_patients=True)
    shown = text_of(test)
    assert ("cannot be judged" in shown) is (left == 0)
    assert ("unusually near to a real training image. That is no proof" in shown) is (left is None)
    assert "nan" not in shown
