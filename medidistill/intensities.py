"""Images as users hold them, with any common range and layout, to float (N, C, H, W) in [0, 1].

| given | divided by |
|---|---|
| uint8, or whole numbers up to 255 | 255 |
| other whole numbers | the largest value of 10, 12, 14 or 16 bits, whichever first holds all of them |
| float within [0, 1] | 1 |
| float within [0, 255] | 255 |

Anything else is refused: a wrong guess of the range would be a silent error. A range that is given is used instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medidistill.errors import ArgumentError, ArgumentTypeError

__all__ = ["UnitImages", "as_batch", "to_unit_range"]

_BITS = (10, 12, 14, 16)
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class UnitImages:
    """Images in [0, 1] and what was assumed of them.

    Args:
        images: (N, C, H, W) float32 in [0, 1].
        low: the value that became 0.
        high: the value that became 1.
        note: a sentence on the range, empty where nothing had to be assumed.
    """

    images: Tensor
    low: float
    high: float
    note: str = ""


def as_batch(images: Any, name: str = "images") -> Tensor:
    """Return images as a tensor (N, C, H, W) of their own dtype; values are not changed.

    Args:
        images: a tensor or array (H, W), (N, H, W), (N, C, H, W) or (N, H, W, C), with C = 1 or 3. Where the second and
            the last axis could both be channels, the second is taken.
        name: of the argument, for messages.

    Raises:
        ArgumentTypeError: not an array of numbers.
        ArgumentError: another shape, or nothing in it.
    """
    try:
        tensor = torch.as_tensor(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(
            name, type(images).__name__, "a tensor or array of numbers (N, H, W) or (N, C, H, W)", "stack the images"
        ) from error
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentTypeError(name, tensor.dtype, "whole numbers or floats", "convert the images")
    shape = tuple(tensor.shape)
    if tensor.ndim == 2:
        tensor = tensor[None, None]
    elif tensor.ndim == 3:
        tensor = tensor[:, None]
    elif tensor.ndim == 4 and shape[1] not in _CHANNELS and shape[3] in _CHANNELS:
        tensor = tensor.movedim(3, 1)
    if tensor.ndim != 4 or tensor.shape[1] not in _CHANNELS or tensor.numel() == 0:
        raise ArgumentError(
            name,
            f"array of shape {shape}",
            "(N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or 3 channels and at least one image",
            "X-rays have 1 channel: select or average the channels",
        )
    return tensor


def to_unit_range(images: Any, value_range: Sequence[float] | None = None, name: str = "images") -> UnitImages:
    """Return images in [0, 1] by the table above, or by a given range.

    Args:
        images: see `as_batch`.
        value_range: (low, high), the values that become 0 and 1; None: by the table.
        name: of the argument, for messages.

    Raises:
        ArgumentTypeError: not an array of numbers, or not a range.
        ArgumentError: values that are not finite or that no row of the table allows, or a range that they leave.
    """
    tensor = as_batch(images, name)
    whole = not tensor.is_floating_point()
    values = tensor.to(torch.float64 if tensor.dtype in (torch.float64, torch.int64) else torch.float32)
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ArgumentError(name, f"{bad} values that are NaN or infinite", "finite", "remove or repair those images")
    least, most = (float(one) for one in values.aminmax())
    if value_range is not None:
        low, high = _checked_range(value_range)
        if least < low or most > high:
            raise ArgumentError(
                name,
                f"values from {least:g} to {most:g}",
                f"within value_range=({low:g}, {high:g})",
                "give both ends",
            )
        return UnitImages(((values - low) / (high - low)).float(), low, high)
    if least < 0:
        raise ArgumentError(
            name,
            f"values from {least:g} to {most:g}",
            "in [0, 1] or [0, 255], or whole numbers of up to 16 bits",
            "images must not be normalised yet; or give value_range=(low, high)",
        )
    if whole:
        high = 255 if most <= 255 else next((2**bits - 1 for bits in _BITS if most < 2**bits), math.inf)
        bits = 8 if high == 255 else next((bits for bits in _BITS if most < 2**bits), 0)
        note = "" if bits in (0, 8) else f"Whole numbers up to {most:g} were read as {bits} bits."
    else:
        high = 1 if most <= 1 else 255 if most <= 255 else math.inf
        note = f"Floats from {least:g} to {most:g} were read as 0 to 255." if high == 255 else ""
    if not math.isfinite(high):
        raise ArgumentError(
            name,
            f"values from {least:g} to {most:g}",
            "in [0, 1] or [0, 255], or whole numbers of up to 16 bits",
            "give value_range=(low, high)",
        )
    return UnitImages((values / high).float(), 0.0, float(high), note)


def _checked_range(value_range: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = (float(one) for one in value_range)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError("value_range", repr(value_range), "two numbers (low, high)") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError("value_range", repr(value_range), "two finite numbers with low < high")
    return low, high
