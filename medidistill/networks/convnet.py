"""The ConvNet of the dataset-distillation literature: blocks of convolution, normalisation, ReLU, average pooling.

Source: Gidaris and Komodakis 2018, as used by Zhao et al. 2021 and Cazenavette et al. 2022. One difference:
a convolution in front of an instance norm has no bias, because the norm removes any constant (such a bias
has zero gradient, never moves, and would only sit in every parameter vector). One-channel images are not
padded by three as some published code does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medidistill.networks.functional import instance_norm

__all__ = ["EPSILON", "ConvNet", "default_depth"]

EPSILON = 1e-5  # added to the variance


def default_depth(image_size: int) -> int:
    """Return the usual number of blocks: 3 at 32 pixels, one more for each doubling, 5 at 112 to 128."""
    depth = 1
    while image_size >> depth >= 7:
        depth += 1
    return depth


class _InstanceNorm(nn.Module):
    row_by_row = True  # each image is normalised by its own mean and standard deviation

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x, self.weight, self.bias, EPSILON)


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "instance":
        return _InstanceNorm(channels)
    if kind == "group":
        return nn.GroupNorm(min(8, channels), channels)
    return nn.Identity()


class ConvNet(nn.Module):
    """`depth` blocks of `width` channels, then one linear layer.

    Args:
        channels: channels of the images, 1 or 3.
        image_size: rows and columns; at least 2 ** depth.
        num_classes: outputs.
        width: channels of every block.
        depth: number of blocks; each halves the resolution.
        norm: "instance", "group" or "none".
    """

    def __init__(
        self, *, channels: int, image_size: int, num_classes: int, width: int, depth: int, norm: str = "instance"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(depth):
            inputs = channels if block == 0 else width
            layers += [
                nn.Conv2d(inputs, width, 3, padding=1, bias=norm != "instance"),
                _norm(norm, width),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        self.norm = norm
        side = image_size >> depth
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, channels, image_size, image_size) to logits (N, num_classes)."""
        return self.classifier(self.features(x).flatten(1))  # type: ignore[no-any-return]
