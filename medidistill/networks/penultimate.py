"""Penultimate features and logits of a network as a function of a flat parameter vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medidistill.errors import ConfigError
from medidistill.networks.convnet import ConvNet
from medidistill.networks.convnet_derivatives import ConvNetDerivatives, Pullback
from medidistill.networks.functional import ParameterLayout, cross_entropy

__all__ = ["FeatureFunction", "penultimate"]


def penultimate(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs of the network's last linear layer, (N, F), and its outputs, (N, K); differentiable.

    Raises:
        ConfigError: the network has no linear layer.
    """
    if isinstance(network, ConvNet):  # without a hook, so that the whole can be compiled
        features = network.features(images).flatten(1)
        return features, network.classifier(features)
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError(
            f"{type(network).__name__} has no linear layer; objectives that match features need one at the end"
        )
    kept: list[Tensor] = []
    handle = layers[-1].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        logits = network(images)
    finally:
        handle.remove()
    return kept[0].flatten(1), logits


class _Penultimate(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return penultimate(self.network, images)


class FeatureFunction:
    """Features and logits of a network as a function of its flat parameters and of images.

    A `ConvNet` with instance norm is computed and differentiated by the formulas of `ConvNetDerivatives`, any other
    network by its own modules and autograd.

    Args:
        network: gives structure and layout; its own parameters are not read.
        adjoint_dtype: of the convolutions of the pull-back, see `ConvNetDerivatives`.

    Raises:
        ConfigError: the network has buffers (running statistics): it is no function of theta alone.
    """

    def __init__(self, network: nn.Module, adjoint_dtype: torch.dtype | None = None) -> None:
        if any(True for _ in network.buffers()):
            raise ConfigError(
                "the network keeps running statistics, but features are matched at parameter vectors alone; "
                "use network.name=convnet"
            )
        self._layout, self._whole = ParameterLayout.of(network), _Penultimate(network)
        self._formulas = ConvNetDerivatives.of(network, cross_entropy, adjoint_dtype)

    def __call__(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (N, F) and logits (N, K) of `images` (N, C, H, W) at `theta` (P,)."""
        if self._formulas is not None:
            return self._formulas.features(theta, images)[:2]
        return self._by_modules(theta, images)

    def _by_modules(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        named = {f"network.{name}": value for name, value in self._layout.unflatten(theta).items()}
        found: tuple[Tensor, Tensor] = torch.func.functional_call(self._whole, named, (images,))
        return found

    def with_pullback(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Pullback]:
        """Return features and logits, and the function that turns derivatives by them into one by the images."""
        if self._formulas is not None:
            return self._formulas.features(theta, images)
        found: Any = torch.func.vjp(lambda x: self._by_modules(theta, x), images)
        (features, logits), pull = found

        def pull_back(by_features: Tensor | None, by_logits: Tensor | None) -> Tensor:
            by_features = torch.zeros_like(features) if by_features is None else by_features
            by_logits = torch.zeros_like(logits) if by_logits is None else by_logits
            by_images: Tensor = pull((by_features, by_logits))[0]
            return by_images

        return features, logits, pull_back
