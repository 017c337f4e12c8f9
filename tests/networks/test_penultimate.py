"""Features and logits as functions of parameters and images, and what they pull back to the images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medidistill.config import NetworkConfig
from medidistill.errors import ConfigError
from medidistill.networks import CompiledByShape, FeatureFunction, ParameterLayout, make_network, penultimate
from medidistill.seeding import stream


def _network(side: int, channels: int, depth: int, norm: str = "instance") -> torch.nn.Module:
    config = NetworkConfig(width=8, depth=depth, norm=norm)
    generator = stream(0, "network")
    return make_network(config, channels=channels, image_size=side, num_classes=3, generator=generator).double()


def _asked(network: torch.nn.Module, side: int, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return other parameters than the network's own, images, and derivatives by features and logits."""
    generator = torch.Generator().manual_seed(1)
    theta = ParameterLayout.of(network).flatten(network)
    theta = theta + 0.1 * torch.randn(theta.shape, generator=generator, dtype=theta.dtype)
    images = torch.randn(5, channels, side, side, generator=generator, dtype=theta.dtype)
    features, logits = penultimate(network, images)
    by = [torch.randn(part.shape, generator=generator, dtype=theta.dtype) for part in (features, logits)]
    return theta, images, by[0], by[1]


def _by_autograd(network: torch.nn.Module, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    ParameterLayout.of(network).load(network, theta)
    leaf = images.clone().requires_grad_()
    return (*penultimate(network, leaf), leaf)


# 13 pixels: pooling drops a row and a column
@pytest.mark.parametrize(("side", "channels", "depth"), [(16, 3, 2), (28, 1, 3), (13, 2, 2), (8, 1, 1)])
@pytest.mark.parametrize("norm", ["instance", "group", "none"])
def test_features_logits_and_pullback_are_those_of_autograd(side: int, channels: int, depth: int, norm: str) -> None:
    network = _network(side, channels, depth, norm)
    theta, images, by_features, by_logits = _asked(network, side, channels)
    found = FeatureFunction(network)
    features, logits, pull_back = found.with_pullback(theta, images)
    expected, outputs, leaf = _by_autograd(network, theta, images)
    torch.testing.assert_close(features, expected.detach(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(logits, outputs.detach(), rtol=1e-11, atol=1e-12)
    for ours, other in zip(found(theta, images), (features, logits), strict=True):
        torch.testing.assert_close(ours, other)
    for given in ((by_features, None), (None, by_logits), (by_features, by_logits)):
        total = sum((one * part).sum() for one, part in zip(given, (expected, outputs), strict=True) if one is not None)
        assert isinstance(total, Tensor)
        (reference,) = torch.autograd.grad(total, leaf, retain_graph=True)
        torch.testing.assert_close(pull_back(*given), reference, rtol=1e-10, atol=1e-12)


def test_bfloat16_pullback_leaves_the_direction_and_every_relu() -> None:
    network = _network(32, 1, 3).float()
    theta, images, by_features, _ = _asked(network, 32, 1)
    features, _, pull_back = FeatureFunction(network).with_pullback(theta, images)
    low, _, pull_back_low = FeatureFunction(network, torch.bfloat16).with_pullback(theta, images)
    assert torch.equal(low, features)
    exact, rounded = pull_back(by_features, None), pull_back_low(by_features, None)
    assert rounded.dtype == torch.float32
    assert float(torch.cosine_similarity(rounded.flatten(), exact.flatten(), dim=0)) > 0.999
    assert not torch.equal(rounded, exact)


def test_a_network_with_running_statistics_is_refused() -> None:
    with pytest.raises(ConfigError, match="keeps running statistics"):
        FeatureFunction(torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2)))


@pytest.mark.slow
def test_compiled_equals_eager() -> None:
    network = _network(16, 1, 2)
    theta, images, by_features, by_logits = _asked(network, 16, 1)
    found = FeatureFunction(network)

    def pulled(theta: Tensor, images: Tensor, by_features: Tensor, by_logits: Tensor) -> tuple[Tensor, Tensor]:
        features, _, pull_back = found.with_pullback(theta, images)
        return features, pull_back(by_features, by_logits)

    given = (theta, images, by_features, by_logits)
    for ours, reference in zip(CompiledByShape(pulled)(*given), pulled(*given), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
