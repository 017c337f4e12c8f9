"""Which images are fit for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from medidistill.config.fields import Help, Range, Validated

__all__ = ["Action", "QualityConfig"]

Action = Literal["quarantine", "warn", "accept"]


@dataclass(frozen=True)
class QualityConfig(Validated):
    """Action for each kind of doubtful image: set it aside, use and list it, or use it."""

    view: Annotated[Action, Help("lateral and oblique views, by table or header")] = "quarantine"
    body_part: Annotated[Action, Help("images of another body part, by header")] = "quarantine"
    blank: Annotated[Action, Help("images with hardly any contrast")] = "quarantine"
    clipped: Annotated[Action, Help("images with most pixels at one end of the scale")] = "quarantine"
    same_pixels: Annotated[Action, Help("images with the pixels of another file in different bytes")] = "quarantine"
    irregular: Annotated[
        Action, Help("images read on an assumption: header or file violate the standard, or hold what is not applied")
    ] = "warn"
    near_duplicates: Annotated[Action, Help("near duplicates in different splits; the training image is set aside")] = (
        "quarantine"
    )
    min_contrast: Annotated[
        float, Range(0.0, 1.0), Help("blank below: 99th less 1st percentile of intensities in [0, 1]")
    ] = 0.04
    max_clipped: Annotated[
        float, Range(0.0, 1.0), Help("clipped above: share of pixels that are black, or that are white")
    ] = 0.6
    max_bits: Annotated[
        int, Range(0, 64), Help("near duplicates: at most this many of the 256 bits of the difference hash differ")
    ] = 16
    min_correlation: Annotated[
        float, Range(0.0, 1.0), Help("near duplicates: smallest correlation of fine structure")
    ] = 0.9
