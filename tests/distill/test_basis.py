from __future__ import annotations

import pytest
import torch
from scipy.fft import idctn

from medidistill.distill.basis import CosineBasis, PixelBasis, make_basis
from medidistill.seeding import stream

X = torch.randn(3, 2, 12, 12, generator=stream(0, "basis"), dtype=torch.float64)


@pytest.mark.parametrize("basis", [PixelBasis(), CosineBasis(12, 0.0), CosineBasis(12, 1.0), CosineBasis(12, 2.0)])
def test_every_image_can_be_reached_and_the_pull_is_the_transpose(basis):
    torch.testing.assert_close(basis.images(basis.coordinates(X)), X)
    z = torch.randn(X.shape, generator=stream(1, "basis"), dtype=torch.float64)
    torch.testing.assert_close((basis.images(z) * X).sum(), (z * basis.pull(X)).sum())


def test_cosines_are_the_inverse_discrete_cosine_transform_of_scaled_amplitudes():
    basis = CosineBasis(12, 1.0)
    expected = idctn((basis.scale * X).numpy(), axes=(-2, -1), norm="ortho")
    torch.testing.assert_close(basis.images(X), torch.from_numpy(expected))


def test_white_coordinates_of_deviation_s_make_images_of_deviation_s_whose_spectrum_falls():
    basis = make_basis("cosine", 32, 1.0, "cpu")
    images = basis.images(0.3 * torch.randn(500, 1, 32, 32, generator=stream(2, "basis")))
    assert images.square().mean().sqrt() == pytest.approx(0.3, rel=0.03)
    assert isinstance(basis, CosineBasis)
    assert basis.scale[8, 0] / basis.scale[4, 0] == pytest.approx(0.5)
    assert basis.scale[0, 0] == basis.scale[0, 1]
    neighbours = torch.corrcoef(torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()]))[0, 1]
    assert neighbours > 0.7  # pixels of white noise would not be related at all
    assert isinstance(make_basis("pixels", 32, 1.0, "cpu"), PixelBasis)


def test_images_keep_their_kind_of_number():
    assert CosineBasis(12, 1.0).images(X.float()).dtype == torch.float32
    assert CosineBasis(12, 1.0).pull(X.float()).dtype == torch.float32
