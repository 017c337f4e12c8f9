"""The images of one set as the beginning of another that stores them in another way."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.distillation.parameterization import Parameterization
from medidistill.distillation.warm_start import stored_images_of
from medidistill.packed_images import PackedImages
from tests.export.bundle_example import make_set

SIDE = 16


def _smooth() -> Tensor:
    noise = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=SIDE, mode="bicubic")


@pytest.mark.parametrize(
    ("stored", "decoder", "factor"),
    [("dct", "spectral", 2), ("dct", "bilinear", 1), ("dct", "bilinear", 2), ("bilinear", "dct", 2), ("dct", "dct", 2)],
)
def test_what_is_begun_with_decodes_as_close_as_it_can(stored: str, decoder: str, factor: int) -> None:
    packed = PackedImages.nearest(_smooth(), SIDE // 2, stored)
    start = dataclasses.replace(make_set(), packed=packed, images=packed.decode())
    maps = Parameterization("pixels", SIDE, factor=factor, decoder=decoder)
    begun = maps.decode(stored_images_of(start, maps))
    error = float((begun - start.images).square().mean() / start.images.var())
    if maps.upsampling is None or stored == decoder:
        assert error < 1e-10
        return
    best = maps.decode(PackedImages.nearest(start.images, maps.stored_side, decoder).values())
    assert error == pytest.approx(float((best - start.images).square().mean() / start.images.var()))
    as_it_was = maps.decode(packed.values())
    assert error < float((as_it_was - start.images).square().mean() / start.images.var())


def test_the_nearest_small_picture_of_a_decoded_one_is_that_picture() -> None:
    small = torch.randn(3, 1, 8, 8)
    for decoder in ("bilinear", "dct"):
        shown = PackedImages(small, SIDE, decoder).decode()
        torch.testing.assert_close(PackedImages.nearest(shown, 8, decoder).values(), small, atol=1e-4, rtol=1e-4)
