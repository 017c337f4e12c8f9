from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from scipy.fft import idctn
from torch import Tensor

from medidistill.config import DistillConfig
from medidistill.distillation.parameterization import Parameterization
from medidistill.distillation.state import initial_images, parameterization
from medidistill.errors import ConfigError
from medidistill.seeding import stream

X = torch.randn(3, 2, 12, 12, generator=stream(0, "basis"), dtype=torch.float64)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("decoder", ["bilinear", "dct"])
@pytest.mark.parametrize(("basis", "exponent"), [("pixels", 0.0), ("cosine", 0.0), ("cosine", 1.0), ("cosine", 2.0)])
def test_coordinates_invert_stored_and_vjp_is_the_transpose(factor, decoder, basis, exponent):
    maps = Parameterization(basis, 12, factor=factor, exponent=exponent, decoder=decoder)
    side = 12 // factor
    stored = torch.randn(3, 2, side, side, generator=stream(2, "basis"), dtype=torch.float64)
    torch.testing.assert_close(maps.stored(maps.coordinates(stored)), stored)
    z = torch.randn(stored.shape, generator=stream(1, "basis"), dtype=torch.float64)
    assert maps.images(z).shape == X.shape
    torch.testing.assert_close((maps.images(z) * X).sum(), (z * maps.vjp(X)).sum())


def test_cosine_coordinates_equal_scipys_inverse_dct_of_scaled_amplitudes():
    maps = Parameterization("cosine", 12)
    expected = idctn((maps.scale * X).numpy(), axes=(-2, -1), norm="ortho")
    torch.testing.assert_close(maps.images(X), torch.from_numpy(expected))


def test_bilinear_decode_equals_torch_interpolate():
    stored = X[..., :4, :4]
    maps = Parameterization("pixels", 12, factor=3)
    torch.testing.assert_close(maps.images(stored), F.interpolate(stored, size=12, mode="bilinear"))


def test_dct_decode_keeps_a_constant_and_the_low_frequencies():
    maps = Parameterization("pixels", 12, factor=3, decoder="dct")
    torch.testing.assert_close(maps.images(torch.full_like(X[..., :4, :4], 0.7)), torch.full_like(X, 0.7))
    spectrum = Parameterization("cosine", 12, exponent=0.0).coordinates(maps.images(X[..., :4, :4]))
    assert spectrum[..., 4:, :].abs().max() < 1e-12
    assert spectrum[..., :, 4:].abs().max() < 1e-12


def test_white_coordinates_of_deviation_s_make_images_of_deviation_s_whose_spectrum_falls():
    maps = Parameterization("cosine", 32)
    images = maps.images(0.3 * torch.randn(500, 1, 32, 32, generator=stream(2, "basis")))
    assert images.square().mean().sqrt() == pytest.approx(0.3, rel=0.03)
    assert maps.scale[8, 0] / maps.scale[4, 0] == pytest.approx(0.5)
    assert maps.scale[0, 0] == maps.scale[0, 1]
    neighbours = torch.corrcoef(torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()]))[0, 1]
    assert neighbours > 0.7  # neighbouring pixels of white noise are uncorrelated


def test_float32_in_gives_float32_out():
    maps = Parameterization("cosine", 12, factor=2)
    assert maps.images(X[..., :6, :6].float()).dtype == torch.float32
    assert maps.vjp(X.float()).dtype == torch.float32


@pytest.mark.parametrize(("factor", "side"), [(3, 32), (16, 32), (64, 64)])
def test_rejects_a_factor_that_does_not_divide_the_side_or_leaves_too_little(factor, side):
    with pytest.raises(ConfigError, match=rf"distill.factor={factor}: must divide .* use one of 1, 2, 4, 8"):
        parameterization(DistillConfig(factor=factor), side)


def test_factor_two_starts_four_small_images_for_each_stored_one():
    stored = initial_images(DistillConfig(ipc=2, factor=2), (1, 16, 16), 3, None, seed=0)
    assert stored.shape == (3 * 2 * 4, 1, 8, 8)


def test_real_start_averages_real_images_down_to_the_stored_size():
    real = torch.arange(8 * 16 * 16, dtype=torch.float32).view(8, 1, 16, 16)
    labels = torch.tensor([0] * 4 + [1] * 4)
    stored: Tensor = initial_images(DistillConfig(ipc=1, factor=2, init="real"), (1, 16, 16), 2, (real, labels), seed=0)
    assert sorted(stored.mean((1, 2, 3)).tolist()) == pytest.approx(real.mean((1, 2, 3)).tolist())
    with pytest.raises(ConfigError, match=r"ipc=2 with factor=2: class 0 has only 4 training images, 8 are needed"):
        initial_images(DistillConfig(ipc=2, factor=2, init="real"), (1, 16, 16), 2, (real, labels), seed=0)
