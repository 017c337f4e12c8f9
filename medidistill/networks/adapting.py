"""Networks that users bring: channels adapted where that is safe, everything else refused before training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medidistill.errors import ArgumentError, ArgumentTypeError

__all__ = ["RepeatChannel", "adapt_network", "input_channels"]


class RepeatChannel(nn.Module):
    """Feed one-channel images to a network with three input channels, by repeating the channel.

    The network is `network`; its parameters are trained, and `state_dict` has its names behind `network.`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, H, W) or (N, 3, H, W) to what the network makes of three channels."""
        return self.network(x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x)  # type: ignore[no-any-return]


def input_channels(network: nn.Module) -> int | None:
    """Return the channels that the first convolution of a network reads, None where it has no convolution."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None or isinstance(network, RepeatChannel) else first.in_channels


def adapt_network(network: nn.Module, *, channels: int, image_size: int, num_classes: int) -> nn.Module:
    """Return a network that takes images of a set: the one given, or the same one in a `RepeatChannel`.

    A network that reads three channels gets one-channel images three times, which is how torchvision's networks are
    used on X-rays. One image of zeros is then passed through in evaluation mode, so that a wrong size or number of
    classes is found before training; modes, gradients and running statistics are left as they were.

    Args:
        network: from images to logits.
        channels: of the set's images.
        image_size: rows and columns of the set's images.
        num_classes: K of the set.

    Raises:
        ArgumentTypeError: not a `torch.nn.Module`.
        ArgumentError: other channels, or no logits (1, K) for one image.
    """
    if not isinstance(network, nn.Module):
        raise ArgumentTypeError("network", type(network).__name__, "a torch.nn.Module, for example resnet18()")
    wanted = input_channels(network)
    if wanted == 3 and channels == 1:
        network = RepeatChannel(network)
    elif wanted is not None and wanted != channels:
        raise ArgumentError(
            "network",
            f"{type(network).__name__} for {wanted} input channel(s)",
            f"a network that reads {channels} channel(s), those of the images" + (", or 3" if channels == 1 else ""),
            "replace its first convolution",
        )
    _check_output(network, (1, channels, image_size, image_size), num_classes)
    return network


def _check_output(network: nn.Module, shape: tuple[int, int, int, int], num_classes: int) -> None:
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    modes = {module: module.training for module in network.modules()}
    name = type(network.network if isinstance(network, RepeatChannel) else network).__name__
    allowed = f"a network from images {shape[1:]} to {num_classes} logits"
    try:
        network.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = network(torch.zeros(shape, device=device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ArgumentError("network", f"{name}, which fails on such an image ({error})", allowed) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not isinstance(output, Tensor) or tuple(output.shape) != (1, num_classes):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ArgumentError(
            "network", f"{name}, which returns {found} for one image", allowed, "replace its last layer"
        )
