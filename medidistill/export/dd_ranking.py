"""A distilled set as the three tensor files that DD-Ranking's evaluators are given (arXiv 2505.13300).

| file | argument of `compute_metrics` |
|---|---|
| `images.pt` | `image_tensor`, (S, C, H, W) float32, normalised |
| `labels.pt` | `hard_labels`, (S,) int64; or `soft_labels`, (S, K) float32 |
| `lr.pt` | `syn_lr`, a scalar |

They are written by `torch.save`, because that is what is read there; `torch.load(..., weights_only=True)` is enough. A
bundle itself holds no pickle, so these files are no part of one.
"""

from __future__ import annotations

from pathlib import Path

import torch

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ArgumentError
from medidistill.export.folders import new_folder

__all__ = ["write_dd_ranking"]


def write_dd_ranking(distilled: DistilledSet, folder: Path | str, *, channels: int = 0) -> Path:
    """Write the three files into a new folder and return it.

    Args:
        distilled: the set.
        folder: new.
        channels: 3 repeats a single channel, as DD-Ranking's own data sets have three; 0: as the set has.

    Raises:
        ArgumentError: the folder exists, or other channels than the set's or 3.
    """
    images = distilled.images.detach().cpu().float()
    if channels not in (0, images.shape[1], 3) or isinstance(channels, bool):
        raise ArgumentError("channels", repr(channels), f"0, {images.shape[1]} or 3")
    if channels and channels != images.shape[1]:
        images = images.repeat(1, channels, 1, 1)
    parts = {
        "images.pt": images.contiguous(),
        "labels.pt": distilled.targets.detach().cpu().clone(),
        "lr.pt": torch.tensor(distilled.training.lr),
    }
    with new_folder(folder) as place:
        for name, value in parts.items():
            torch.save(value, place / name)
    return Path(folder)
