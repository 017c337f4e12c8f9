"""Small stored images that decode into training images, and how their values are stored in 32, 8, 4 or 2 bits.

A stored image t of h x h values decodes linearly into a training image of side x side pixels,

    x = A t A^T,

where A (side, h) interpolates: `bilinear` as `torch.nn.functional.interpolate` does with `align_corners=False`, or
`dct`, which keeps the h lowest frequencies of the orthonormal DCT-II and scales them so that a constant stays the same
constant. A is shipped with the set, so that a reader without medidistill decodes by two matrix products.

With f = side / h, f^2 stored images take the bytes of one training image. Kim et al. 2022 (IDC, arXiv 2205.14959)
store several images in one; here each keeps a place of its own, so that nothing has to be cut out.

Quantisation is uniform with one offset and one step for the whole set:

    t = offset + step * code,    code in 0 .. 2^bits - 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medidistill.errors import ConfigError
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # a section of the header of a tensor file

__all__ = [
    "BITS",
    "DECODERS",
    "PackedImages",
    "dct_matrix",
    "join_codes",
    "label_codes",
    "labels_of_codes",
    "rounded_labels",
    "split_codes",
    "upsampling_matrix",
]

DECODERS = ("bilinear", "dct")
BITS = (32, 8, 4, 2)
_SMALLEST_STEP = 1e-12
_LABEL_LEVELS = 255


def dct_matrix(side: int) -> Tensor:
    """Return the orthonormal DCT-II matrix (side, side) float64; row u holds frequency u."""
    place = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (place + 0.5) * place[:, None]) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct_amplitudes(images: Tensor) -> Tensor:
    """Return the orthonormal DCT-II of square images (..., side, side), float32, of the same shape."""
    matrix = dct_matrix(images.shape[-1]).to(images.device, torch.float32)
    return matrix @ images.float() @ matrix.T


def upsampling_matrix(decoder: str, side: int, stored_side: int) -> Tensor:
    """Return A (side, stored_side) float64; the identity where both sides are equal.

    Raises:
        ConfigError: an unknown decoder, or a stored side that is not in 1..side.
    """
    if decoder not in DECODERS:
        raise ConfigError(f"decoder={decoder!r}: must be one of {', '.join(DECODERS)}")
    if not 1 <= stored_side <= side:
        raise ConfigError(f"stored images of side {stored_side}: must be in 1..{side}, the side of the training images")
    if stored_side == side:
        return torch.eye(side, dtype=torch.float64)
    if decoder == "dct":
        low = dct_matrix(side)[:stored_side].T @ dct_matrix(stored_side)
        return low * math.sqrt(side / stored_side)
    unit = torch.eye(stored_side, dtype=torch.float64)[None]
    return F.interpolate(unit, size=side, mode="linear", align_corners=False)[0].T.contiguous()


@dataclass(frozen=True)
class PackedImages:
    """Stored images of a distilled set and how they decode.

    Args:
        codes: (N, C, h, h); float32 values where `bits` is 32, else uint8 codes in 0..2^bits - 1.
        side: rows and columns of a decoded image, pixels; >= h.
        decoder: "bilinear" or "dct".
        bits: bits a value: 32, 8, 4 or 2.
        offset: value of code 0; 0 where `bits` is 32.
        step: distance of two codes; 1 where `bits` is 32.

    Raises:
        ConfigError: shapes, types or ranges that do not fit.
    """

    codes: Tensor
    side: int
    decoder: str = "bilinear"
    bits: int = 32
    offset: float = 0.0
    step: float = 1.0

    def __post_init__(self) -> None:
        shape = tuple(self.codes.shape)
        if self.codes.ndim != 4 or shape[2] != shape[3]:
            raise ConfigError(f"stored images {shape}: must be (N, C, h, h)")
        if self.bits not in BITS:
            raise ConfigError(f"bits={self.bits}: must be one of {', '.join(map(str, BITS))}")
        upsampling_matrix(self.decoder, self.side, shape[2])  # checks decoder and side
        wanted = torch.float32 if self.bits == 32 else torch.uint8
        if self.codes.dtype != wanted:
            raise ConfigError(f"stored images of {self.codes.dtype} with bits={self.bits}: must be {wanted}")
        if self.bits < 8 and self.codes.numel() and int(self.codes.max()) >= 2**self.bits:
            raise ConfigError(f"a code of {int(self.codes.max())} with bits={self.bits}: must be < {2**self.bits}")
        if not (math.isfinite(self.offset) and math.isfinite(self.step) and self.step > 0):
            raise ConfigError(f"offset={self.offset}, step={self.step}: must be finite, and step > 0")

    @classmethod
    def nearest(cls, images: Tensor, stored_side: int, decoder: str) -> PackedImages:
        """Return the stored images of h x h values that decode closest to `images` (N, C, side, side), least squares.

        Raises:
            ConfigError: an unknown decoder, or a stored side that is not in 1..side.
        """
        side = images.shape[-1]
        inverse = torch.linalg.pinv(upsampling_matrix(decoder, side, stored_side)).to(images)
        return cls((inverse @ images @ inverse.T).float().contiguous(), side, decoder)

    @property
    def factor(self) -> float:
        """f = side / h: how many times finer a decoded image is than its stored one, along each axis."""
        return self.side / self.codes.shape[-1]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, side, side) of the training images."""
        count, channels, _, _ = self.codes.shape
        return count, channels, self.side, self.side

    @property
    def nbytes(self) -> int:
        """Bytes of the stored values; what is shared by all of them (A, offset, step) is not counted."""
        return -(-self.codes.numel() * self.bits // 8)

    def values(self) -> Tensor:
        """Return the stored images as (N, C, h, h) float32."""
        return self.codes if self.bits == 32 else self.offset + self.step * self.codes.to(torch.float32)

    def decode(self) -> Tensor:
        """Return the training images, (N, C, side, side) float32."""
        values = self.values()
        if self.side == values.shape[-1]:
            return values.clone()
        matrix = self.matrix().to(values)
        return matrix @ values @ matrix.T

    def matrix(self) -> Tensor:
        """Return A (side, h) float32."""
        return upsampling_matrix(self.decoder, self.side, self.codes.shape[-1]).float()

    def quantised(self, bits: int) -> PackedImages:
        """Return the same images at `bits` bits a value; the range is that of the values, rounding to the nearest code.

        Raises:
            ConfigError: `bits` is not one of 32, 8, 4, 2.
        """
        values = self.values()
        if bits == 32:
            return PackedImages(values, self.side, self.decoder)
        if bits not in BITS:
            raise ConfigError(f"bits={bits}: must be one of {', '.join(map(str, BITS))}")
        low, high = (float(value) for value in values.aminmax())
        if bits < 8:  # few levels: a step that the rare extremes decide would waste most of them
            low, high = _clipping(values, bits)
        step = max((high - low) / (2**bits - 1), _SMALLEST_STEP)
        codes = ((values - low) / step).round().clamp(0, 2**bits - 1).to(torch.uint8)
        return PackedImages(codes, self.side, self.decoder, bits, low, step)

    def tensors(self) -> dict[str, Tensor]:
        """Return what is stored: `packed/codes` and `packed/matrix` (A).

        Codes of fewer than 8 bits are one flat vector of bytes, the first code in the lowest bits.
        """
        codes = self.codes if self.bits >= 8 else join_codes(self.codes.view(-1, 1), torch.tensor([self.bits]))
        return {"packed/codes": codes, "packed/matrix": self.matrix()}

    def header(self) -> JsonObject:
        """Return everything but the tensors, as JSON types."""
        return {
            "decoder": self.decoder,
            "side": self.side,
            "shape": list(self.codes.shape),
            "bits": self.bits,
            "offset": self.offset,
            "step": self.step,
            "bytes": self.nbytes,
        }

    @classmethod
    def read(cls, header: ReadOnlyJsonObject, tensors: Mapping[str, Tensor]) -> PackedImages:
        """Rebuild from `header` and `tensors`.

        Raises:
            ConfigError: they do not fit each other.
            KeyError: an entry is missing.
        """
        bits, shape = int(header["bits"]), tuple(int(size) for size in header["shape"])
        if bits not in BITS:
            raise ConfigError(f"bits={bits}: must be one of {', '.join(map(str, BITS))}")
        codes = tensors["packed/codes"]
        if bits < 8:
            codes = split_codes(codes, torch.tensor([bits]), math.prod(shape)).view(shape)
        elif tuple(codes.shape) != shape:
            raise ConfigError(f"stored images {tuple(codes.shape)}: the header says {shape}")
        return cls(codes, int(header["side"]), header["decoder"], bits, float(header["offset"]), float(header["step"]))


def rounded_labels(labels: Tensor) -> Tensor:
    """Return label probabilities (N, K) float32 rounded to multiples of 1/255 that sum to 1, so that bytes hold them.

    Largest remainders are rounded up.
    """
    scaled = labels.double() / labels.double().sum(1, keepdim=True) * _LABEL_LEVELS
    whole = scaled.floor()
    missing = (_LABEL_LEVELS - whole.sum(1, keepdim=True)).round()
    place = (whole - scaled).argsort(dim=1, stable=True).argsort(dim=1)
    return ((whole + (place < missing)) / _LABEL_LEVELS).float()


def label_codes(labels: Tensor) -> Tensor | None:
    """Return (N, K) uint8, 255 times the label probabilities; None where these are not multiples of 1/255."""
    codes = (labels * _LABEL_LEVELS).round()
    return codes.to(torch.uint8) if torch.equal(codes / _LABEL_LEVELS, labels) else None


def labels_of_codes(codes: Tensor) -> Tensor:
    """Return the label probabilities (N, K) float32 that `label_codes` stored."""
    return codes.float() / _LABEL_LEVELS


def _clipping(values: Tensor, bits: int) -> tuple[float, float]:
    """Return the symmetric clipping range around the mean with the smallest mean squared error among 24 widths."""
    mean, spread = float(values.mean()), float(values.std().clamp_min(_SMALLEST_STEP))
    best = (math.inf, mean - spread, mean + spread)
    for number in range(1, 25):
        low, high = mean - number * spread / 6, mean + number * spread / 6
        step = (high - low) / (2**bits - 1)
        rounded = low + step * ((values - low) / step).round().clamp(0, 2**bits - 1)
        best = min(best, (float((rounded - values).square().mean()), low, high))
    return best[1], best[2]


def join_codes(codes: Tensor, widths: Tensor) -> Tensor:
    """Return codes as a stream of bits in bytes: row by row, the first in the lowest bits, its lowest bit first.

    Args:
        codes: (R, M) uint8, each below 2 to its width.
        widths: (M,) int64, bits of each column, 0 to 8.
    """
    parts = [
        codes[:, column, None] >> torch.arange(width, dtype=torch.uint8) & 1
        for column, width in enumerate(widths.tolist())
    ]
    stream = torch.cat(parts, 1).flatten() if parts else codes.flatten()
    octets = F.pad(stream, (0, -stream.numel() % 8)).view(-1, 8).to(torch.int32)
    return (octets << torch.arange(8, dtype=torch.int32)).sum(1).to(torch.uint8)


def split_codes(stored: Tensor, widths: Tensor, rows: int) -> Tensor:
    """Return codes (rows, M) uint8 from what `join_codes` returned.

    Raises:
        ConfigError: `stored` is not of the bytes that so many codes need.
    """
    total = int(widths.sum())
    wanted = -(-rows * total // 8)
    if stored.dtype != torch.uint8 or tuple(stored.shape) != (wanted,):
        raise ConfigError(
            f"stored codes {tuple(stored.shape)} of {stored.dtype}: {rows} times {total} bits need {wanted} bytes"
        )
    stream = (stored[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten()[: rows * total].view(rows, total)
    columns = torch.split(stream.to(torch.int32), widths.tolist(), dim=1)
    parts = [(bits << torch.arange(bits.shape[1], dtype=torch.int32)).sum(1) for bits in columns]
    whole = torch.stack(parts, 1) if parts else torch.zeros(rows, 0)
    return whole.to(torch.uint8)
