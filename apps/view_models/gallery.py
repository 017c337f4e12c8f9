"""Each distilled image beside the real training images that are nearest to it, and what the distance says.

Distances are root mean squares over pixels of prepared images, both in network input. They are read against a
yardstick of the same data: how far a validation image lies from its nearest training image. Patients' pixels are
read from the private part of the run folder, on demand, and kept nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medidistill.distilled_set import DistilledSet
from medidistill.errors import IngestError
from medidistill.files import load_tensors
from medidistill.pipeline import RunFolder

__all__ = ["Neighbour", "Neighbourhood", "neighbourhood", "verdict"]

_BLOCK = 512  # training images compared at once
_YARDSTICK = 400  # validation images that make the yardstick
_NEAR = 0.05  # share of the yardstick below which a distance is called short


@dataclass(frozen=True)
class Neighbour:
    """A real training image near a distilled one: (rows, columns) in [0, 1], its class, its distance."""

    pixels: npt.NDArray[np.float32]
    label: str
    distance: float


@dataclass(frozen=True)
class Neighbourhood:
    """One distilled image and its nearest real training images, nearest first.

    Args:
        pixels: (rows, columns) in [0, 1], for the eye.
        label: the class that it was made for.
        near: the nearest training images.
        share: of validation images that lie nearer to their nearest training image than this one does; None without
            a validation image.
    """

    pixels: npt.NDArray[np.float64]
    label: str
    near: tuple[Neighbour, ...]
    share: float | None


def neighbourhood(folder: RunFolder, method: str, most: int = 3) -> list[Neighbourhood]:
    """Return the nearest real training images of every image of the distilled set.

    Args:
        folder: a run that has distilled with `method`.
        method: `iadd` or `mtt`.
        most: neighbours of each image.

    Raises:
        IngestError: the private part was removed, or a file is damaged.
    """
    distilled = DistilledSet.load(folder.distill(method) / "distilled.safetensors")
    tensors, header = load_tensors(folder.ingest / "train.safetensors")
    val, _ = load_tensors(folder.ingest / "val.safetensors")
    images = tensors["images"]
    if images.shape[1:] != distilled.images.shape[1:]:
        raise IngestError("the prepared X-rays have another size than the distilled images; resume the run")
    real = distilled.normalisation.apply(images).flatten(1)
    yardstick, others = np.empty(0), val["images"][:_YARDSTICK]
    if len(others):
        yardstick = _distances(distilled.normalisation.apply(others).flatten(1), real).min(dim=1).values.numpy()
    table = _distances(distilled.images.flatten(1), real)
    nearest = table.topk(min(most, len(real)), largest=False)
    shown = distilled.normalisation.to_display(distilled.images).mean(1).double().numpy()
    found = []
    for place, label in enumerate(distilled.labels.tolist()):
        near = tuple(
            Neighbour(
                images[i].mean(0).numpy(), header["class_names"][int(tensors["labels"][i])], float(table[place, i])
            )
            for i in nearest.indices[place].tolist()
        )
        share = float((yardstick < near[0].distance).mean()) if len(yardstick) else None
        found.append(Neighbourhood(shown[place], distilled.class_names[label], near, share))
    return found


def _distances(some: Tensor, real: Tensor) -> Tensor:
    parts = [torch.cdist(some, real[at : at + _BLOCK]) for at in range(0, len(real), _BLOCK)]
    table: Tensor = torch.cat(parts, dim=1) / some.shape[1] ** 0.5
    return table


def verdict(found: Sequence[Neighbourhood]) -> str:
    """Return what the distances of a whole set say, and what they do not, in words."""
    shares = [one.share for one in found if one.share is not None]
    if not shares:
        return (
            "Whether an image lies unusually near to a real training image cannot be judged: the run holds no "
            "validation image to measure against."
        )
    short = sum(share < _NEAR for share in shares)
    if short:
        return (
            f"{short} of {len(found)} images lie nearer to a real training image than nearly all unseen patients' "
            "images do. Look at these pairs: an image that repeats its neighbour must not leave."
        )
    return (
        f"No image of {len(found)} lies unusually near to a real training image. That is no proof of safety: in a "
        "measurement, copies of real X-rays passed this very check after they had been optimised."
    )
