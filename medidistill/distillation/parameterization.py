"""Parameterization: which numbers are learned, which are stored, and how both become training images.

Coordinates z are learned, stored images t leave the hospital, training images x are what a network sees:

    t = B (a * z) B^T,        x = A t A^T,

with z and t of h x h values and x of side x side pixels. A interpolates from h to side (`medidistill.packed_images`);
with h = side / f, f^2 training images take the bytes of one. B and a decide what a step of the optimiser looks like:

- pixels: B = I, a = 1. Adam takes a step of one length in every pixel, which leaves grain.
- cosine: B = C^T, C the orthonormal DCT-II, and a_uv = s / max(1, |(u, v)|)^p: a step of z has the spectrum of natural
  images, whose amplitude falls as 1/|f| (Field 1987), so p = 1. s makes a white z of standard deviation sigma a stored
  image of standard deviation sigma.

Both maps are linear, and z -> t is invertible, so every stored image can be reached. The vector-Jacobian product is
the transpose. One decode or VJP costs 4 N C side^2 h flops and no memory beside its result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medidistill.packed_images import PackedImages, dct_matrix, upsampling_matrix
from medidistill.spectral_images import SPECTRAL, SpectralImages, rounded_spectrum

__all__ = ["Parameterization"]


class Parameterization:
    """The maps between coordinates, stored images and training images.

    Args:
        basis: "pixels" or "cosine".
        side: rows and columns of a training image, pixels.
        factor: f; side must be a multiple of it.
        exponent: p, the fall of the spectrum; 0 is an orthonormal change of basis.
        decoder: "bilinear" or "dct", without effect where f = 1; or "spectral": t has full side, and its amplitudes are
            rounded to the bits of (side / f)^2 values (`medidistill.spectral_images`).
        device: of all tensors that are handed in.
    """

    def __init__(
        self,
        basis: str,
        side: int,
        *,
        factor: int = 1,
        exponent: float = 1.0,
        decoder: str = "bilinear",
        device: torch.device | str = "cpu",
    ) -> None:
        self.side, self.decoder, self.budget_side = side, decoder, side // factor
        self.stored_side = side if decoder == SPECTRAL else self.budget_side
        self.matrix: Tensor | None = None
        if basis == "cosine":
            place = torch.arange(self.stored_side, dtype=torch.float64)
            scale = torch.hypot(place[:, None], place).clamp_min(1) ** -exponent
            self.scale = (scale / scale.square().mean().sqrt()).to(device)
            self.matrix = dct_matrix(self.stored_side).to(device)
        self.upsampling: Tensor | None = None
        if self.stored_side < side:
            self.upsampling = upsampling_matrix(decoder, side, self.stored_side).to(device)

    def stored(self, coordinates: Tensor) -> Tensor:
        """Return the stored images (N, C, h, h) at coordinates (N, C, h, h)."""
        if self.matrix is None:
            return coordinates.clone()
        c, a = self.matrix.to(coordinates.dtype), self.scale.to(coordinates.dtype)
        return c.T @ (a * coordinates) @ c

    def images(self, coordinates: Tensor) -> Tensor:
        """Return the training images (N, C, side, side) at coordinates (N, C, h, h)."""
        return self.decode(self.stored(coordinates))

    def decode(self, stored: Tensor) -> Tensor:
        """Return the training images (N, C, side, side) of stored images (N, C, h, h)."""
        if self.upsampling is None:
            return stored
        a = self.upsampling.to(stored.dtype)
        return a @ stored @ a.T

    def coordinates(self, stored: Tensor) -> Tensor:
        """Return the coordinates of stored images (N, C, h, h): the inverse of `stored`."""
        if self.matrix is None:
            return stored.clone()
        c, a = self.matrix.to(stored.dtype), self.scale.to(stored.dtype)
        return (c @ stored @ c.T) / a

    def vjp(self, gradient: Tensor) -> Tensor:
        """Return dL/dz (N, C, h, h) for dL/dx (N, C, side, side): the transpose of `images`."""
        if self.upsampling is not None:
            a = self.upsampling.to(gradient.dtype)
            gradient = a.T @ gradient @ a
        if self.matrix is None:
            return gradient
        c, scale = self.matrix.to(gradient.dtype), self.scale.to(gradient.dtype)
        return scale * (c @ gradient @ c.T)

    def rounded(self, stored: Tensor, bits: int) -> Tensor:
        """Return the training images that stored images decode to once they are rounded as `pack` rounds them."""
        if self.decoder == SPECTRAL:
            return rounded_spectrum(stored, self.budget_side, bits)
        return self.decode(PackedImages(stored.float(), self.side).quantised(bits).values())

    def pack(self, stored: Tensor, bits: int) -> PackedImages | SpectralImages | None:
        """Return how stored images are shipped; None where they are the training images themselves, in 32 bits."""
        if self.decoder == SPECTRAL:
            return SpectralImages.of(stored.detach().cpu(), self.budget_side, bits)
        if self.upsampling is None and bits == 32:
            return None
        whole = PackedImages(stored.detach().float().cpu().contiguous(), self.side, self.decoder)
        return whole.quantised(bits)
