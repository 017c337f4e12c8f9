"""`recipe.json`: everything but the pixels, for programs that know nothing of medidistill."""

from __future__ import annotations

from typing import Any

from medidistill.config import as_dict, digest
from medidistill.distilled_set import FORMAT, DistilledSet
from medidistill.errors import ConfigError
from medidistill.networks.convnet import default_depth
from medidistill.record import RunRecord

__all__ = ["make_recipe"]


def make_recipe(distilled: DistilledSet, name: str, record: RunRecord) -> dict[str, Any]:
    """Describe a distilled set: how to train from it, how it was made, with what.

    Of the record only versions and digests are taken: commands, paths and hardware stay where the run was.

    Raises:
        ConfigError: the set does not say by which method and from what start it was made.
    """
    for key in ("method", "init"):
        if not distilled.recipe.get(key):
            raise ConfigError(
                f"the distilled set does not state its {key!r}; a bundle without provenance is not written: "
                "export a set that `medidistill distill` made"
            )
    count, channels, side, _ = distilled.images.shape
    architecture = as_dict(distilled.network) | {
        "depth": distilled.network.depth or default_depth(side),
        "channels": channels,
        "image_size": side,
        "num_classes": distilled.num_classes,
    }
    return {
        "kind": "medidistill_bundle",
        "format": FORMAT,
        "name": name,
        "method": distilled.recipe["method"],
        "init": distilled.recipe["init"],
        "classes": list(distilled.class_names),
        "images": count,
        "labels": "hard" if distilled.soft_labels is None else "soft",
        "alpha": distilled.alpha,
        "normalisation": as_dict(distilled.normalisation),
        "architecture": architecture,
        "training": as_dict(distilled.training),
        "distillation": dict(distilled.recipe),
        "versions": dict(record.versions),
        "digests": {
            "config": digest(record.config),
            "stages": {stage: facts["inputs"] for stage, facts in record.stages.items() if "inputs" in facts},
        },
    }
