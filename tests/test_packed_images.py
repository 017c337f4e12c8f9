from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from medidistill.errors import ConfigError
from medidistill.packed_images import PackedImages, label_codes, rounded_labels, upsampling_matrix
from medidistill.seeding import stream

VALUES = torch.randn(5, 1, 3, 3, generator=stream(0, "packed"))


def packed(bits: int = 32, decoder: str = "bilinear") -> PackedImages:
    return PackedImages(VALUES, 12, decoder).quantised(bits)


@pytest.mark.parametrize("bits", [32, 8, 4, 2])
@pytest.mark.parametrize("decoder", ["bilinear", "dct"])
def test_tensors_and_header_read_back_to_the_same_images(bits, decoder):
    written = packed(bits, decoder)
    read = PackedImages.read(written.header(), written.tensors())
    assert read.header() == written.header()
    assert torch.equal(read.codes, written.codes)
    assert torch.equal(read.decode(), written.decode())


@pytest.mark.parametrize(("bits", "stored"), [(32, 4 * 45), (8, 45), (4, 23), (2, 12)])
def test_stored_bytes_are_counted_and_written(bits, stored):
    written = packed(bits)
    codes = written.tensors()["packed/codes"]
    assert written.nbytes == stored == codes.numel() * codes.element_size()


def test_bilinear_decode_equals_torch_interpolate():
    torch.testing.assert_close(packed().decode(), F.interpolate(VALUES, size=12, mode="bilinear"))


def test_stored_images_of_full_size_decode_to_themselves():
    assert torch.equal(PackedImages(VALUES, 3).decode(), VALUES)


@pytest.mark.parametrize(("bits", "largest"), [(8, 0.011), (4, 0.12), (2, 0.42)])
def test_quantised_values_have_at_most_this_root_mean_squared_error(bits, largest):
    error = (packed(bits).values() - VALUES).square().mean().sqrt()
    assert error < largest


def test_eight_bits_reach_both_extremes():
    values = packed(8).values()
    assert values.min() == pytest.approx(VALUES.min().item(), abs=1e-5)
    assert values.max() == pytest.approx(VALUES.max().item(), abs=1e-5)


def test_constant_images_survive_quantisation():
    flat = PackedImages(torch.full((2, 1, 3, 3), 0.3), 6)
    torch.testing.assert_close(flat.quantised(8).decode(), torch.full((2, 1, 6, 6), 0.3))


def test_codes_fill_bytes_from_the_lowest_bits():
    codes = torch.tensor([1, 2, 3, 0, 2], dtype=torch.uint8).view(5, 1, 1, 1)
    stored = PackedImages(codes, 1, bits=2).tensors()["packed/codes"]
    assert stored.tolist() == [1 + 2 * 4 + 3 * 16, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": VALUES[0]}, r"\(1, 3, 3\): must be \(N, C, h, h\)"),
        ({"bits": 3}, "bits=3: must be one of 32, 8, 4, 2"),
        ({"bits": 8}, "torch.float32 with bits=8: must be torch.uint8"),
        ({"codes": torch.full((1, 1, 2, 2), 4, dtype=torch.uint8), "bits": 2}, "a code of 4 with bits=2: must be < 4"),
        ({"side": 2}, r"side 3: must be in 1..2"),
        ({"decoder": "cubic"}, "decoder='cubic': must be one of bilinear, dct"),
        ({"step": 0.0}, "step > 0"),
    ],
)
def test_rejects_what_does_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        PackedImages(**{"codes": VALUES, "side": 12, **change})


def test_rejects_a_stored_tensor_of_another_length():
    written = packed(4)
    with pytest.raises(ConfigError, match="need 23 bytes"):
        PackedImages.read(written.header(), {"packed/codes": written.tensors()["packed/codes"][:-1]})


def test_upsampling_rows_sum_to_one():
    for decoder in ("bilinear", "dct"):
        rows = upsampling_matrix(decoder, 12, 3).sum(1)
        torch.testing.assert_close(rows, torch.ones(12, dtype=torch.float64))


def test_rounded_labels_sum_to_one_and_fit_bytes():
    labels = torch.softmax(3 * torch.randn(200, 7, generator=stream(0, "labels")), 1)
    rounded = rounded_labels(labels)
    codes = label_codes(rounded)
    assert codes is not None
    assert codes.dtype == torch.uint8
    assert codes.long().sum(1).eq(255).all()
    assert torch.equal(codes.float() / 255, rounded)
    assert (rounded - labels).abs().max() < 1 / 255
    assert torch.equal(rounded_labels(rounded), rounded)


def test_labels_of_finer_steps_have_no_codes():
    assert label_codes(torch.tensor([[0.301, 0.699]])) is None
