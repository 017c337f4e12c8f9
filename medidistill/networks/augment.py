"""Differentiable augmentation for chest X-rays, with random parameters drawn beforehand and passed in.

After differentiable siamese augmentation (Zhao and Bilen 2021). Drawing the parameters apart from applying
them makes the augmentation a fixed, differentiable map of the images, which the adjoint of the inner loop
needs. Trajectory matching has no second branch to be siamese with, so each image gets its own parameters.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.config import AugmentConfig

__all__ = ["augment", "draw", "is_identity"]

_COLUMNS = 9  # shift y, shift x, log scale, angle, brightness, contrast, cutout y, cutout x, flip


def is_identity(config: AugmentConfig) -> bool:
    """Return whether the configuration leaves every image as it is."""
    numbers = (config.shift, config.scale, config.rotate, config.brightness, config.contrast, config.cutout)
    return not (any(numbers) or config.flip)


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Draw the parameters of `count` images: (count, 9) uniform in [-1, 1), on the generator's device."""
    return torch.rand(count, _COLUMNS, generator=generator, device=generator.device) * 2 - 1


def _geometry(config: AugmentConfig, parameters: Tensor) -> Tensor:
    """Return (N, 2, 3) inverse affine maps in the [-1, 1] coordinates of `affine_grid`."""
    shift_y, shift_x = parameters[:, 0] * 2 * config.shift, parameters[:, 1] * 2 * config.shift
    zoom = torch.exp(parameters[:, 2] * math.log1p(config.scale))
    angle = parameters[:, 3] * math.radians(config.rotate)
    mirror = torch.where(parameters[:, 8] < 0, -1.0, 1.0) if config.flip else torch.ones_like(zoom)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    top = torch.stack([cos * mirror, -sin, shift_x], dim=1)
    bottom = torch.stack([sin * mirror, cos, shift_y], dim=1)
    return torch.stack([top, bottom], dim=1)


def augment(images: Tensor, config: AugmentConfig, parameters: Tensor) -> Tensor:
    """Apply the drawn augmentation; linear in the images but for the cutout's and brightness' constants.

    Args:
        images: (N, C, H, W) normalised images.
        config: largest strength of each part.
        parameters: (N, 9) from `draw`, on the images' device.

    Returns:
        (N, C, H, W), same dtype. Borders repeat the edge; the erased square becomes 0.
    """
    if is_identity(config):
        return images
    parameters = parameters.to(images.dtype)
    if config.shift or config.scale or config.rotate or config.flip:
        grid = F.affine_grid(_geometry(config, parameters), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if config.contrast:
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        strength = torch.exp(parameters[:, 5] * math.log1p(config.contrast)).view(-1, 1, 1, 1)
        images = (images - mean) * strength + mean
    if config.brightness:
        images = images + (parameters[:, 4] * config.brightness).view(-1, 1, 1, 1)
    if config.cutout:
        images = images * _cutout_mask(images, config.cutout, parameters)
    return images


def _cutout_mask(images: Tensor, side: float, parameters: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    rows = torch.linspace(-1, 1, height, device=images.device, dtype=images.dtype).view(1, -1, 1)
    columns = torch.linspace(-1, 1, width, device=images.device, dtype=images.dtype).view(1, 1, -1)
    inside = ((rows - parameters[:, 6].view(-1, 1, 1)).abs() < side) & (
        (columns - parameters[:, 7].view(-1, 1, 1)).abs() < side
    )
    return (~inside).to(images.dtype).unsqueeze(1)
