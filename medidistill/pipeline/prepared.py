"""The prepared real images of a run, kept so that later stages do not read the files again.

This folder holds patients' pixels and identifiers. It never leaves with a bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from medidistill.config import as_dict
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.errors import IngestError
from medidistill.files import load_tensors, private_folder, save_tensors
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # the header of a tensor file
from medidistill.scratch import mapped

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["PreparedData", "load_split", "private_folder", "save_split"]

_SPLITS = ("train", "val", "test")
_TENSORS = ("images", "labels")


def save_split(
    path: Path, images: LabelledImages, header: ReadOnlyJsonObject, more: Mapping[str, Tensor] | None = None
) -> None:
    """Write the images of a split with all that is known of them, readable by its owner only."""
    names = {name: value for name, value in vars(images).items() if name not in _TENSORS}
    tensors = {name: getattr(images, name) for name in _TENSORS} | dict(more or {})
    save_tensors(path, tensors, {"kind": "prepared_split", **names, **header}, mode=0o600)


def load_split(path: Path) -> tuple[LabelledImages, JsonObject, dict[str, Tensor]]:
    """Read what `save_split` wrote: images, header, tensors. Raises `IngestError` when it is missing or damaged."""
    tensors, header = load_tensors(path)
    names: JsonObject = {
        one.name: tuple(header.get(one.name, ())) for one in fields(LabelledImages) if one.name not in _TENSORS
    }
    return LabelledImages(images=tensors["images"], labels=tensors["labels"], **names), header, tensors


@dataclass(frozen=True)
class PreparedData:
    """The three splits with what turns their intensities into network input.

    Args:
        train: images in [0, 1] that experts and baselines learn from.
        val: images that every choice is made on.
        test: images that are scored once.
        normalisation: intensities to network input.
        digest: of the images and labels; names the data in every later digest.
        folder: private, where normalised images lie that are too large for memory; None: memory, whatever their size.
    """

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    normalisation: Normalisation
    digest: str
    folder: Path | None = None

    @property
    def num_images(self) -> int:
        """Images of all splits."""
        return len(self.train) + len(self.val) + len(self.test)

    def training_tensors(self) -> tuple[Tensor, Tensor]:
        """Return the training images as networks see them, (N, C, H, W), and their labels, (N,) int64."""
        return self.normalised(self.train.images), self.train.labels

    def normalised(self, images: Tensor, by: Normalisation | None = None) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] as networks see them; `by`: another normalisation than the data's."""
        return mapped((by or self.normalisation).apply, images, self.folder)

    @classmethod
    def write(cls, result: IngestResult, folder: Path) -> PreparedData:
        """Keep what `ingest` returned in `folder`: one tensor file a split, manifest and quarantine list."""
        cls(result.train, result.val, result.test, result.normalisation, result.digest).save(folder)
        result.write_tables(folder)
        return cls.read(folder)

    def save(self, folder: Path) -> None:
        """Keep the splits in `folder`, one tensor file each."""
        private_folder(folder)
        for split in _SPLITS:
            header = {"digest": self.digest, "normalisation": as_dict(self.normalisation)}
            more = self.normalisation.tensors() if split == "train" else {}
            save_split(folder / f"{split}.safetensors", getattr(self, split), header, more)

    @classmethod
    def read(cls, folder: Path) -> PreparedData:
        """Read what `write` kept. Raises `IngestError` when it is missing, damaged or mixed."""
        splits, headers = [], []
        kept: dict[str, Tensor] = {}
        for split in _SPLITS:
            images, header, tensors = load_split(folder / f"{split}.safetensors")
            splits.append(images)
            headers.append(header)
            kept |= tensors
        if len({header["digest"] for header in headers}) != 1:
            raise IngestError(f"{folder}: splits of different input; delete the folder and run again with --resume")
        train, val, test = splits
        return cls(
            train,
            val,
            test,
            Normalisation.read(headers[0]["normalisation"], kept, folder),
            headers[0]["digest"],
            folder,
        )
