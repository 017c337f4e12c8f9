"""Which films are fit to learn from."""

from __future__ import annotations

from dataclasses import dataclass

from medidistill.config.fields import Validated, choice, number

__all__ = ["QualityConfig"]

_DO = ("quarantine", "warn", "accept")


@dataclass(frozen=True)
class QualityConfig(Validated):
    """What is done with each kind of doubtful film: set it aside, list it and use it, or use it."""

    view: str = choice("quarantine", "lateral and oblique films, by table or header", *_DO)
    body_part: str = choice("quarantine", "films of another part of the body, by header", *_DO)
    blank: str = choice("quarantine", "films with hardly any contrast", *_DO)
    clipped: str = choice("quarantine", "films with most pixels at one end of the scale", *_DO)
    same_pixels: str = choice("quarantine", "films with the pixels of another film in other bytes", *_DO)
    irregular: str = choice(
        "warn", "films read on an assumption, as header or file break the standard or hold what is not applied", *_DO
    )
    near_duplicates: str = choice("quarantine", "near duplicates in different splits; the training film goes", *_DO)
    min_contrast: float = number(0.04, "blank below: 99th less 1st percentile of intensities in [0, 1]", 0.0, 1.0)
    max_clipped: float = number(0.6, "clipped above: share of pixels that are black, or that are white", 0.0, 1.0)
    max_bits: int = number(16, "near duplicates: at most this many of the 256 bits of the outline differ", 0, 64)
    min_correlation: float = number(0.9, "near duplicates: fine structure correlates at least so much", 0.0, 1.0)
