"""Which images are fit for training."""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.config.fields import Validated, choice, number

__all__ = ["QualityConfig"]

_DO = ("quarantine", "warn", "accept")


@dataclass(frozen=True)
class QualityConfig(Validated):
    """Action for each kind of doubtful image: set it aside, use and list it, or use it."""

    view: str = choice("quarantine", "lateral and oblique views, by table or header", *_DO)
    body_part: str = choice("quarantine", "images of another body part, by header", *_DO)
    blank: str = choice("quarantine", "images with hardly any contrast", *_DO)
    clipped: str = choice("quarantine", "images with most pixels at one end of the scale", *_DO)
    same_pixels: str = choice("quarantine", "images with the pixels of another file in different bytes", *_DO)
    irregular: str = choice(
        "warn", "images read on an assumption: header or file violate the standard, or hold what is not applied", *_DO
    )
    near_duplicates: str = choice(
        "quarantine", "near duplicates in different splits; the training image is set aside", *_DO
    )
    min_contrast: float = number(0.04, "blank below: 99th less 1st percentile of intensities in [0, 1]", 0.0, 1.0)
    max_clipped: float = number(0.6, "clipped above: share of pixels that are black, or that are white", 0.0, 1.0)
    max_bits: int = number(
        16, "near duplicates: at most this many of the 256 bits of the difference hash differ", 0, 64
    )
    min_correlation: float = number(0.9, "near duplicates: smallest correlation of fine structure", 0.0, 1.0)
