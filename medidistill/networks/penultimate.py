"""Penultimate features and logits of a network as a function of a flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medidistill.errors import ConfigError
from medidistill.networks.convnet import ConvNet
from medidistill.networks.functional import ParameterLayout

__all__ = ["FeatureFunction", "feature_function", "penultimate"]

FeatureFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(theta (P,), x (N, C, H, W)) -> (features (N, F), logits (N, K)); differentiable in both."""


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


def feature_function(network: nn.Module) -> FeatureFunction:
    """Return features and logits of `network` as a function of its flat parameters and the images.

    Args:
        network: gives structure and layout; its own parameters are not read.

    Raises:
        ConfigError: the network has buffers (running statistics): it is no function of theta alone.
    """
    if any(True for _ in network.buffers()):
        raise ConfigError(
            "the network keeps running statistics, but features are matched at parameter vectors alone; "
            "use network.name=convnet"
        )
    layout, whole = ParameterLayout.of(network), _Penultimate(network)

    def features(theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        named = {f"network.{name}": value for name, value in layout.unflatten(theta).items()}
        found: tuple[Tensor, Tensor] = torch.func.functional_call(whole, named, (images,))
        return found

    return features
