"""Pictures in and out of a set: files of real X-rays for its networks, and a contact sheet of its images.

Decoder and matplotlib are imported where they are used: a set is read and trained from with torch alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medidistill.errors import ArgumentError
from medidistill.extras import require_extra
from medidistill.files import sha256_file, translate_os_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medidistill.distilled_set import DistilledSet

__all__ = ["as_paths", "contact_sheet", "read_pictures"]

_CELL = 0.9  # inches


def as_paths(images: Any) -> list[Path]:
    """Return paths where `images` is one or a list of them, an empty list for anything else."""
    if isinstance(images, (str, os.PathLike)):
        return [Path(images)]
    if isinstance(images, (list, tuple)) and images and all(isinstance(one, (str, os.PathLike)) for one in images):
        return [Path(one) for one in images]
    return []


def read_pictures(paths: Sequence[Path], image_size: int) -> Tensor:
    """Decode DICOM, PNG or JPEG files as the ingest does: (N, 1, S, S) float32 in [0, 1], air dark and bone bright.

    Raises:
        IngestError: a file cannot be decoded; the message gives the reason.
        ArgumentError: no such file.
    """
    from medidistill.ingest.transforms import Loader  # MONAI takes seconds to load

    loader = Loader(image_size, "memory", None)
    read = []
    for path in paths:
        if not path.is_file():
            raise ArgumentError("images", f"{str(path)!r}", "the path of a file that exists, or an array")
        with translate_os_errors(path):
            item = loader(str(path.resolve()), sha256_file(path))
        read.append(torch.as_tensor(item["image"]).float())
    return torch.stack(read)


def contact_sheet(distilled: DistilledSet, most: int) -> Figure:
    """Draw up to `most` images of each class, one row a class."""
    require_extra("export", "a contact sheet", "matplotlib")
    from medidistill.export.notebook_figure import NotebookFigure

    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ArgumentError("most", repr(most), "a whole number >= 1")
    display = distilled.normalisation.to_display(distilled.images.detach().cpu())
    rows = [torch.nonzero(distilled.labels.cpu() == k).flatten()[:most].tolist() for k in range(distilled.num_classes)]
    columns = max(1, *map(len, rows))
    figure = NotebookFigure(figsize=(_CELL * columns + 1.6, _CELL * len(rows) + 0.2), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for name, members, line in zip(distilled.class_names, rows, axes, strict=True):
        for place, one in enumerate(line):
            one.set(xticks=[], yticks=[])
            one.set_frame_on(False)
            if place < len(members):
                pixels = display[members[place]].permute(1, 2, 0).numpy()
                one.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
        line[0].set_ylabel(name[:24], rotation=0, ha="right", va="center", fontsize=8)
    return figure
