"""Images as rounded amplitudes: what is stored reads back, costs what it says, and is closer than small pictures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from medidistill.errors import ConfigError
from medidistill.packed_images import PackedImages, dct_matrix
from medidistill.seeding import stream
from medidistill.spectral_images import SpectralImages, bit_table, read_packed, rounded_spectrum


def natural(count: int = 30, channels: int = 1, side: int = 16) -> torch.Tensor:
    """Return noise with the amplitude spectrum of natural images, 1 / |f|."""
    place = torch.arange(side, dtype=torch.float32)
    fall = torch.hypot(place[:, None], place).clamp_min(1) ** -1
    matrix = dct_matrix(side).float()
    white = torch.randn(count, channels, side, side, generator=stream(0, "natural"))
    return matrix.T @ (white * fall) @ matrix


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_tensors_and_header_read_back_to_the_same_images(bits: int, channels: int) -> None:
    written = SpectralImages.of(natural(7, channels), 4, bits)
    read = read_packed(written.header(), written.tensors())
    assert isinstance(read, SpectralImages)
    assert read.header() == written.header()
    assert torch.equal(read.codes, written.codes)
    assert torch.equal(read.decode(), written.decode())


def test_small_pictures_are_read_by_their_decoder() -> None:
    small = PackedImages(natural(3, 1, 4), 16).quantised(4)
    assert isinstance(read_packed(small.header(), small.tensors()), PackedImages)


@pytest.mark.parametrize(("stored_side", "bits"), [(4, 8), (4, 2), (8, 4), (5, 8)])
def test_an_image_takes_the_bits_of_the_small_picture(stored_side: int, bits: int) -> None:
    made = SpectralImages.of(natural(), stored_side, bits)
    total = stored_side**2 * bits
    assert int(made.table().sum()) == total
    codes = made.tensors()["packed/codes"]
    assert codes.dtype == torch.uint8
    assert len(codes) == -(-30 * total // 8)
    # one scale of 4 bits for each frequency up to the diagonal of the highest in use, at most all 256
    assert len(codes) < made.nbytes <= len(codes) + 128


@pytest.mark.parametrize(("bits", "share"), [(8, 0.5), (4, 0.7), (2, 0.8)])
def test_images_of_natural_spectrum_are_closer_than_small_pictures_of_equal_bytes(bits: int, share: float) -> None:
    images = natural()
    small = PackedImages(F.interpolate(images, size=8, mode="area"), 16).quantised(bits).decode()
    ours = SpectralImages.of(images, 8, bits).decode()
    assert (ours - images).square().mean() < share * (small - images).square().mean()


@pytest.mark.parametrize("bits", [8, 2])
def test_what_an_objective_sees_is_what_the_set_decodes_to(bits: int) -> None:
    images = natural()
    assert torch.equal(rounded_spectrum(images, 4, bits), SpectralImages.of(images, 4, bits).decode())


def test_rounding_again_changes_little() -> None:
    once = rounded_spectrum(natural(), 4)
    twice = rounded_spectrum(once, 4)
    assert (twice - once).square().mean() < 0.05 * once.square().mean()


def test_bits_go_to_the_largest_error_that_is_left() -> None:
    scales = torch.tensor([[0, 2], [4, 15]], dtype=torch.uint8)  # root mean squares 1, 1/2, 1/4, and none
    # errors left after b bits: 1, 1/4, 1/16, ..; 1/4, 1/16, ..; 1/16, ..
    assert bit_table(scales, 1).tolist() == [[1, 0], [0, 0]]
    assert bit_table(scales, 3).tolist() == [[2, 1], [0, 0]]
    assert bit_table(scales, 6).tolist() == [[3, 2], [1, 0]]
    assert bit_table(scales, 1000).tolist() == [[8, 8], [8, 0]]


@pytest.mark.parametrize(("bits", "error"), [(2, 0.1188), (4, 0.01154)])
def test_gaussian_amplitudes_are_rounded_with_the_least_error_of_equal_steps(bits: int, error: float) -> None:
    values = torch.randn(200_000, 1, 1, 1, generator=stream(0, "gauss"))  # the error is in table II of Max 1960
    made = SpectralImages.of(values, 1, bits)
    assert (made.decode() - values).square().mean().item() == pytest.approx(error, rel=0.02)


def test_constant_and_empty_images() -> None:
    flat = torch.full((2, 1, 8, 8), 0.3)
    torch.testing.assert_close(rounded_spectrum(flat, 4), flat, rtol=0.05, atol=0)
    zero = torch.zeros(2, 1, 8, 8)
    assert rounded_spectrum(zero, 4).abs().max() < 1e-30
    with pytest.raises(ConfigError, match="no images"):
        SpectralImages.of(torch.zeros(0, 1, 8, 8), 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 3}, "bits=3 with decoder='spectral': must be one of 8, 4, 2"),
        ({"stored_side": 17}, "must be in 1..16"),
        ({"largest": 0.0}, "must be <= 15, and > 0"),
        ({"codes": torch.zeros(1, 1, 2, dtype=torch.uint8)}, "codes"),
        ({"scales": torch.zeros(16, 16)}, "must be square, of uint8"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], words: str) -> None:
    made = SpectralImages.of(natural(), 4, 8)
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        dataclasses.replace(made, **change)


def test_a_code_beyond_its_bits_is_refused() -> None:
    made = SpectralImages.of(natural(), 4, 8)
    codes = made.codes.clone()
    codes[0, 0] = 255
    with pytest.raises(ConfigError, match="does not fit the bits"):
        dataclasses.replace(made, codes=codes)


def test_a_stream_of_another_length_is_refused() -> None:
    made = SpectralImages.of(natural(), 4, 8)
    with pytest.raises(ConfigError, match="need 480 bytes"):
        SpectralImages.read(made.header(), {**made.tensors(), "packed/codes": torch.zeros(479, dtype=torch.uint8)})
