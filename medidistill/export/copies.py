"""8-bit copies of the images, for the eye and for readers of common formats.

They are rounded and clipped to the displayed range; `distilled.safetensors` holds the images themselves.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.files import write_bytes, write_text

__all__ = ["display_pixels", "file_stem", "npz_bytes", "write_pictures"]


def display_pixels(distilled: DistilledSet) -> npt.NDArray[np.uint8]:
    """Return the images as uint8, (S, H, W) for one channel and (S, H, W, 3) for three.

    Raises:
        ConfigError: another number of channels.
    """
    channels = distilled.images.shape[1]
    if channels not in (1, 3):
        raise ConfigError(f"distilled images with {channels} channels: must have 1 or 3")
    shown = distilled.normalisation.to_display(distilled.images.detach().cpu())
    pixels: npt.NDArray[np.uint8] = (shown * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if channels == 1 else pixels


def file_stem(number: int, class_name: str) -> str:
    """Return the name of an image's files, without their ending: no two are the same, whatever the classes."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", class_name).strip("-")[:60]
    return f"{number:05d}-{plain}" if plain else f"{number:05d}"


def write_pictures(distilled: DistilledSet, folder: Path) -> None:
    """Write one PNG for each image, and `metadata.csv` (file_name, label) as Hugging Face imagefolder reads it."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file_name", "label"])
    for number, (pixels, label) in enumerate(zip(display_pixels(distilled), distilled.labels.tolist(), strict=True)):
        class_name = distilled.class_names[label]
        file_name = f"{file_stem(number, class_name)}.png"
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, format="PNG")
        write_bytes(folder / file_name, encoded.getvalue())
        writer.writerow([file_name, class_name])
    write_text(folder / "metadata.csv", table.getvalue())


def npz_bytes(distilled: DistilledSet) -> bytes:
    """Return an npz with MedMNIST's keys: images uint8 and labels (n, 1) int64 of `train`, `val` and `test`.

    A distilled set is for training: `val` and `test` are there, with no image, so that every `split=` can be read.
    """
    buffer = io.BytesIO()
    images, labels = display_pixels(distilled), distilled.labels.detach().cpu().numpy()[:, None]
    arrays: dict[str, Any] = {"train_images": images, "train_labels": labels}
    for split in ("val", "test"):
        arrays |= {f"{split}_images": images[:0], f"{split}_labels": labels[:0]}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
