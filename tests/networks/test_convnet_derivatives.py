"""The formulas against autograd, which knows nothing of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medidistill.config import NetworkConfig
from medidistill.networks import (
    CompiledByShape,
    ConvNetDerivatives,
    ParameterLayout,
    cross_entropy,
    loss_function,
    make_network,
)
from medidistill.seeding import stream


def _case(side: int, channels: int, depth: int, dtype: torch.dtype = torch.float64) -> tuple[Any, ...]:
    network = make_network(
        NetworkConfig(width=4, depth=depth),
        channels=channels,
        image_size=side,
        num_classes=3,
        generator=stream(0, "network"),
    ).to(dtype)
    generator = stream(0, "inputs")
    theta = ParameterLayout.of(network).flatten(network)
    # away from gamma = 1, beta = 0, at which terms of the formulas vanish
    theta = theta + 0.1 * torch.randn(len(theta), generator=generator).to(dtype)
    x = torch.randn(5, channels, side, side, generator=generator).to(dtype)
    q = torch.rand(5, 3, generator=generator).to(dtype)  # rows that do not add up to 1
    vector = torch.randn(len(theta), generator=generator).to(dtype)
    return network, theta, x, q, vector


def _by_autograd(network: torch.nn.Module, theta: Tensor, x: Tensor, q: Tensor, vector: Tensor) -> list[Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in (theta, x, q)]
    (gradient,) = torch.autograd.grad(loss_function(network)(*leaves), leaves[0], create_graph=True)
    along = gradient @ vector
    return [along.detach(), *torch.autograd.grad(along, leaves)]


# 13 pixels: pooling drops a row and a column
@pytest.mark.parametrize(("side", "channels", "depth"), [(16, 3, 2), (28, 1, 3), (13, 2, 2), (8, 1, 1)])
def test_mixed_derivatives_are_those_of_autograd(side: int, channels: int, depth: int) -> None:
    network, *inputs = _case(side, channels, depth)
    found = ConvNetDerivatives(network).mixed(*inputs)
    for ours, reference in zip(found, _by_autograd(network, *inputs), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("side", "channels", "depth"), [(16, 3, 2), (28, 1, 3), (8, 1, 1)])
def test_maps_that_were_kept_change_nothing(side: int, channels: int, depth: int) -> None:
    network, theta, x, q, vector = _case(side, channels, depth)
    derivatives = ConvNetDerivatives(network)
    loss, gradient, *maps = derivatives.gradient_and_activations(theta, x, q)
    assert sum(one.numel() for one in maps) == derivatives.kept_elements(x.shape)
    for ours, reference in zip((loss, gradient), derivatives.gradient(theta, x, q), strict=True):
        assert torch.equal(ours, reference)
    exact = derivatives.mixed(theta, x, q, vector)
    for ours, reference in zip(derivatives.mixed(theta, x, q, vector, *maps), exact, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-14)
    if maps:  # they are used: others give something else
        other = derivatives.mixed(theta, x, q, vector, *(2 * one + 1 for one in maps))
        assert not torch.allclose(other[1], exact[1])


@pytest.mark.parametrize("hard", [False, True])
def test_gradient_is_that_of_autograd(hard: bool) -> None:
    network, theta, x, q, _ = _case(13, 2, 2)
    labels = q.argmax(1) if hard else q
    leaf = theta.clone().requires_grad_()
    reference = loss_function(network)(leaf, x, labels)
    loss, gradient = ConvNetDerivatives(network).gradient(theta, x, labels)
    torch.testing.assert_close(loss, reference.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(reference, leaf)[0], rtol=1e-11, atol=1e-13)


def test_bfloat16_tangents_leave_the_direction_and_every_relu() -> None:
    network, *inputs = _case(16, 1, 2, torch.float32)
    exact = ConvNetDerivatives(network).mixed(*inputs)
    for ours, reference in zip(ConvNetDerivatives(network, torch.bfloat16).mixed(*inputs), exact, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - reference).norm() / reference.norm()) < 0.02
        assert float(torch.cosine_similarity(ours.flatten(), reference.flatten(), dim=0)) > 0.9995


def test_a_batch_of_one_and_a_direction_of_zero() -> None:
    network, theta, x, q, vector = _case(8, 1, 1)
    along, by_theta, by_image, by_target = ConvNetDerivatives(network).mixed(theta, x[:1], q[:1], 0 * vector)
    assert float(along) == 0
    assert not any(bool(part.any()) for part in (by_theta, by_image, by_target))


@pytest.mark.parametrize("norm", ["group", "none"])
def test_other_networks_and_losses_are_left_to_autograd(norm: str) -> None:
    def make(norm: str) -> torch.nn.Module:
        config = NetworkConfig(width=8, depth=2, norm=norm)
        return make_network(config, channels=1, image_size=16, num_classes=3, generator=stream(0, "network"))

    assert ConvNetDerivatives.of(make("instance"), cross_entropy) is not None
    assert ConvNetDerivatives.of(make(norm), cross_entropy) is None
    assert ConvNetDerivatives.of(make("instance"), lambda logits, q: logits.square().mean()) is None


@pytest.mark.slow
def test_compiled_equals_eager() -> None:
    network, *inputs = _case(13, 2, 2)
    derivatives = ConvNetDerivatives(network)
    compiled = CompiledByShape(derivatives.mixed)
    for ours, reference in zip(compiled(*inputs), derivatives.mixed(*inputs), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
