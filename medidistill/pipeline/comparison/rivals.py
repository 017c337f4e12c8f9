"""Bundles from elsewhere as arms: verified, of this run's size, their class names brought into this run's order."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from medidistill.config import RunConfig
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, IngestError
from medidistill.export import load, verify

__all__ = ["rivals", "with_class_names"]


def rivals(config: RunConfig, class_names: Sequence[str], channels: int = 1) -> dict[str, DistilledSet]:
    """Return the bundles of `evaluate.bundles` by the name of their arm, `bundle-` and the name of the folder.

    Args:
        config: the run.
        class_names: of this run, in label order.
        channels: of this run's images.

    Raises:
        IngestError: a folder is no bundle, or differs from its own checksums.
        ConfigError: a bundle is given twice, or its classes or image size are not those of this run.
    """
    found: dict[str, DistilledSet] = {}
    for text in config.evaluate.bundles:
        path = Path(text)
        if not path.is_dir():
            raise IngestError(f"evaluate.bundles: {path}: no such folder; name the folder of a bundle")
        problems = verify(path)
        if problems:
            raise IngestError(
                f"evaluate.bundles: {path}: not as it was written ({'; '.join(problems[:3])}); fetch it again"
            )
        name = _arm_name(path, found)
        bundle = with_class_names(load(path), class_names, path)
        size = config.ingest.image_size
        if tuple(bundle.images.shape[1:]) != (channels, size, size):
            _, has, rows, columns = bundle.images.shape
            raise ConfigError(
                f"evaluate.bundles: {path}: its images are {has} x {rows} x {columns}, those of this run "
                f"{channels} x {size} x {size}; set ingest.image_size={rows}"
            )
        found[name] = bundle
    return found


def _arm_name(path: Path, taken: dict[str, DistilledSet]) -> str:
    """Return a name of the arm that is fit for a file and for a table."""
    folder = path.resolve()
    own = folder.parent.name if folder.name == "bundle" else folder.name  # a run keeps its bundle in `bundle`
    name = "bundle-" + (re.sub(r"[^A-Za-z0-9]+", "-", own).strip("-") or "unnamed")
    if name in taken:
        raise ConfigError(f"evaluate.bundles: {path}: a second bundle called {name}; rename one of the folders")
    return name


def with_class_names(distilled: DistilledSet, class_names: Sequence[str], where: Path) -> DistilledSet:
    """Return the set with its labels in the order of `class_names`.

    Names are the same where their letters and digits are, whatever their case (`covid-19`, `COVID_19`).

    Raises:
        ConfigError: one side names a class that the other does not.
    """
    ours, theirs = ([_letters(name) for name in names] for names in (class_names, distilled.class_names))
    if sorted(ours) != sorted(theirs) or len(set(ours)) < len(ours):
        raise ConfigError(
            f"evaluate.bundles: {where}: its classes are {', '.join(distilled.class_names)}, those of this run "
            f"{', '.join(class_names)}; only sets of the same classes can be compared: mend the labels of the images"
        )
    place = torch.tensor([ours.index(name) for name in theirs])
    soft = distilled.soft_labels
    return dataclasses.replace(
        distilled,
        labels=place[distilled.labels],
        soft_labels=None if soft is None else soft[:, torch.argsort(place)],
        class_names=tuple(class_names),
    )


def _letters(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
