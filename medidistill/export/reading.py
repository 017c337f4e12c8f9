"""Read a bundle and train from it. Needs torch and safetensors alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, IngestError
from medidistill.export.sums import SUMS, file_digest, listed, read_small
from medidistill.networks import predict, train_on_distilled

__all__ = ["SET", "Bundle", "load", "read_recipe", "read_set"]

SET = "distilled.safetensors"


@dataclass(frozen=True)
class Bundle(DistilledSet):
    """A distilled set as `load` returns it: ready to train from.

    Args:
        facts: `recipe.json` of the bundle; empty where a single tensor file was read.

    Example:
        >>> network = medidistill.load("bundle").train()  # doctest: +SKIP
    """

    facts: Mapping[str, Any] = field(default_factory=dict)

    def train(self, network: nn.Module | None = None, *, seed: int = 0) -> nn.Module:
        """Train a network by the recipe of this set and return it.

        Args:
            network: from (N, C, H, W) to (N, classes); a fresh one of the recipe's architecture where None.
            seed: of initial weights, batches and augmentation.
        """
        return train_on_distilled(self, network, seed)

    def predict(self, network: nn.Module, images: Tensor) -> Tensor:
        """Return probabilities (N, classes) for real images (N, C, H, W) in [0, 1], of the size of this set's."""
        shape = tuple(self.images.shape[1:])
        if images.ndim != 4 or tuple(images.shape[1:]) != shape:
            raise ConfigError(f"images {tuple(images.shape)}: must be (N, {', '.join(map(str, shape))}) in [0, 1]")
        return predict(network, self.normalisation.apply(images))


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
    except IngestError:
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
        recipe = json.loads(read_small(folder / "recipe.json").decode("utf-8"), parse_constant=_no_constant)
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
