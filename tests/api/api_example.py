"""Small images whose class is the direction of their stripes, and settings of seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medidistill.config import NetworkConfig

CLASSES = ["columns", "diagonal", "rows"]
TINY: dict[str, Any] = {
    "ipc": 1,
    "method": "iadd",
    "progress": False,
    "device": "cpu",
    "network": NetworkConfig(width=4, depth=2),
    "outer_steps": 4,
    "inner_steps": 2,
    "expert_epochs": 1,
    "max_start": 2,
    "validate_every": 2,
    "checkpoint_every": 1,
    "experts": {"count": 2, "epochs": 3},
}
EVALUATED: dict[str, Any] = TINY | {
    "evaluate": {
        "num_networks": 2,
        "full_epochs": 1,
        "bootstrap": 100,
        "small_set_training": {"steps": 5},
        "adaptive": {"steps": 5},
    }
}
FAST: dict[str, Any] = TINY | {"evaluate": False, "validate_every": 0}


def stripes(count: int = 60, shape: tuple[int, int] = (16, 16)) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, H, W) uint8 and labels (N,): class number i modulo 3."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 3
    rows, columns = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    waves = np.stack([np.sin(0.8 * one) for one in (columns, rows + columns, rows)])
    pixels = 128 + 64 * waves[labels] + 20 * rng.standard_normal((count, *shape))
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def patients(count: int = 60) -> list[str]:
    """Two images of one class a patient."""
    return [f"PHANTOM-{index % 3}-{index // 6}" for index in range(count)]
