"""Stored values of 4 or 2 bits: how many images fit, and that the objective sees them rounded as they are delivered."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from medidistill.config import DistillConfig
from medidistill.distillation import Experts
from medidistill.distillation.state import DistillState
from medidistill.errors import ConfigError
from medidistill.packed_images import PackedImages
from medidistill.spectral_images import SpectralImages

from .feature_example import PLAIN, make_experts, make_state

CONFIG = DistillConfig(objective="snapshots", importance=PLAIN, ipc=2, factor=2, bits=2, lr_images=0.05)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Experts:
    return Experts(make_experts(tmp_path_factory.mktemp("experts")))


def step_of(state: DistillState, by_images: torch.Tensor) -> None:
    state.apply({"images": by_images, "log_alpha": torch.zeros_like(state.log_alpha)})


@pytest.mark.parametrize(
    ("factor", "bits", "images"),
    [(1, 0, 3), (1, 32, 3), (1, 8, 3), (1, 4, 6), (2, 0, 12), (2, 8, 12), (2, 4, 24), (2, 2, 48)],
)
def test_bytes_of_three_images_hold_as_many_as_factor_and_bits_allow(factor: int, bits: int, images: int) -> None:
    config = DistillConfig(ipc=3, factor=factor, bits=bits)
    assert config.images_per_class == images
    packed = PackedImages(torch.randn(images, 1, 16 // factor, 16 // factor), 16)
    if config.stored_bits <= 8:
        assert packed.quantised(config.stored_bits).nbytes == 3 * 16 * 16


@pytest.mark.parametrize(("factor", "bits"), [(1, 2), (1, 4), (2, 2), (2, 4)])
def test_objective_sees_the_images_that_the_set_decodes_to(experts: Experts, factor: int, bits: int) -> None:
    state = make_state(experts, dataclasses.replace(CONFIG, factor=factor, bits=bits))
    step_of(state, torch.randn_like(state.images))
    delivered = state.parameterization.pack(state.stored(), bits)
    assert delivered is not None
    torch.testing.assert_close(state.images, delivered.decode(), rtol=0, atol=1e-6)
    assert len(delivered.codes.unique()) == 2**bits


@pytest.mark.parametrize(("factor", "bits"), [(1, 8), (2, 8), (2, 4)])
def test_objective_sees_the_amplitudes_that_the_set_decodes_to(experts: Experts, factor: int, bits: int) -> None:
    state = make_state(experts, dataclasses.replace(CONFIG, factor=factor, bits=bits, decoder="spectral"))
    step_of(state, torch.randn_like(state.images))
    delivered = state.parameterization.pack(state.stored(), bits)
    assert isinstance(delivered, SpectralImages)
    assert torch.equal(state.images, delivered.decode())
    assert len(state.images) == 2 * 2 * factor**2 * (8 // bits)
    assert int(delivered.table().sum()) == (16 // factor) ** 2 * bits


def test_amplitudes_in_32_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="bits=32 with decoder='spectral': must be 8, 4 or 2"):
        DistillConfig(decoder="spectral", bits=32)


def test_a_coarse_start_holds_as_many_images_of_full_detail() -> None:
    config = DistillConfig(ipc=2, factor=4, bits=4, decoder="spectral", coarse=2)
    start = config.at_coarse_side()
    assert start.images_per_class == config.images_per_class == 64
    assert (start.factor, start.decoder, start.stored_bits) == (1, "bilinear", 32)


def test_eight_bits_are_rounded_at_the_end_alone(experts: Experts) -> None:
    state = make_state(experts, dataclasses.replace(CONFIG, bits=8))
    torch.testing.assert_close(state.images, state.parameterization.images(state.coordinates))


def test_gradient_passes_the_rounding_unchanged(experts: Experts) -> None:
    rounded, exact = (make_state(experts, dataclasses.replace(CONFIG, ipc=n, bits=b)) for n, b in ((2, 2), (8, 8)))
    assert torch.equal(rounded.coordinates, exact.coordinates)
    by_images = torch.randn_like(exact.images)
    for state in (rounded, exact):
        step_of(state, by_images)
    assert torch.equal(rounded.coordinates, exact.coordinates)


def test_a_checkpoint_continues_with_the_rounded_images(experts: Experts) -> None:
    state, other = (make_state(experts, CONFIG) for _ in range(2))
    step_of(state, torch.randn_like(state.images))
    other.load(state.save())
    assert torch.equal(other.images, state.images)
