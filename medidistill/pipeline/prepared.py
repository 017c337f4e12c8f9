"""The prepared real images of a run, kept so that later stages do not read the files again.

This folder holds patients' pixels and identifiers: mode 0700, files 0600. It never leaves with a bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from medidistill.config import as_dict
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.errors import IngestError
from medidistill.files import load_tensors, save_tensors, translate_os_errors

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["Prepared", "private_folder"]

_SPLITS = ("train", "val", "test")
_NAMES = ("class_names", "patient_ids", "keys", "sites", "sexes", "ages")


def private_folder(path: Path) -> Path:
    """Create `path` readable by its owner only, and return it. Raises `ResourceError`."""
    with translate_os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
    return path


@dataclass(frozen=True)
class Prepared:
    """The three splits with what turns their intensities into network input.

    Args:
        train: images in [0, 1] that experts and baselines learn from.
        val: images that every choice is made on.
        test: images that are scored once.
        normalisation: intensities to network input.
        digest: of the images and labels; names the data in every later digest.
    """

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    normalisation: Normalisation
    digest: str

    @classmethod
    def write(cls, result: IngestResult, folder: Path) -> Prepared:
        """Keep what `ingest` returned in `folder`: one tensor file a split, manifest and quarantine list."""
        private_folder(folder)
        for split in _SPLITS:
            images: LabelledImages = getattr(result, split)
            header = {
                "kind": "prepared_split",
                "digest": result.digest,
                "normalisation": as_dict(result.normalisation),
                "class_names": images.class_names,
                "patient_ids": images.patient_ids,
                "keys": images.keys,
                "sites": images.sites,
                "sexes": images.sexes,
                "ages": images.ages,
            }
            tensors = {"images": images.images, "labels": images.labels}
            if split == "train":
                tensors |= result.normalisation.tensors()
            save_tensors(folder / f"{split}.safetensors", tensors, header, mode=0o600)
        result.write_tables(folder)
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Prepared:
        """Read what `write` kept. Raises `IngestError` when it is missing, damaged or mixed."""
        splits, headers = [], []
        kept: dict[str, Tensor] = {}
        for split in _SPLITS:
            tensors, header = load_tensors(folder / f"{split}.safetensors")
            names = {key: tuple(header.get(key, ())) for key in _NAMES}  # folders of older versions hold fewer
            splits.append(LabelledImages(tensors["images"], tensors["labels"], **names))
            headers.append(header)
            kept |= tensors
        if len({header["digest"] for header in headers}) != 1:
            raise IngestError(f"{folder}: splits of different input; delete the folder and run again with --resume")
        train, val, test = splits
        return cls(
            train, val, test, Normalisation.read(headers[0]["normalisation"], kept, folder), headers[0]["digest"]
        )
