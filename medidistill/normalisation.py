"""How intensities in [0, 1] become network input, and back. Shipped with every distilled set.

ZCA whitening (`kind="zca"`) is a linear map fitted on the training images: with mean m and covariance C of the N
flattened images, in units of their deviation s,

    z = (C / s^2 + eps)^(-1/2) (x - m) / s,        eps = 0.1

as trajectory matching uses it on CIFAR (Cazenavette et al. 2022, arXiv 2203.11932). Mean and matrix are computed from
every training image: where the images are patients', so are they.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medidistill.errors import ConfigError, IngestError

__all__ = ["Normalisation", "Whitening", "fit_normalisation"]

_EPS = 1e-4
_RIDGE = 0.1
_LARGEST = 16_384  # pixels of a whitened image; the matrix has that many rows and columns (1 GB)
_PREFIX = "normalisation/"


@dataclass(frozen=True, eq=False)
class Whitening:
    """z = matrix (x - mean) for flattened images x.

    Args:
        mean: (D,) float32, D = C * H * W.
        matrix: (D, D) float32, symmetric, positive definite.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def fit(cls, images: Tensor) -> Whitening:
        """Fit on images (N, C, H, W) in [0, 1].

        Cost: the eigenvalues of a D x D matrix, D^3, and D^2 floats; computed in float64.

        Raises:
            ConfigError: fewer than two images, or more pixels than a matrix can be kept for.
        """
        flat = images.flatten(1).double()
        if len(flat) < 2 or flat.shape[1] > _LARGEST:
            raise ConfigError(
                f"normalisation 'zca' on {len(flat)} images of {flat.shape[1]} values: needs at least 2 images of at "
                f"most {_LARGEST} values; use smaller images or 'per_image'"
            )
        mean = flat.mean(0)
        centred = flat - mean
        scale = centred.square().mean().sqrt().clamp_min(_EPS)
        covariance = centred.T @ centred / ((len(flat) - 1) * scale**2)
        values, vectors = torch.linalg.eigh(covariance)
        roots = (values.clamp_min(0) + _RIDGE).rsqrt() / scale
        return cls(mean.float(), ((vectors * roots) @ vectors.T).float())

    def apply(self, images: Tensor) -> Tensor:
        """Whiten images (N, C, H, W)."""
        flat = images.flatten(1) - self.mean.to(images.device)
        return (flat @ self.matrix.to(images.device)).view_as(images)

    def undo(self, images: Tensor) -> Tensor:
        """Return the images that `apply` maps to these."""
        flat: Tensor = torch.linalg.solve(self.matrix.to(images.device), images.flatten(1).T).T
        return (flat + self.mean.to(images.device)).reshape(images.shape)

    def digest(self) -> str:
        """Name the map by its content."""
        parts = [part.contiguous().cpu().numpy().tobytes() for part in (self.mean, self.matrix)]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Whitening) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())


@dataclass(frozen=True)
class Normalisation:
    """Intensities in [0, 1] to network input.

    `per_image`: x -> (x - mean(x)) / max(std(x), 1e-4), over channels, rows and columns of one image.
    `fixed`: x -> (x - mean) / std with constants that no patient's image decided.
    `zca`: x -> `whitening.apply(x)`.

    Args:
        kind: one of the three.
        mean: subtracted by `fixed`.
        std: what `fixed` divides by, > 0.
        whitening: the map of `zca`; None for the others.
    """

    kind: str = "per_image"
    mean: float = 0.5
    std: float = 0.25
    whitening: Whitening | None = None

    def __post_init__(self) -> None:
        if (self.kind == "zca") != (self.whitening is not None):
            raise ConfigError(f"normalisation {self.kind!r}: a whitening map belongs to 'zca' and to nothing else")

    def apply(self, images: Tensor) -> Tensor:
        """Normalise float images of shape (N, C, H, W); same shape, float32."""
        images = images.float()
        if self.whitening is not None:
            return self.whitening.apply(images)
        if self.kind == "fixed":
            return (images - self.mean) / self.std
        std, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True, correction=0)
        return (images - mean) / std.clamp_min(_EPS)

    def to_display(self, images: Tensor) -> Tensor:
        """Map network input `images` (N, C, H, W) back to [0, 1] for display.

        Exact but for `per_image`, whose mean and scale are lost: mean grey, and two standard deviations to each side.
        """
        if self.whitening is not None:
            return self.whitening.undo(images).clamp(0.0, 1.0)
        mean, std = (self.mean, self.std) if self.kind == "fixed" else (0.5, 0.25)
        return (images * std + mean).clamp(0.0, 1.0)

    def plain(self) -> dict[str, Any]:
        """Return JSON types; of a whitening map its name alone (`tensors` holds the map)."""
        named = {} if self.whitening is None else {"whitening": self.whitening.digest()}
        return {"kind": self.kind, "mean": self.mean, "std": self.std, **named}

    def tensors(self) -> dict[str, Tensor]:
        """Return what does not fit into a header, by its name in a file; empty but for `zca`."""
        if self.whitening is None:
            return {}
        return {f"{_PREFIX}mean": self.whitening.mean, f"{_PREFIX}matrix": self.whitening.matrix}

    @classmethod
    def read(cls, plain: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> Normalisation:
        """Rebuild from `plain` and the tensors of the file `path`.

        Raises:
            IngestError: the whitening map is missing or is not the one that the header names.
        """
        values = dict(plain)
        name = values.pop("whitening", None)
        if name is None:
            return cls(**values)
        try:
            whitening = Whitening(tensors[f"{_PREFIX}mean"], tensors[f"{_PREFIX}matrix"])
        except KeyError as error:
            raise IngestError(
                f"{path}: the ZCA map is missing ({error}); the images mean nothing without it"
            ) from error
        if whitening.digest() != name:
            raise IngestError(f"{path}: the ZCA map is not the one that the header names; the file was damaged")
        return cls(**values, whitening=whitening)


def fit_normalisation(kind: str, mean: float, std: float, train: Tensor) -> Normalisation:
    """Return the normalisation `kind`; only `zca` looks at the training images (N, C, H, W)."""
    return Normalisation(kind, mean, std, Whitening.fit(train) if kind == "zca" else None)
