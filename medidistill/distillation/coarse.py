"""Training images at a smaller side, for a distillation that begins there and is refined at full side."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.errors import ConfigError
from medidistill.normalisation import Normalisation
from medidistill.scratch import mapped

__all__ = ["at_coarse_side"]


def coarse_side(side: int, coarse: int, normalisation: str) -> int:
    """Return side / `coarse`; `normalisation`: its kind. Raises `ConfigError` as `at_coarse_side` does."""
    if side % coarse:
        raise ConfigError(f"distill.coarse={coarse}: must divide the side of the images, {side} pixels")
    if normalisation == "zca":
        raise ConfigError("distill.coarse with ingest.normalisation='zca': a whitening is of one side; use coarse=1")
    return side // coarse


def at_coarse_side(images: Tensor, coarse: int, normalisation: Normalisation, folder: Path | None = None) -> Tensor:
    """Return normalised images averaged down to side / `coarse`, normalised for that side.

    Averaging is linear, so that a `fixed` normalisation stays as it is, and `per_image`, which is blind to shift and
    scale, is applied once more.

    Args:
        images: (N, C, H, W) float32, normalised.
        coarse: divisor of the side; 1 returns the images themselves.
        normalisation: what they went through.
        folder: private, for a result that is too large for memory; None: memory, whatever its size.

    Raises:
        ConfigError: `coarse` does not divide the side, or the normalisation is a whitening, which is of one side alone.
    """
    if coarse == 1:
        return images
    side = coarse_side(images.shape[-1], coarse, normalisation.kind)

    def averaged(images: Tensor) -> Tensor:
        small = F.interpolate(images, size=side, mode="area")
        return normalisation.apply(small) if normalisation.kind == "per_image" else small

    return mapped(averaged, images, folder)
