"""Read a bundle and train from it. Needs torch and safetensors alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medidistill.config import with_settings
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ArgumentError, ConfigError, IngestError
from medidistill.export.showing import as_paths, contact_sheet, read_pictures
from medidistill.export.sums import SUMS, file_digest, listed, read_bounded
from medidistill.files import translate_os_errors
from medidistill.intensities import to_unit_range
from medidistill.networks import adapt_network, predict, train_on_distilled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SET", "Bundle", "load", "read_recipe", "read_set"]

SET = "distilled.safetensors"


@dataclass(frozen=True, repr=False)
class Bundle(DistilledSet):
    """A distilled set as `load` and `medidistill.distill` return it: ready to train from.

    Args:
        facts: `recipe.json` of the bundle; empty where a single tensor file was read.

    Example:
        >>> network = medidistill.load("bundle").train()  # doctest: +SKIP
    """

    facts: Mapping[str, Any] = field(default_factory=dict)

    def train(self, network: nn.Module | None = None, *, seed: int = 0, **recipe: Any) -> nn.Module:
        """Train a network by the recipe of this set and return it.

        Args:
            network: from (N, C, H, W) to (N, classes), trained in place; a fresh one of the recipe's architecture where
                None. A network that reads three channels sees one-channel images three times: it is then returned in a
                `medidistill.networks.RepeatChannel`.
            seed: of initial weights, batches and augmentation.
            recipe: fields of `medidistill.config.TrainingConfig` that replace those of the set, for example `steps=50`.

        Raises:
            ArgumentError: a network that does not fit images or classes.
            ConfigError: an unknown field of the recipe, or a value out of its range.
        """
        training = with_settings(self.training, recipe)
        if network is None:
            return train_on_distilled(dataclasses.replace(self, training=training), None, seed)
        _, channels, side, _ = self.images.shape
        fitted = adapt_network(network, channels=channels, image_size=side, num_classes=self.num_classes)
        return train_on_distilled(dataclasses.replace(self, training=training), fitted, seed)

    def predict(self, network: nn.Module, images: Any, *, value_range: tuple[float, float] | None = None) -> Tensor:
        """Return probabilities (N, classes), float32 on the CPU, for real images.

        Args:
            network: what `train` returned.
            images: not normalised: a tensor or array (N, C, H, W), (N, H, W) or (H, W) of this set's size, in [0, 1] or
                [0, 255] or whole numbers of up to 16 bits (`medidistill.intensities`); or the path of a DICOM, PNG or
                JPEG file, or a list of paths, which are read, cut to the central square and resized.
            value_range: (low, high) of the images, where it is not one of these.

        Raises:
            ArgumentError: another size, or values that may already be normalised.
            IngestError: a file cannot be read.
        """
        paths = as_paths(images)
        _, channels, side, _ = self.images.shape
        given = read_pictures(paths, side) if paths else to_unit_range(images, value_range).images
        if tuple(given.shape[1:]) != tuple(self.images.shape[1:]):
            raise ArgumentError(
                "images",
                f"array of shape {tuple(given.shape)}",
                f"(N, {channels}, {side}, {side}), the shape of this set",
                "resize the images, or give the paths of their files",
            )
        parameter = next(network.parameters(), self.images)
        return predict(network, self.normalisation.apply(given.to(parameter.device)))

    def write_dd_ranking(self, folder: Path | str, *, channels: int = 0) -> Path:
        """Write the tensor files that DD-Ranking is given, see `medidistill.export.dd_ranking`; return the folder.

        Args:
            folder: new.
            channels: 3 repeats one-channel images; 0: as many as the set has.
        """
        from medidistill.export.dd_ranking import write_dd_ranking

        return write_dd_ranking(self, folder, channels=channels)

    def write_monai_bundle(self, folder: Path | str, network: nn.Module | None = None, *, seed: int = 0) -> Path:
        """Write a network trained from this set as a MONAI bundle, see `medidistill.export.monai_bundle`.

        Args:
            folder: new.
            network: what `train` returned; None: one is trained by the recipe.
            seed: of that training.
        """
        from medidistill.export.monai_bundle import write_monai_bundle

        trained = self.train(seed=seed) if network is None else network
        return write_monai_bundle(self, trained, folder, name=str(self.facts.get("name", "")), facts=self.facts)

    def show(self, path: Path | str | None = None, *, most: int = 10) -> Figure:
        """Draw the images, one row for each class, and return the figure (a notebook shows it).

        Args:
            path: file to write it to (PNG, PDF, SVG); None: none.
            most: images of each class.
        """
        figure = contact_sheet(self, most)
        if path is not None:
            with translate_os_errors(Path(path)):
                figure.savefig(path)
        return figure


def load(path: Path | str) -> Bundle:
    """Read the distilled set of a bundle, or of a single `distilled.safetensors`.

    The tensors and the recipe are compared with the bundle's checksums; `verify` checks everything else too.

    Args:
        path: a bundle folder or a file written by `DistilledSet.save`.

    Raises:
        IngestError: nothing to read there, or a file is not the one that the bundle's checksums describe.
    """
    path = Path(path)
    if not path.is_dir():
        return read_set(path)
    if not (path / SET).is_file():
        raise IngestError(f"{path}: not a bundle, it holds no {SET}; name the folder that `medidistill export` wrote")
    expected, _ = listed(path)
    for name in (SET, "recipe.json"):
        if (path / name).is_symlink():
            raise IngestError(f"{path / name}: a link; a bundle holds plain files alone, fetch it again")
        if name not in expected or expected[name] != file_digest(path / name):
            raise IngestError(f"{path / name}: differs from {SUMS}; the file was changed or damaged, fetch it again")
    return read_set(path / SET, read_recipe(path))


def read_set(path: Path, facts: Mapping[str, Any] | None = None) -> Bundle:
    """Read one tensor file and check that it can be trained from. Raises `IngestError`."""
    try:
        bundle = Bundle.load(path)
    except (IngestError, ConfigError):
        raise
    except (ValueError, AttributeError, IndexError, OverflowError, RecursionError, RuntimeError) as error:
        raise IngestError(f"{path}: not a usable distilled set ({type(error).__name__}: {error})") from error
    assert isinstance(bundle, Bundle)
    problem = _unusable(bundle)
    if problem:
        raise IngestError(f"{path}: not a usable distilled set ({problem})")
    return dataclasses.replace(bundle, facts=dict(facts or {}))


def read_recipe(folder: Path) -> dict[str, Any]:
    """Return `recipe.json` of a bundle. Raises `IngestError` when it is not a JSON object."""
    try:
        recipe = json.loads(read_bounded(folder / "recipe.json").decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise IngestError(f"{folder}/recipe.json: not valid JSON ({error})") from error
    if not isinstance(recipe, dict):
        raise IngestError(f"{folder}/recipe.json: must be a JSON object")
    return recipe


def _unusable(bundle: DistilledSet) -> str:
    """Return why a set cannot be trained from, or an empty string."""
    images, labels, soft = bundle.images, bundle.labels, bundle.soft_labels
    if images.dtype != torch.float32 or images.numel() == 0 or images.shape[2] != images.shape[3]:
        return f"images {tuple(images.shape)} {images.dtype}: must be float32, square and at least one"
    if labels.dtype != torch.int64 or labels.ndim != 1:
        return f"labels {tuple(labels.shape)} {labels.dtype}: must be one int64 an image"
    if soft is not None and soft.dtype != torch.float32:
        return f"soft labels {soft.dtype}: must be float32"
    if not all(isinstance(name, str) and name for name in bundle.class_names):
        return "class names must be text"
    if len(set(bundle.class_names)) < len(bundle.class_names):
        return "a class name is there twice"
    if not isinstance(bundle.recipe, dict):
        return "its recipe is not a JSON object"
    return ""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
