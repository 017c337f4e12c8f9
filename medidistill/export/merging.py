"""Put distilled sets of several hospitals together, or say exactly why they do not go together.

Classes, normalisation, network and image shape must agree. The training is that of the part with the most images;
nothing was tuned on the merged set, and the card says so. Importance weights stay behind: they belong to one
distillation each and training does not use them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from medidistill.config import SourceConfig, as_dict
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, IngestError, did_you_mean
from medidistill.export.reading import Bundle, load
from medidistill.export.sums import SUMS
from medidistill.export.verifying import require_verified
from medidistill.files import sha256_file

__all__ = ["Part", "merge_sets", "read_part", "sources_of"]


@dataclass(frozen=True)
class Part:
    """One bundle to be merged.

    Args:
        name: its folder's name as the user gave it, for messages.
        bundle: the set, its classes renamed as asked.
        sha256sums: SHA-256 of its `SHA256SUMS`, which names every byte of it.
    """

    name: str
    bundle: Bundle
    sha256sums: str

    def provenance(self) -> dict[str, Any]:
        """Return what the merged bundle keeps of this one."""
        return {"name": self.bundle.facts["name"], "sha256sums": self.sha256sums, "recipe": dict(self.bundle.facts)}


def read_part(path: Path, rename: Mapping[str, str] | None = None) -> Part:
    """Verify a bundle and read it.

    Args:
        path: the bundle.
        rename: old class name -> new class name; names that this bundle does not have are left alone.

    Raises:
        IngestError: it does not verify.
        ConfigError: two of its classes would get the same name.
    """
    require_verified(path)
    bundle = load(path)
    names = tuple((rename or {}).get(name, name) for name in bundle.class_names)
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: --rename gives two classes one name ({', '.join(names)}); keep them apart")
    return Part(str(path), dataclasses.replace(bundle, class_names=names), sha256_file(Path(path) / SUMS))


def merge_sets(parts: Sequence[Part]) -> DistilledSet:
    """Return one set with the images of all parts, classes in the order of the first.

    Raises:
        ConfigError: fewer than two parts, the same set twice, or parts that do not go together; what differs is named.
    """
    if len(parts) < 2:
        raise ConfigError(f"{len(parts)} bundle: merging needs at least two")
    first = parts[0]
    seen: dict[str, str] = {}
    for part in parts:
        _check(first, part)
        content = hashlib.sha256(part.bundle.images.contiguous().numpy().tobytes()).hexdigest()
        if content in seen:
            raise ConfigError(f"{part.name}: holds the same images as {seen[content]}; name each set once")
        seen[content] = part.name
    largest = max((part.bundle for part in parts), key=len)
    names = first.bundle.class_names
    soft = any(part.bundle.soft_labels is not None for part in parts)
    starts = sorted({str(part.bundle.recipe["init"]) for part in parts})
    ways = sorted({str(part.bundle.recipe["method"]) for part in parts})
    return DistilledSet(
        images=torch.cat([part.bundle.images for part in parts]),
        labels=torch.cat([_labels(part.bundle, names) for part in parts]),
        soft_labels=torch.cat([_soft(part.bundle, names) for part in parts]) if soft else None,
        alpha=largest.alpha,
        class_names=names,
        normalisation=first.bundle.normalisation,
        network=first.bundle.network,
        training=largest.training,
        recipe={
            "method": ways[0] if len(ways) == 1 else "merged",
            # one part that began as real X-rays is enough to handle the whole as such
            "init": "real" if "real" in starts else starts[0] if len(starts) == 1 else ", ".join(starts),
            "merged": len(parts),
        },
    )


def sources_of(parts: Sequence[Part]) -> tuple[SourceConfig, ...]:
    """Return the sources of all parts, each once. Raises `IngestError` when a recipe lists something else."""
    found: dict[SourceConfig, None] = {}
    for part in parts:
        rows = part.bundle.facts.get("sources") or [{"name": f"bundle {part.bundle.facts['name']} (no source named)"}]
        try:
            found.update(dict.fromkeys(SourceConfig(**row) for row in rows))
        except (TypeError, ConfigError) as error:
            raise IngestError(f"{part.name}: its sources cannot be read ({error})") from error
    return tuple(found)


def _check(first: Part, part: Part) -> None:
    """Refuse a part that does not go with the first one."""
    ours, theirs = first.bundle, part.bundle
    missing = [name for name in ours.class_names if name not in theirs.class_names]
    extra = [name for name in theirs.class_names if name not in ours.class_names]
    if missing or extra:
        guess = did_you_mean(extra[0], missing) if extra and missing else ""
        raise ConfigError(
            f"{part.name}: other classes than {first.name}: {', '.join(missing) or 'none'} missing, "
            f"{', '.join(extra) or 'none'} more{guess}; where names alone differ, give --rename OLD=NEW"
        )
    for what, a, b in (
        ("image shape", list(ours.images.shape[1:]), list(theirs.images.shape[1:])),
        ("normalisation", ours.normalisation.plain(), theirs.normalisation.plain()),
        ("network", as_dict(ours.network), as_dict(theirs.network)),
    ):
        if a != b:
            raise ConfigError(
                f"{part.name}: {what} {b} differs from {a} of {first.name}; only sets made with the same can be merged"
            )


def _labels(bundle: Bundle, names: Sequence[str]) -> Tensor:
    """Return the labels as indices into `names`."""
    return torch.tensor([names.index(name) for name in bundle.class_names], dtype=torch.int64)[bundle.labels]


def _soft(bundle: Bundle, names: Sequence[str]) -> Tensor:
    """Return probabilities with columns in the order of `names`."""
    if bundle.soft_labels is None:
        return one_hot(_labels(bundle, names), len(names)).float()
    return bundle.soft_labels[:, [bundle.class_names.index(name) for name in names]]
