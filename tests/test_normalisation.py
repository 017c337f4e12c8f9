"""ZCA whitening: its mathematics, its inverse, and its way through files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import NetworkConfig, TrainingConfig, as_dict, digest
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError, IngestError
from medidistill.files import load_tensors, save_tensors
from medidistill.normalisation import Whitening, fit_normalisation
from medidistill.seeding import stream


def images(count: int = 400, channels: int = 1, side: int = 4) -> torch.Tensor:
    """Neighbouring pixels that go together, in [0, 1]."""
    mix = torch.randn(channels * side**2, channels * side**2, generator=stream(0, "mix"))
    flat = torch.randn(count, channels * side**2, generator=stream(0, "x")) @ mix
    return torch.sigmoid(flat / 4).view(count, channels, side, side)


def distilled(normalisation: Normalisation) -> DistilledSet:
    return DistilledSet(
        images=normalisation.apply(images(4)),
        labels=torch.tensor([0, 0, 1, 1]),
        alpha=0.1,
        class_names=("a", "b"),
        normalisation=normalisation,
        network=NetworkConfig(),
        training=TrainingConfig(),
    )


def test_two_pixels_by_hand() -> None:
    # pixels a and a: mean 0.5, one direction of variance, none across it
    a = torch.tensor([0.0, 1.0])
    map_ = Whitening.fit(torch.stack([a, a], dim=1).view(2, 1, 1, 2))
    scale = 0.5  # root of the mean square around the mean
    covariance = 0.5 / scale**2  # of each pixel and between them, over N - 1 = 1
    along, across = (2 * covariance + 0.1) ** -0.5 / scale, 0.1**-0.5 / scale
    half, gap = (along + across) / 2, (along - across) / 2
    assert map_.mean.tolist() == [0.5, 0.5]
    torch.testing.assert_close(map_.matrix, torch.tensor([[half, gap], [gap, half]]), rtol=1e-5, atol=1e-6)


def test_whitened_images_have_the_covariance_that_the_ridge_leaves() -> None:
    x = images()
    z = fit_normalisation("zca", 0.5, 0.25, x).apply(x).flatten(1).double()
    flat = x.flatten(1).double()
    centred = flat - flat.mean(0)
    raw = torch.linalg.eigvalsh(centred.T @ centred / (len(x) - 1) / centred.square().mean())
    found = torch.linalg.eigvalsh(z.T @ z / (len(x) - 1))
    assert float(z.mean(0).abs().max()) < 1e-4
    torch.testing.assert_close(found, raw / (raw + 0.1), rtol=1e-3, atol=1e-4)


def test_whitening_is_undone_for_the_eye() -> None:
    x = images(channels=3)
    normalisation = fit_normalisation("zca", 0.5, 0.25, x)
    torch.testing.assert_close(normalisation.to_display(normalisation.apply(x)), x, rtol=1e-3, atol=1e-4)


def test_the_map_travels_in_the_set_and_damage_is_noticed(tmp_path: Path) -> None:
    made = distilled(fit_normalisation("zca", 0.5, 0.25, images()))
    made.save(tmp_path / "set.safetensors")
    read = DistilledSet.load(tmp_path / "set.safetensors")
    assert read.normalisation == made.normalisation
    assert torch.equal(read.normalisation.apply(images()), made.normalisation.apply(images()))
    tensors, header = load_tensors(tmp_path / "set.safetensors")
    tensors["normalisation/matrix"][0, 0] += 1
    save_tensors(tmp_path / "bent.safetensors", tensors, header)
    with pytest.raises(IngestError, match=r"bent\.safetensors.*not the one"):
        DistilledSet.load(tmp_path / "bent.safetensors")
    del tensors["normalisation/matrix"]
    save_tensors(tmp_path / "without.safetensors", tensors, header)
    with pytest.raises(IngestError, match=r"without\.safetensors.*ZCA map is missing"):
        DistilledSet.load(tmp_path / "without.safetensors")


def test_headers_of_the_other_kinds_are_as_they_were(tmp_path: Path) -> None:
    assert as_dict(Normalisation()) == {"kind": "per_image", "mean": 0.5, "std": 0.25}
    distilled(Normalisation("fixed")).save(tmp_path / "set.safetensors")
    tensors, header = load_tensors(tmp_path / "set.safetensors")
    assert set(tensors) == {"images", "labels"}
    assert header["normalisation"] == {"kind": "fixed", "mean": 0.5, "std": 0.25}


def test_two_maps_have_two_names() -> None:
    one, other = (fit_normalisation("zca", 0.5, 0.25, images(count)) for count in (300, 400))
    assert one != other
    assert digest(one) != digest(other)
    assert len({one, other, dataclasses.replace(one)}) == 2


def test_what_cannot_be_whitened_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 images"):
        fit_normalisation("zca", 0.5, 0.25, images(1))
    with pytest.raises(ConfigError, match="at most 16384"):
        fit_normalisation("zca", 0.5, 0.25, torch.zeros(2, 3, 80, 80))
    with pytest.raises(ConfigError, match="belongs to 'zca'"):
        Normalisation("zca")
