"""Put distilled sets of several hospitals together, or say exactly why they do not go together.

Normalisation, network and image shape must agree. Classes must, too, unless a `ClassMapping` says how the vocabulary
of each hospital translates: names may differ, several classes of one hospital may be one of the merged set, and a
class may be left out or be known to one hospital alone. Nothing is matched by guessing.

The training is that of the part with the most images; nothing was tuned on the merged set, and the card says so.
Importance weights stay behind: they belong to one distillation each and training does not use them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
from medidistill.hashing import tensor_sha256
from medidistill.jsontypes import JsonObject  # recipes of any version

__all__ = ["ClassMapping", "Part", "merge_sets", "one_sided_classes", "read_part", "sources_of"]


@dataclass(frozen=True)
class ClassMapping:
    """How the classes of one bundle translate into those of the merged set.

    Args:
        classes: names of the merged set, in label order.
        targets: class of the bundle -> class of the merged set, or None to leave its images out. A class that is not
            mentioned keeps its name.

    Raises:
        ConfigError: fewer than two classes, a name twice, or a target that is none of them.
    """

    classes: tuple[str, ...]
    targets: Mapping[str, str | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise ConfigError(f"classes {', '.join(self.classes)}: must be at least two different names")
        for name, target in self.targets.items():
            if target is not None and target not in self.classes:
                guess = did_you_mean(target, self.classes)
                raise ConfigError(
                    f"class {name!r} is mapped to {target!r}, which is not one of {', '.join(self.classes)}{guess}; "
                    "add it to `classes`, or map to null to leave its images out"
                )

    def resolve(self, names: Sequence[str], where: str) -> dict[str, str | None]:
        """Return the target of each of `names`, the classes of a bundle.

        Args:
            names: classes of the bundle.
            where: the bundle, for messages.

        Raises:
            ConfigError: a class that is mapped but not there, one that is there but not mapped, or all left out.
        """
        for name in self.targets:
            if name not in names:
                raise ConfigError(
                    f"{where}: has no class {name!r}{did_you_mean(name, names)}; its classes: {', '.join(names)}"
                )
        found = {name: self.targets.get(name, name) for name in names}
        for name, target in found.items():
            if target is not None and target not in self.classes:
                raise ConfigError(
                    f"{where}: class {name!r} is not mapped and none of {', '.join(self.classes)}; map it to one of "
                    "them, or to null to leave its images out"
                )
        if not any(found.values()):
            raise ConfigError(f"{where}: every class is left out; leave the bundle out instead")
        return found


@dataclass(frozen=True)
class Part:
    """One bundle to be merged.

    Args:
        name: its folder's name as the user gave it, for messages.
        bundle: the set, its classes renamed or translated as asked.
        sha256sums: SHA-256 of its `SHA256SUMS`, which names every byte of it.
        translated: class of the bundle -> class of the merged set (None: left out), where that differs.
    """

    name: str
    bundle: Bundle
    sha256sums: str
    translated: Mapping[str, str | None] = field(default_factory=dict)

    def provenance(self) -> JsonObject:
        """Return what the merged bundle keeps of this one."""
        kept = {"name": self.bundle.facts["name"], "sha256sums": self.sha256sums, "recipe": dict(self.bundle.facts)}
        return {**kept, "classes": dict(self.translated)} if self.translated else kept


def read_part(path: Path, rename: Mapping[str, str] | None = None, mapping: ClassMapping | None = None) -> Part:
    """Verify a bundle and read it.

    Args:
        path: the bundle.
        rename: old class name -> new class name; names that this bundle does not have are left alone.
        mapping: into the classes of the merged set; instead of `rename`.

    Raises:
        IngestError: it does not verify.
        ConfigError: `rename` gives two of its classes one name, or `mapping` does not fit its classes.
    """
    require_verified(path)
    bundle, digest = load(path), sha256_file(Path(path) / SUMS)
    if mapping is not None:
        targets = mapping.resolve(bundle.class_names, str(path))
        changed = {name: target for name, target in targets.items() if name != target}
        return Part(str(path), _translate(bundle, mapping.classes, targets, str(path)), digest, changed)
    names = tuple((rename or {}).get(name, name) for name in bundle.class_names)
    if len(set(names)) < len(names):
        raise ConfigError(
            f"{path}: --rename gives two classes one name ({', '.join(names)}); keep them apart, or join them on "
            "purpose with a mapping file (--classes)"
        )
    changed = {old: new for old, new in zip(bundle.class_names, names, strict=True) if old != new}
    return Part(str(path), dataclasses.replace(bundle, class_names=names), digest, changed)


def _translate(bundle: Bundle, classes: tuple[str, ...], targets: Mapping[str, str | None], where: str) -> Bundle:
    """Return the bundle with the classes of the merged set: labels translated, left-out images removed."""
    places = [-1 if target is None else classes.index(target) for target in targets.values()]
    labels = torch.tensor(places, dtype=torch.int64)[bundle.labels]
    kept = labels >= 0
    soft = bundle.soft_labels
    if soft is not None:
        columns = torch.zeros(len(soft), len(classes), dtype=soft.dtype)
        for column, place in enumerate(places):
            if place >= 0:
                columns[:, place] += soft[:, column]
        soft = columns[kept]
        mass = soft.sum(1, keepdim=True)
        if bool((mass <= 0).any()):
            raise ConfigError(
                f"{where}: the learned labels of {int((mass <= 0).sum())} images lie on left-out classes alone; map "
                "these classes instead of leaving them out"
            )
        soft = soft / mass
    return dataclasses.replace(
        bundle,
        images=bundle.images[kept],
        packed=None,  # what is merged is written as it decodes
        labels=labels[kept],
        soft_labels=soft,
        class_names=classes,
        importance={},
    )


def one_sided_classes(parts: Sequence[Part]) -> dict[str, str]:
    """Return each class of which one part alone has images, with the name of that part.

    A network can tell such a class by anything that sets the hospital apart.
    """
    owners: dict[str, list[str]] = {name: [] for name in parts[0].bundle.class_names}
    for part in parts:
        for label in sorted(set(part.bundle.labels.tolist())):
            owners[part.bundle.class_names[label]].append(str(part.bundle.facts["name"]))
    return {name: found[0] for name, found in owners.items() if len(found) == 1}


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
        content = tensor_sha256(part.bundle.images)
        if content in seen:
            raise ConfigError(f"{part.name}: holds the same images as {seen[content]}; name each set once")
        seen[content] = part.name
    largest = max((part.bundle for part in parts), key=len)
    names = first.bundle.class_names
    empty = set(range(len(names))) - {int(k) for part in parts for k in _labels(part.bundle, names)}
    if empty:
        raise ConfigError(f"no image of class {', '.join(names[k] for k in sorted(empty))} in any bundle; remove it")
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
            f"{', '.join(extra) or 'none'} more{guess}; where names alone differ, give --rename OLD=NEW, else a "
            "mapping file (--classes FILE)"
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
