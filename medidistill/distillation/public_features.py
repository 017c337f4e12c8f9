"""Data-independent features of an image: oriented wavelets, pooled, whitened by random fields.

    phi(x) = n( V_k^T ((s(x) - m) / d) / sqrt(lambda_k + 0.3) ),   n(v) = v / ||v||

s(x) are the pixels and the moduli of Morlet wavelets of x (8 directions, an octave apart), averaged over 4 x 4 cells;
m, d, V and lambda are mean, deviation, eigenvectors and eigenvalues of s over random fields whose amplitude falls as
1 / frequency, as that of photographs does. All of it follows from public constants, so that it costs no privacy.

Source: the first order of a scattering transform (Bruna and Mallat 2013, arXiv 1203.1513); such features before noisy
training: Tramèr and Boneh 2021 (arXiv 2011.11660).
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.seeding import stream

__all__ = ["features_of", "public_features", "whitening"]

_DIRECTIONS, _CELLS, _FIELDS, _FLOOR, _LARGEST = 8, 4, 1500, 0.3, 240


def public_features(images: Tensor) -> Tensor:
    """Return features of norm 1, (N, D) with D <= 240, of images (N, C, H, W), each of mean 0 and deviation 1.

    Differentiable in the images.
    """
    mean, deviation, basis = (part.to(images) for part in _whitening(*images.shape[1:]))
    return F.normalize(((_wavelet_features(images) - mean) / deviation) @ basis, dim=1)


def features_of(images: Tensor) -> Tensor:
    """Return `public_features` of many images, a few at a time, without derivatives."""
    with torch.no_grad():
        return torch.cat([public_features(part) for part in torch.split(images, 256)])


def _wavelet_features(images: Tensor) -> Tensor:
    """Return pixels and moduli by cell, (N, D')."""
    count, channels, side, _ = images.shape
    grey = images.reshape(count * channels, 1, side, images.shape[-1])
    parts = [F.adaptive_avg_pool2d(grey, _CELLS)]
    for bank in _banks(max(1, round(math.log2(side / 8)))):
        filters = bank.to(images)
        radius = filters.shape[-1] // 2
        padded = F.pad(grey, (radius,) * 4, mode="replicate")
        real, imaginary = F.conv2d(padded, filters).chunk(2, dim=1)
        parts.append(F.adaptive_avg_pool2d((real.square() + imaginary.square() + 1e-12).sqrt(), _CELLS))
    return torch.cat([part.reshape(count, -1) for part in parts], dim=1)


@functools.lru_cache(maxsize=8)
def _banks(octaves: int) -> tuple[Tensor, ...]:
    """Return for each octave the real, then the imaginary parts of its waves, (16, 1, S, S)."""
    banks = []
    for octave in range(octaves):
        width, frequency = 0.8 * 2**octave, 0.75 * math.pi / 2**octave
        axis = torch.arange(-math.ceil(3 * width), math.ceil(3 * width) + 1).float()
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        real, imaginary = [], []
        for turn in range(_DIRECTIONS):
            angle = math.pi * turn / _DIRECTIONS
            along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
            window = torch.exp(-(along**2 + (across / 2) ** 2) / (2 * width**2))
            window = window / window.sum()
            wave = window * torch.cos(frequency * along)
            real.append(wave - window * wave.sum())  # blind to a constant
            imaginary.append(window * torch.sin(frequency * along))
        banks.append(torch.stack(real + imaginary).unsqueeze(1))
    return tuple(banks)


@functools.lru_cache(maxsize=8)
def _whitening(channels: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (D',), deviation (D',) and basis (D', D) of the features of random fields."""
    rows, columns = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    frequency = (rows[:, None] ** 2 + columns[None] ** 2).sqrt()
    frequency[0, 0] = torch.inf
    noise = torch.randn(_FIELDS, channels, height, width, generator=stream(0, "public features", "fields"))
    fields = torch.fft.ifft2(torch.fft.fft2(noise) / frequency).real
    fields = fields / fields.std(dim=(1, 2, 3), keepdim=True)
    with torch.no_grad():
        return whitening(torch.cat([_wavelet_features(part) for part in torch.split(fields, 256)]))


def whitening(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (D',), deviation (D',) and basis (D', D), D <= 240, of features (N, D') of what is public.

    `((x - mean) / deviation) @ basis` are the coordinates along the directions of largest variance, scaled by it.
    """
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    standard = ((features - mean) / deviation).double()
    values, vectors = torch.linalg.eigh(standard.T @ standard / len(features))
    order = values.argsort(descending=True)[:_LARGEST]
    basis = vectors[:, order] / (values[order] + _FLOOR).sqrt()
    return mean, deviation, basis.float()
