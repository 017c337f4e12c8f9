"""A small set whose classes differ by the direction of stripes, and its bundle."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.export import write_bundle
from medidistill.record import RunRecord
from medidistill.seeding import stream

CLASSES = ("COVID-19", "Normal", "Viral, other")


def striped(count: int, seed: int, side: int = 16, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] whose class is the direction of their stripes: nothing a constant could tell."""
    generator = stream(seed, "striped")
    labels = torch.arange(count) % 3
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = torch.stack([torch.sin(phase * 0.8) for phase in (rows, columns, rows + columns)])
    noise = 0.1 * torch.randn(count, channels, side, side, generator=generator)
    return (0.5 + 0.25 * waves[labels].unsqueeze(1) + noise).clamp(0, 1), labels


def make_set(channels: int = 1, **changes: object) -> DistilledSet:
    normalisation = changes.pop("normalisation", Normalisation())
    assert isinstance(normalisation, Normalisation)
    images, labels = striped(9, seed=0, channels=channels)
    values: dict[str, object] = {
        "images": normalisation.apply(images),
        "labels": labels,
        "alpha": 0.05,
        "class_names": CLASSES,
        "normalisation": normalisation,
        "network": NetworkConfig(width=8),
        "training": TrainingConfig(steps=60, batch_size=9, lr=0.05, schedule="step"),
        "recipe": {"method": "iadd", "init": "noise"},
    }
    return DistilledSet(**(values | changes))  # type: ignore[arg-type]


def write(folder: Path, distilled: DistilledSet | None = None, **changes: object) -> Path:
    values = {"name": "Phantom Run 1", "record": RunRecord(), "comparison": None, "notice": ""} | changes
    return write_bundle(distilled or make_set(), folder, **values)  # type: ignore[arg-type]


def card_code(folder: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    return code
