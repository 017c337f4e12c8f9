"""Stored images as rounded DCT amplitudes: the bits of a small picture, spent on the frequencies that hold most.

A training image x of side x side pixels is stored as the amplitudes y = D x D^T of its orthonormal DCT-II, each rounded
to 2^b levels, with b from 0 (not stored) to 8 bits by frequency and the same for all images of a set:

    y_k ~ (code_k + 1/2 - 2^(b_k - 1)) * step_k,        code_k in 0 .. 2^(b_k) - 1,        sum_k b_k = h^2 bits.

The sum is what a picture of h x h values of `bits` bits would take, so that both ways of storing an image compare at
equal bytes. An amplitude of root mean square s leaves an error of about s^2 / 4^b: each next bit goes to the frequency
whose error is largest, which is reverse water-filling over independent Gaussian sources (Cover and Thomas, Elements of
Information Theory, 10.3.3) with whole bits; coding blocks of a picture so is transform coding (Huang and Schultheiss
1963, IEEE Trans. Commun. Syst. 11, 289). Steps are those of the uniform quantiser of least squared error for a Gaussian
(Max 1960, IRE Trans. Inf. Theory 6, 7). Root mean squares are stored in half octaves of 4 bits, and bits and steps
follow from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medidistill.errors import ConfigError
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # a section of the header of a tensor file
from medidistill.packed_images import PackedImages, dct_amplitudes, dct_matrix, join_codes, split_codes

__all__ = ["SPECTRAL", "SPECTRAL_BITS", "SpectralImages", "bit_table", "read_packed", "rounded_spectrum"]

SPECTRAL = "spectral"  # the decoder's name
SPECTRAL_BITS = (8, 4, 2)
_MOST = 8  # bits of an amplitude
_STEPS = (1.0, 1.596, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308)  # of 0 to 8 bits, unit variance: Max 1960
_SILENT = 15  # scale code of a frequency that is not stored; below it half octaves under the largest
_SCALE_BITS = 4


def bit_table(scales: Tensor, total: int) -> Tensor:
    """Return the bits of each frequency, int64 of the shape of `scales`, 0 to 8, with the sum `total` or less.

    Args:
        scales: uint8 codes of root mean squares, half octaves below the largest; 15: not stored.
        total: bits an image and channel; less is used where all stored frequencies have 8.
    """
    power = torch.exp2(-scales.flatten().double())  # s^2, relative to the largest
    power[scales.flatten() == _SILENT] = 0
    error = power[:, None] / 4.0 ** torch.arange(_MOST, dtype=torch.float64, device=scales.device)
    order = error.flatten().argsort(descending=True, stable=True)[:total]
    taken = torch.zeros(error.numel(), dtype=torch.int64, device=scales.device)
    taken[order] = 1
    return (taken.view(error.shape) * (error > 0)).sum(1).view(scales.shape)


@dataclass(frozen=True)
class SpectralImages:
    """Rounded amplitudes of training images, and how they decode.

    Args:
        codes: (N, C, M) uint8, M the frequencies that have bits, row by row.
        scales: (side, side) uint8, half octaves of each frequency's root mean square below `largest`; 15: not stored.
        largest: the largest root mean square.
        stored_side: h; an image takes the bits of h x h values.
        bits: of one of these values: 8, 4 or 2.

    Raises:
        ConfigError: shapes, types or ranges that do not fit.
    """

    codes: Tensor
    scales: Tensor
    largest: float
    stored_side: int
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in SPECTRAL_BITS:
            raise ConfigError(
                f"bits={self.bits} with decoder={SPECTRAL!r}: must be one of {', '.join(map(str, SPECTRAL_BITS))}"
            )
        shape = tuple(self.scales.shape)
        if self.scales.dtype != torch.uint8 or len(shape) != 2 or shape[0] != shape[1]:
            raise ConfigError(f"scales {shape} of {self.scales.dtype}: must be square, of uint8")
        if not 1 <= self.stored_side <= shape[0]:
            raise ConfigError(f"stored_side={self.stored_side}: must be in 1..{shape[0]}, the side of the images")
        if not (math.isfinite(self.largest) and self.largest > 0) or int(self.scales.max()) > _SILENT:
            raise ConfigError(f"scales up to {int(self.scales.max())} below {self.largest}: must be <= 15, and > 0")
        bits = self.table().flatten()
        used = bits[bits > 0]
        if self.codes.dtype != torch.uint8 or self.codes.ndim != 3 or self.codes.shape[2] != len(used):
            raise ConfigError(
                f"codes {tuple(self.codes.shape)} of {self.codes.dtype}: must be (N, C, {len(used)}) of uint8"
            )
        if bool((self.codes.long() >= 2 ** used.to(self.codes.device)).any()):
            raise ConfigError("a code does not fit the bits of its frequency")

    @property
    def side(self) -> int:
        """Rows and columns of a decoded image, pixels."""
        return int(self.scales.shape[0])

    @property
    def decoder(self) -> str:
        """Name of this way of storing images."""
        return SPECTRAL

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, side, side) of the training images."""
        count, channels, _ = self.codes.shape
        return count, channels, self.side, self.side

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales; the scales of frequencies u + v above the highest one in use need no place."""
        bits = self.table()
        place = torch.arange(self.side)
        highest = int((place[:, None] + place)[bits.cpu() > 0].max()) if bool(bits.any()) else 0
        kept = int((place[:, None] + place <= highest).sum())
        count, channels, _ = self.codes.shape
        return -(-count * channels * int(bits.sum()) // 8) + -(-kept * _SCALE_BITS // 8)

    def table(self) -> Tensor:
        """Return the bits of each frequency, (side, side) int64."""
        return bit_table(self.scales, self.stored_side**2 * self.bits)

    def steps(self) -> Tensor:
        """Return the distance of two levels of each frequency, (side, side) float32; 0 where none is stored."""
        return _steps(self.scales, self.table(), self.largest)

    @classmethod
    def of(cls, images: Tensor, stored_side: int, bits: int = 8) -> SpectralImages:
        """Return `images` (N, C, side, side), finite, rounded to the bits of h x h values of `bits` bits each.

        Raises:
            ConfigError: `bits` or `stored_side` is not allowed.
        """
        amplitudes, scales, largest = _analysed(images)
        table = bit_table(scales, stored_side**2 * bits)
        codes = _places(amplitudes, table, _steps(scales, table, largest)) + _outermost(table)
        return cls(codes[..., table > 0].to(torch.uint8), scales, largest, stored_side, bits)

    def values(self) -> Tensor:
        """Return the training images; there is no smaller picture behind them."""
        return self.decode()

    def decode(self) -> Tensor:
        """Return the training images, (N, C, side, side) float32."""
        table = self.table()
        used = table > 0
        amplitudes = torch.zeros(self.shape, device=self.codes.device)
        amplitudes[..., used] = (self.codes.float() - _outermost(table)[used]) * self.steps()[used]
        return _synthesised(amplitudes)

    def quantised(self, bits: int) -> SpectralImages:
        """Return the same images in the bits of h x h values of `bits` bits.

        Raises:
            ConfigError: `bits` is not one of 8, 4, 2.
        """
        return self if bits == self.bits else SpectralImages.of(self.decode(), self.stored_side, bits)

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored: codes as a stream of bits, each image's one after another, the first in the lowest
        bits of a byte and each code's lowest bit first; bits and steps of each frequency; the matrix D.
        """
        bits = self.table()
        return {
            "packed/codes": join_codes(self.codes.flatten(0, 1), bits[bits > 0]),
            "packed/scales": self.scales,
            "packed/bits": bits.to(torch.uint8),
            "packed/steps": self.steps(),
            "packed/matrix": dct_matrix(self.side).float(),
        }

    def header(self) -> JsonObject:
        """Return everything but the tensors, as JSON types."""
        return {
            "decoder": SPECTRAL,
            "side": self.side,
            "stored_side": self.stored_side,
            "shape": list(self.shape),
            "bits": self.bits,
            "largest": self.largest,
            "bytes": self.nbytes,
        }

    @classmethod
    def read(cls, header: ReadOnlyJsonObject, tensors: Mapping[str, Tensor]) -> SpectralImages:
        """Rebuild from `header` and `tensors`.

        Raises:
            ConfigError: they do not fit each other.
            KeyError: an entry is missing.
        """
        scales, stored_side, bits = tensors["packed/scales"], int(header["stored_side"]), int(header["bits"])
        if bits not in SPECTRAL_BITS or scales.dtype != torch.uint8 or scales.ndim != 2:
            raise ConfigError(f"scales {tuple(scales.shape)} of {scales.dtype} with bits={bits}: not a spectral set")
        table = bit_table(scales, stored_side**2 * bits)
        count, channels, *_ = (int(size) for size in header["shape"])
        codes = split_codes(tensors["packed/codes"], table[table > 0], count * channels)
        made = cls(codes.view(count, channels, -1), scales, float(header["largest"]), stored_side, bits)
        if list(made.shape) != list(header["shape"]):
            raise ConfigError(f"stored images decode to {made.shape}: the header says {tuple(header['shape'])}")
        return made


def read_packed(header: ReadOnlyJsonObject, tensors: Mapping[str, Tensor]) -> PackedImages | SpectralImages:
    """Rebuild stored images of either kind from `header` and `tensors`; raises as their own `read` does."""
    return (SpectralImages if header["decoder"] == SPECTRAL else PackedImages).read(header, tensors)


def rounded_spectrum(images: Tensor, stored_side: int, bits: int = 8) -> Tensor:
    """Return what `images` (N, C, side, side) decode to after `SpectralImages.of`, float32, the same values.

    No codes are made on the way: a step of a distillation that sees its images rounded takes a tenth of the time.
    """
    amplitudes, scales, largest = _analysed(images)
    table = bit_table(scales, stored_side**2 * bits)
    steps = _steps(scales, table, largest)
    return _synthesised(_places(amplitudes, table, steps) * steps)


def _analysed(images: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return amplitudes (N, C, side, side), scales (side, side) and the largest root mean square."""
    if not images.numel():
        raise ConfigError("no images to store")
    amplitudes = dct_amplitudes(images)
    size = amplitudes.square().mean((0, 1)).sqrt()
    largest = max(float(size.max()), torch.finfo(torch.float32).tiny)
    below = (-2 * torch.log2(size / largest)).round().clamp(0, _SILENT)  # the logarithm of 0 is clamped too
    return amplitudes, below.to(torch.uint8), largest


def _steps(scales: Tensor, table: Tensor, largest: float) -> Tensor:
    ratios = torch.tensor(_STEPS, device=scales.device)[table]
    return torch.where(table > 0, ratios * largest * torch.exp2(-scales.float() / 2), 0.0)


def _outermost(table: Tensor) -> Tensor:
    """Return the place of the highest level of each frequency, (side, side) float32; levels lie a place of 1 apart."""
    return (2.0 ** (table - 1) - 0.5).clamp_min(0)


def _places(amplitudes: Tensor, table: Tensor, steps: Tensor) -> Tensor:
    """Return where on its levels each amplitude is rounded to, from -outermost to outermost; 0 where none is stored."""
    outermost = _outermost(table)
    places = torch.floor(amplitudes / steps.clamp_min(torch.finfo(torch.float32).tiny)).add_(0.5)
    return torch.minimum(torch.maximum(places, -outermost), outermost)


def _synthesised(amplitudes: Tensor) -> Tensor:
    matrix = dct_matrix(amplitudes.shape[-1]).to(amplitudes)
    return matrix.T @ amplitudes @ matrix
