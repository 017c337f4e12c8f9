"""Draw phantom chest X-rays: a frontal (PA) image as the sum of attenuations along the beam.

Coordinates: x from -1 (left of the picture, the patient's right) to 1, y from -1 (top) to 1 (bottom).
A picture is the attenuation along each ray, in units in which soft tissue at the hilum is about 1.
`draw_patient` makes the anatomy that all images of a patient share, `expose` one exposure of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

__all__ = ["CLASSES", "Anatomy", "draw_patient", "expose"]

CLASSES = ("bilateral_peripheral_opacities", "lobar_pneumonia", "normal")

Map = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Anatomy:
    """The patient in the beam: attenuation and exposed body, both (S, S) float32."""

    attenuation: Map
    body: Map


@dataclass(frozen=True)
class _Lungs:
    depth: Map  # 0 outside, 1 where the lung is deepest
    edge: Map  # distance from the pleura: 0 at the chest wall, 1 at the mediastinum
    right: Map  # 1 on the patient's right
    base: Map  # y of the diaphragm at each x
    minor: float  # y of the minor fissure


def _step(value: Map, width: float) -> Map:
    """Smooth step from 0 to 1 over about `width`, centred on 0."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(value * (4.0 / width), -30, 30))), dtype=np.float32)


def _bump(value: Map) -> Map:
    return np.asarray(np.exp(-0.5 * value * value), dtype=np.float32)


def _ellipse(x: Map, y: Map, cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> Map:
    """Return 1 - r^2 of an ellipse turned by `turn` radians: positive inside."""
    c, s = np.cos(turn), np.sin(turn)
    u, v = (x - cx) * c + (y - cy) * s, -(x - cx) * s + (y - cy) * c
    return np.asarray(1.0 - (u / rx) ** 2 - (v / ry) ** 2, dtype=np.float32)


def _texture(rng: np.random.Generator, size: int, scale: float) -> Map:
    """Return smooth noise of mean 0 and standard deviation 1 with grains of about `scale` (share of the side)."""
    coarse = max(4, min(size, round(2.0 / scale)))
    grid = ndimage.zoom(rng.standard_normal((coarse, coarse)), size / coarse, order=1, mode="nearest", grid_mode=True)
    field = ndimage.gaussian_filter(grid[:size, :size], size * scale * 0.2)
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _tree(
    rng: np.random.Generator, size: int, start: tuple[float, float], side: int, width: float, reach: float
) -> Map:
    """Draw a branching tree (vessels, bronchi) from the hilum outward; 0 to about 1."""
    picture = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(picture)
    stack = [(start, angle, reach * rng.uniform(0.20, 0.30), width) for angle in np.linspace(-1.2, 1.3, 5)]
    while stack:
        (x0, y0), angle, length, thick = stack.pop()
        angle += rng.normal(0, 0.12)
        x1, y1 = x0 + side * length * np.cos(angle), y0 + length * np.sin(angle)
        ends = [((x0 + 1) * size / 2, (y0 + 1) * size / 2), ((x1 + 1) * size / 2, (y1 + 1) * size / 2)]
        draw.line(ends, fill=int(90 + 165 * thick / width), width=max(1, round(thick * size / 2)))
        if thick > width * 0.2:
            stack += [
                ((x1, y1), angle + turn * rng.uniform(0.5, 1.5), length * rng.uniform(0.65, 0.95), thick * 0.66)
                for turn in (-0.38, 0.33)
            ]
    soft = ndimage.gaussian_filter(np.asarray(picture, dtype=np.float32) / 255.0, size * 0.0035)
    return np.asarray(soft, dtype=np.float32)


def _ribs(x: Map, y: Map, rng: np.random.Generator, wall: float) -> Map:
    """Ribs: posterior arcs falling outward from the spine, fainter anterior arcs falling inward."""
    bone = np.zeros_like(x)
    size = len(x)
    top, step = rng.uniform(-0.80, -0.76), rng.uniform(0.142, 0.155)
    for k in range(10):
        # only the rows that this rib can reach
        rows = slice(
            *(int(np.clip((v + 1.0) * size / 2, 0, size)) for v in (top + step * k - 0.16, top + step * k + 0.42))
        )
        u, v = np.abs(x[rows]), y[rows]
        reach, half = wall * min(1.0, 0.62 + 0.10 * k), 0.026 + 0.001 * k
        chest = _step(reach - u, 0.03)
        t = np.clip((u - 0.06) / (reach - 0.06), 0, 1.2)
        line = top + step * k - 0.05 * np.sin(np.pi * np.minimum(t, 1)) + (0.10 + 0.012 * k) * t * t
        d = np.abs(v - line) / half
        shaft = 0.55 * _step(1.0 - d, 0.7) + 0.28 * _bump((d - 0.85) / 0.22)
        bone[rows] += chest * _step(u - 0.05, 0.04) * shaft * (0.75 + 0.25 * t)
        if 1 <= k <= 6:
            t = np.clip((reach - u) / (reach - 0.30 - 0.02 * k), 0, 1.1)
            line = top + step * (k + 1.2) + 0.08 + 0.16 * t * (1.2 - 0.2 * t)
            front = _step(1.0 - np.abs(v - line) / (1.25 * half), 0.8)
            bone[rows] += 0.30 * chest * _step(u - 0.30 - 0.02 * k, 0.12) * front
    return bone


def _lungs(x: Map, y: Map, rng: np.random.Generator, wall: float, heart: Map, great: Map) -> _Lungs:
    right = np.asarray(x < 0, dtype=np.float32)
    u = np.abs(x)
    apex = rng.uniform(-0.80, -0.76)
    dome = {True: rng.uniform(0.36, 0.44), False: rng.uniform(0.41, 0.49)}
    if dome[False] < dome[True] + 0.02:
        dome[False] = dome[True] + 0.02
    mid = 0.40
    base = np.where(right > 0, dome[True], dome[False]) + np.where(u > mid, 1.5, 0.45) * (u - mid) ** 2
    outer = wall * (0.965 - 0.62 * np.clip((0.12 - y) / (0.12 - apex), 0, 1) ** 2.6)
    inner = 0.10 + 0.03 * np.clip(y, 0, 1)
    width = np.maximum(outer - inner, 0.02)
    edge = np.clip((outer - u) / width, -1, 2)
    depth = _step(outer - u, 0.025) * _step(u - inner, 0.03) * _step(base - y, 0.018) * _step(y - apex, 0.05)
    depth *= 1.0 - np.clip(_step(heart, 0.09) + _step(great, 0.10), 0, 1)
    rounded = np.clip(1.0 - (np.clip(1 - edge, 0, 1) - 0.45) ** 2 * 0.9, 0.4, 1)
    shallow = 0.55 + 0.45 * _step(y - apex - 0.22, 0.3)
    return _Lungs(
        np.asarray(depth * rounded * shallow, np.float32),
        np.asarray(edge, np.float32),
        right,
        np.asarray(base, np.float32),
        rng.uniform(-0.10, -0.02),
    )


def _consolidation(x: Map, y: Map, rng: np.random.Generator, lungs: _Lungs) -> Map:
    """One lobe filled: dense, sharp at its fissure, with air bronchograms; share of the air that is replaced."""
    size = len(x)
    lobe = rng.choice(["right_upper", "right_middle", "right_lower", "left_upper", "left_lower"])
    side = -1.0 if lobe.startswith("right") else 1.0
    half = lungs.right if side < 0 else 1.0 - lungs.right
    u = x * side
    wave = 0.012 * np.sin(6 * u + rng.uniform(0, 6))
    sharp = 0.016
    if lobe == "right_upper":  # rests on the minor fissure, which may bow
        bow = rng.uniform(-0.10, 0.05)
        region = _step(lungs.minor + bow * (u - 0.3) ** 2 * 4 + wave - y, sharp)
        region *= _step(y - (lungs.minor - rng.uniform(0.34, 0.52)), 0.22)
    elif lobe == "right_middle":  # hangs from the minor fissure, blurs the right heart border
        region = _step(y - lungs.minor - wave, sharp) * _step(
            rng.uniform(0.30, 0.40) - (y - lungs.minor) - 0.25 * (u - 0.2), 0.10
        )
        region *= _step(rng.uniform(0.52, 0.64) - u, 0.14)
    elif lobe.endswith("lower"):  # below an oblique line that falls outward
        slope = rng.uniform(0.15, 0.35)
        region = _step(y - (rng.uniform(-0.02, 0.10) + slope * (u - 0.3)) - wave, sharp * 1.5)
    else:  # left upper with its lower border on the oblique fissure seen edge-on
        slope = rng.uniform(0.15, 0.35)
        region = _step(rng.uniform(-0.12, 0.02) + slope * (u - 0.35) + wave - y, sharp * 1.5)
        region *= _step(y + rng.uniform(0.50, 0.62), 0.22)
    hilum = (side * 0.15, rng.uniform(-0.14, -0.06) if "upper" in lobe else rng.uniform(-0.05, 0.06))
    bronchi = _tree(rng, size, hilum, int(side), 0.018, 0.8)
    filled = rng.uniform(0.68, 0.88) * (1 + 0.06 * _texture(rng, size, 0.10))
    return np.asarray(half * region * np.clip(filled - 0.5 * bronchi, 0, 1), np.float32)


def _peripheral(x: Map, y: Map, rng: np.random.Generator, lungs: _Lungs) -> Map:
    """Patchy ground-glass at the pleura of both lungs, mid and lower zones; share of the air that is replaced."""
    size = len(x)
    haze = np.zeros_like(x)
    for side in (-1.0, 1.0):
        half = lungs.right if side < 0 else 1.0 - lungs.right
        for _ in range(int(rng.integers(3, 6))):
            cy = rng.uniform(-0.22, 0.42)
            cx = side * rng.uniform(0.50, 0.68)
            patch = _ellipse(x, y, cx, cy, rng.uniform(0.12, 0.22), rng.uniform(0.09, 0.19), rng.uniform(-0.6, 0.6))
            rough = patch + 0.28 * _texture(rng, size, 0.09)
            haze = np.maximum(haze, half * _step(rough - 0.15, 0.9) * rng.uniform(0.34, 0.58))
    haze *= _bump(np.clip(lungs.edge, 0, 2) / 0.42) * (1 + 0.16 * _texture(rng, size, 0.03))
    return np.asarray(np.clip(haze, 0, 0.8), np.float32)


def draw_patient(rng: np.random.Generator, kind: str, sex: str, size: int) -> Anatomy:
    """Draw the anatomy of one synthetic patient.

    Args:
        rng: decides every measure.
        kind: one of `CLASSES`.
        sex: `F` adds breast shadows.
        size: rows and columns.
    """
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    x, y = np.meshgrid(axis, axis)
    x = np.asarray(x / rng.uniform(0.94, 1.06), np.float32)
    y = np.asarray((y - rng.uniform(-0.03, 0.03)) / rng.uniform(0.95, 1.05), np.float32)
    u = np.abs(x)
    wall = rng.uniform(0.74, 0.80)

    shoulder = 0.24 + 0.95 * _step(y + 0.80 + 0.10 * (u - 0.5), 0.16)
    flank = np.minimum(shoulder, 1.35 - 0.43 * _step(y + rng.uniform(0.05, 0.25), 0.35))
    body = _step(flank - u, 0.05)
    soft = body * np.sqrt(np.clip(1.0 - (u / (flank + 0.06)) ** 2, 0.02, 1)) * rng.uniform(0.92, 1.08)

    size_of_heart = rng.uniform(0.90, 1.12)
    heart = np.maximum(
        _ellipse(x, y, 0.13, 0.26, 0.34 * size_of_heart, 0.23 * size_of_heart, rng.uniform(0.42, 0.58)),
        np.maximum(
            _ellipse(x, y, -0.05, 0.20, 0.155 * size_of_heart, 0.27),
            _ellipse(x, y, 0.08, 0.02, 0.14 * size_of_heart, 0.24, -0.35),
        ),
    )
    great = np.maximum(
        _ellipse(x, y, 0.11, rng.uniform(-0.40, -0.36), 0.095, 0.10),
        np.maximum(_ellipse(x, y, 0.10, -0.14, 0.12, 0.22), _ellipse(x, y, -0.05, -0.30, 0.10, 0.34)),
    )
    lungs = _lungs(x, y, rng, wall, np.asarray(heart, np.float32), np.asarray(great, np.float32))

    air = lungs.depth * rng.uniform(0.92, 1.05)
    filled = np.zeros_like(x)
    if kind == "lobar_pneumonia":
        filled = _consolidation(x, y, rng, lungs)
    elif kind == "bilateral_peripheral_opacities":
        filled = _peripheral(x, y, rng, lungs)
    vessels = np.zeros_like(x)
    for side in (-1, 1):
        hilum = (side * 0.15, -0.05 if side < 0 else -0.09)
        vessels += _tree(rng, size, hilum, side, rng.uniform(0.026, 0.034), rng.uniform(0.72, 0.85))
        vessels += 0.55 * _bump(np.hypot((x - side * 0.19) / 0.06, (y - hilum[1]) / 0.11))
    lung_tissue = air * (0.10 * np.clip(vessels, 0, 1.3) * (1 - filled) * 1.9 + 0.012 * _texture(rng, size, 0.03))

    # where silhouettes of soft tissue overlap, no border shows: the densest counts, not the sum
    belly = _step(lungs.base * -1 + y, 0.03) * (0.27 - 0.04 * _step(x, 0.5))
    organs = np.maximum(0.15 * _step(heart, 0.4) + 0.12 * np.sqrt(np.clip(heart, 0, 1)), 0.17 * _step(great, 0.5))
    organs = np.maximum(np.maximum(organs, 0.16 * _step(0.15 - u, 0.10)), belly)
    gas = np.clip(_ellipse(x, y, rng.uniform(0.30, 0.44), rng.uniform(0.62, 0.70), rng.uniform(0.08, 0.16), 0.07), 0, 1)
    trachea = _bump((x + 0.015 * _step(y + 0.55, 0.2)) / 0.034) * _step(-0.36 - y, 0.06) * _step(y + 1.1, 0.1)

    spacing = rng.uniform(0.105, 0.12)
    discs = 0.5 + 0.5 * np.cos(2 * np.pi * (y - rng.uniform(0, spacing)) / spacing)
    spine = _step(0.085 - u, 0.03) * (0.10 + 0.06 * discs) + 0.05 * _bump((u - 0.05) / 0.012) * discs
    clavicle_line = -0.60 - 0.14 * np.clip((u - 0.08) / 0.6, 0, 1.3) + 0.025 * np.sin(8 * (u - 0.1))
    clavicle = (y - clavicle_line) / 0.030
    clavicles = _step(1 - np.abs(clavicle), 0.6) + 0.5 * _bump((np.abs(clavicle) - 0.85) / 0.2)
    clavicles *= _step(u - 0.07, 0.03) * _step(0.80 - u, 0.06)
    scapula = (
        _step(u - (wall - 0.05 - 0.30 * np.clip(-0.15 - y, 0, 0.5)), 0.04)
        * _step(-0.05 - y, 0.10)
        * _step(y + 0.72, 0.1)
    )

    attenuation = 0.42 + 0.60 * soft - 0.70 * air * (1 - filled) + lung_tissue + organs
    attenuation += 0.19 * _ribs(x, y, rng, wall) * body * (1 - 2.4 * belly) + 0.20 * clavicles + 0.10 * scapula + spine
    attenuation -= 0.22 * trachea + 0.14 * gas
    if sex == "F":
        for side in (-1, 1):
            breast = _ellipse(x, y, side * 0.44, rng.uniform(0.34, 0.40), 0.32, 0.28)
            attenuation += 0.10 * np.sqrt(np.clip(breast, 0, 1)) * body
    return Anatomy(np.asarray(attenuation * body, np.float32), np.asarray(body, np.float32))


def expose(anatomy: Anatomy, rng: np.random.Generator) -> Map:
    """Simulate one exposure: small rotation and shift, exposure, contrast, scatter, blur and quantum noise.

    Returns:
        (S, S) float32, log exposure, bright where few photons arrive; about 0 (air) to 1.6.
    """
    size = len(anatomy.attenuation)
    angle, zoom = np.deg2rad(rng.normal(0, 1.6)), rng.uniform(0.95, 1.05)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    centre = np.full(2, (size - 1) / 2)
    offset = centre - turn @ centre + rng.normal(0, 0.018 * size, 2)
    film = ndimage.affine_transform(anatomy.attenuation, turn, offset, order=1, mode="nearest")
    scatter = ndimage.gaussian_filter(film[::4, ::4], size * 0.03)
    scatter = ndimage.zoom(scatter, size / len(scatter), order=1, mode="nearest", grid_mode=True)[:size, :size]
    film = film * (1 - 0.12) + 0.12 * scatter
    film = 1.25 * np.tanh(film / 1.25)  # the shoulder of the characteristic curve
    film = ndimage.gaussian_filter(film, size * rng.uniform(0.0016, 0.0028))
    noise = rng.standard_normal((size, size), dtype=np.float32) * np.exp(0.5 * film)
    film = film + rng.uniform(0.010, 0.018) * ndimage.gaussian_filter(noise, 0.55)
    return np.asarray(film * rng.uniform(0.85, 1.15) + rng.uniform(-0.10, 0.10), np.float32)
