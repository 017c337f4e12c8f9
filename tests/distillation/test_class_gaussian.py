"""Draws of class Gaussians: their moments are those of the images, and a set of them carries the experts' labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import DistillConfig
from medidistill.config.fields import with_settings
from medidistill.config.methods import METHODS
from medidistill.distillation import Experts, distill, expert_labels
from medidistill.distillation.class_gaussian import draw_class_gaussians
from medidistill.distillation.state import initial_images
from medidistill.errors import ConfigError
from medidistill.packed_images import dct_matrix, rounded_labels
from medidistill.seeding import stream
from medidistill.spectral_images import SpectralImages

from .feature_example import IMAGES, LABELS, NETWORK, make_experts, make_problem

SIDE = 16


def smooth(count: int, channels: int = 1) -> torch.Tensor:
    """Return images whose neighbouring pixels vary together, with a trend that differs by image."""
    white = torch.randn(count, channels, SIDE, SIDE, generator=stream(0, "smooth"))
    wide = torch.nn.functional.avg_pool2d(white, 5, 1, 2)
    return wide + torch.linspace(-1, 1, SIDE) * torch.randn(count, 1, 1, 1, generator=stream(0, "trend"))


def amplitudes(images: torch.Tensor) -> torch.Tensor:
    matrix = dct_matrix(SIDE).float()
    return matrix @ images @ matrix.T


@pytest.mark.parametrize("channels", [1, 2])
def test_draws_have_class_means_and_covariance_within_classes(channels: int) -> None:
    images, labels = smooth(60, channels), torch.arange(60) % 2
    images = images + 2 * labels.view(-1, 1, 1, 1)
    drawn = draw_class_gaussians(images, labels, 2, 20_000, stream(0, "draw"))
    assert drawn.shape == (40_000, channels, SIDE, SIDE)
    for name, part in enumerate(drawn.split(20_000)):
        torch.testing.assert_close(part.mean(0), images[labels == name].mean(0), atol=0.03, rtol=0)
    within = torch.cat([images[labels == name] - images[labels == name].mean(0) for name in range(2)])
    wanted, found = amplitudes(within), amplitudes(drawn[:20_000] - drawn[:20_000].mean(0))
    torch.testing.assert_close(found.square().mean(0), wanted.square().mean(0), atol=0.02, rtol=0.1)
    low = (wanted[:, 0, 0, 1] * wanted[:, 0, 0, 3]).mean()  # the trend moves odd frequencies together
    assert low.abs() > 0.05
    torch.testing.assert_close((found[:, 0, 0, 1] * found[:, 0, 0, 3]).mean(), low, atol=0.02, rtol=0.05)


def test_high_frequencies_do_not_vary_together() -> None:
    images = smooth(60)
    drawn = amplitudes(draw_class_gaussians(images, torch.zeros(60, dtype=torch.long), 1, 20_000, stream(0, "draw")))
    pair = torch.stack([drawn[:, 0, 0, 11], drawn[:, 0, 0, 13]])
    assert torch.corrcoef(pair)[0, 1].abs() < 0.03


def test_fewer_images_than_frequencies_and_equal_images_give_finite_draws() -> None:
    for images in (smooth(2), torch.zeros(4, 1, SIDE, SIDE)):
        drawn = draw_class_gaussians(images, torch.arange(len(images)) % 2, 2, 5, stream(0, "draw"))
        assert bool(torch.isfinite(drawn).all())


def test_grey_images_in_three_channels_are_drawn_with_equal_channels() -> None:
    images = smooth(40).expand(-1, 3, -1, -1)
    for count in (6, 12, 40):  # rounding leaves some of these covariances without a Cholesky factor
        drawn = draw_class_gaussians(images[:count], torch.arange(count) % 2, 2, 200, stream(0, "draw"))
        low = amplitudes(drawn)[..., :4, :4]
        torch.testing.assert_close(low[:, 0], low[:, 2], atol=0.02, rtol=0.02)


def test_a_class_of_few_patients_is_refused_as_its_mean_would_show_them() -> None:
    labels, config = (torch.arange(24) >= 20).long(), DistillConfig(ipc=1, init="gaussian", group_patients=5)
    with pytest.raises(ConfigError, match=r"group_patients=5: class 1 has 4 patients, and a Gaussian needs 5"):
        initial_images(config, (1, SIDE, SIDE), 2, (IMAGES, labels), seed=0)
    patients = [str(number // 2) for number in range(24)]  # two images each: twelve patients
    config = dataclasses.replace(config, group_patients=7)
    with pytest.raises(ConfigError, match=r"class 0 has 6 patients"):
        initial_images(config, (1, SIDE, SIDE), 2, (IMAGES, (torch.arange(24) >= 12).long()), 0, patients)


def test_the_start_is_averaged_to_the_stored_size_and_needs_real_images() -> None:
    config = DistillConfig(ipc=1, factor=2, init="gaussian", group_patients=2)
    stored = initial_images(config, (1, SIDE, SIDE), 2, (IMAGES, LABELS), seed=0)
    assert stored.shape == (8, 1, 8, 8)
    assert config.requires_real
    with pytest.raises(ConfigError, match="init='gaussian' needs the real images"):
        initial_images(config, (1, SIDE, SIDE), 2, None, seed=0)


def test_the_method_delivers_its_draws_with_the_labels_of_the_experts(tmp_path: Path) -> None:
    files = make_experts(tmp_path)
    config = with_settings(
        DistillConfig(ipc=1, factor=2, bits=4, decoder="spectral", max_start=1, validate_every=0, group_patients=2),
        METHODS["gaussian"].settings,
    )
    problem = make_problem(files, seed=3)
    found = distill(problem, config)
    made = found.distilled
    assert (found.best_step, len(found.history), made.recipe["init"]) == (0, 0, "gaussian")
    wanted = initial_images(config, (1, SIDE, SIDE), 2, (IMAGES, LABELS), seed=3)
    assert torch.equal(made.images, SpectralImages.of(wanted, 8, 4).decode())
    labels = expert_labels(Experts(files), made.images, [12, 12])
    torch.testing.assert_close(made.soft_labels, rounded_labels(labels))
    made.save(tmp_path / "set.safetensors")
    again = type(made).load(tmp_path / "set.safetensors")
    assert torch.equal(again.images, made.images)
    assert torch.equal(again.soft_labels, made.soft_labels)
    assert made.label_bits == 8
    assert made.network == NETWORK
    assert made.stored_bytes == made.packed.nbytes + 16 * 2
    assert dataclasses.replace(made, packed=None).label_bits == 32
