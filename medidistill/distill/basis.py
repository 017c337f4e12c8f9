"""The coordinates in which images are learned: pixels, or cosines with the spectrum of photographs.

Adam gives every coordinate a step of the same size. On pixels that is a step of white noise, most of whose power
lies in frequencies at which an X-ray has almost none: the images fill with grain that matching has to undo. On the
cosines of

    x = C^T (a * z) C,        C the orthonormal DCT-II,        a_uv = A / max(1, |(u, v)|)^p,

a step of z has the spectrum of natural images, whose amplitude falls as 1/|f| (Field 1987), so p = 1. A makes a
white z of deviation s an image of deviation s. x is linear in z and every image can be reached, so that what is
learned, and all that leaves, are plain images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Basis", "CosineBasis", "PixelBasis", "make_basis"]


class PixelBasis:
    """Coordinates are pixels."""

    def images(self, coordinates: Tensor) -> Tensor:
        """Return the images at `coordinates`, (S, C, H, W) both."""
        return coordinates.clone()

    def coordinates(self, images: Tensor) -> Tensor:
        """Return the coordinates of `images`."""
        return images.clone()

    def pull(self, slope: Tensor) -> Tensor:
        """Return dL/d coordinates for dL/d images."""
        return slope


class CosineBasis:
    """Coordinates are cosine amplitudes, divided by the expected spectrum.

    Args:
        side: H = W, pixels.
        exponent: p, the fall of the spectrum; 0 is an orthonormal change of basis.
    """

    def __init__(self, side: int, exponent: float, device: torch.device | str = "cpu") -> None:
        place = torch.arange(side, dtype=torch.float64)
        matrix = torch.cos(math.pi / side * (place + 0.5) * place[:, None]) * math.sqrt(2 / side)
        matrix[0] /= math.sqrt(2)
        scale = torch.hypot(place[:, None], place).clamp_min(1) ** -exponent
        scale = scale / scale.square().mean().sqrt()
        self.matrix, self.scale = matrix.to(device), scale.to(device)

    def images(self, coordinates: Tensor) -> Tensor:
        """Return the images at `coordinates`, (S, C, H, W) both."""
        c, a = self.matrix.to(coordinates.dtype), self.scale.to(coordinates.dtype)
        return c.T @ (a * coordinates) @ c

    def coordinates(self, images: Tensor) -> Tensor:
        """Return the coordinates of `images`."""
        c, a = self.matrix.to(images.dtype), self.scale.to(images.dtype)
        return (c @ images @ c.T) / a

    def pull(self, slope: Tensor) -> Tensor:
        """Return dL/d coordinates for dL/d images: the transpose of `images`."""
        c, a = self.matrix.to(slope.dtype), self.scale.to(slope.dtype)
        return a * (c @ slope @ c.T)


Basis = PixelBasis | CosineBasis


def make_basis(name: str, side: int, exponent: float, device: torch.device | str) -> Basis:
    """Return the basis of a configuration: "pixels" or "cosine"."""
    return PixelBasis() if name == "pixels" else CosineBasis(side, exponent, device)
