"""`recipe.json`: everything but the pixels, for programs that know nothing of medidistill; its versioned schema.

Format 2 added the evaluation, the sources with their licence, and the privacy section; format 3 added how the images
are stored (`storage`) and the optimiser, and may hold a `verdict`, which bundles of earlier versions lack. Bundles of
older formats are read and checked by their own schema. Nothing without these sections is written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from medidistill.config import SourceConfig, as_dict, combine, digest
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.extras import require_extra
from medidistill.jsontypes import (  # recipes; their type is the JSON Schema of each format
    JsonObject,
    ReadOnlyJsonObject,
)
from medidistill.networks.convnet import default_depth
from medidistill.record import RunRecord
from medidistill.results.bundle import BundleEvaluation
from medidistill.results.comparison import Comparison
from medidistill.results.privacy_section import NOT_AUDITED, PrivacySection
from medidistill.results.serialise import json_object
from medidistill.results.verdict import Verdict
from medidistill.spectral_images import SpectralImages

__all__ = ["BUNDLE_FORMAT", "STORAGE_FORMAT", "describe_set", "make_recipe", "schema_problems", "steps_behind"]

BUNDLE_FORMAT = 4  # the newest that is read; what has no amplitudes is still written as the one before
STORAGE_FORMAT = 3  # the first that states how images are stored


def make_recipe(
    distilled: DistilledSet,
    name: str,
    record: RunRecord,
    *,
    comparison: Comparison | None = None,
    verdict: Verdict | None = None,
    notice: str = "",
    sources: Sequence[SourceConfig] = (),
    privacy: PrivacySection | None = None,
    merged_from: Sequence[ReadOnlyJsonObject] = (),
) -> JsonObject:
    """Describe a distilled set: how to train from it, how it was made, with what, what it is worth, what it may leak.

    Of the record only versions, digests and the date are taken: commands, paths and hardware stay where the run was.

    Raises:
        ConfigError: the set does not say how it was made, the licences of its sources do not go together, or the
            result does not fit the schema.
    """
    for key in ("method", "init"):
        if not distilled.recipe.get(key):
            raise ConfigError(
                f"the distilled set does not state its {key!r}; a bundle without provenance is not written: "
                "export a set that `medidistill distill` made"
            )
    recipe = {
        "kind": "medidistill_bundle",
        "format": BUNDLE_FORMAT if isinstance(distilled.packed, SpectralImages) else STORAGE_FORMAT,
        "name": name,
        "created": record.started[:10],
        **describe_set(distilled),
        "method": distilled.recipe["method"],
        "init": distilled.recipe["init"],
        "distillation": dict(distilled.recipe),
        "evaluation": None if comparison is None else json_object(BundleEvaluation.of(comparison)),
        "verdict": None if verdict is None else verdict.to_dict(),
        "notice": notice.strip(),
        "sources": [as_dict(source) for source in sources],
        "licence": as_dict(combine(sources)),
        "privacy": json_object(NOT_AUDITED if privacy is None else privacy),
        "merged_from": [dict(part) for part in merged_from],
        "versions": dict(record.versions),
        "digests": {
            "config": digest(record.config),
            "stages": {stage: facts["inputs"] for stage, facts in record.stages.items() if "inputs" in facts},
        },
    }
    problems = schema_problems(recipe)
    if problems:
        raise ConfigError(f"the bundle is not written, its recipe would not fit the schema: {'; '.join(problems)}")
    return recipe


def describe_set(distilled: DistilledSet) -> JsonObject:
    """Return what the recipe repeats of the tensor file, so that each can be checked against the other."""
    count, channels, side, _ = distilled.images.shape
    architecture = as_dict(distilled.network) | {
        "depth": distilled.network.depth or default_depth(side),
        "channels": channels,
        "image_size": side,
        "num_classes": distilled.num_classes,
    }
    return {
        "classes": list(distilled.class_names),
        "images": count,
        "labels": "hard" if distilled.soft_labels is None else "soft",
        "storage": {
            **({} if distilled.packed is None else distilled.packed.header()),
            "packed": distilled.packed is not None,
            **({"label_bits": distilled.label_bits} if 0 < distilled.label_bits < 32 else {}),
            "bytes": distilled.stored_bytes,
        },
        "alpha": distilled.alpha,
        "normalisation": distilled.normalisation.plain(),
        "architecture": architecture,
        "training": as_dict(distilled.training),
    }


@cache
def _schema(number: int) -> Any:
    text = resources.files("medidistill.export").joinpath(f"schema/recipe-{number}.json").read_text(encoding="utf-8")
    return json.loads(text)


def schema_problems(recipe: Any) -> list[str]:
    """Return one line for each place where a recipe departs from the schema of the format that it states."""
    require_extra("export", "checking a bundle", "jsonschema")
    from jsonschema import Draft202012Validator  # reading a set for training does without it

    number = recipe.get("format") if isinstance(recipe, dict) else None
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        return [f"recipe.json: states no format, found {number!r}"]
    if number > BUNDLE_FORMAT:
        return [f"recipe.json: format {number} is newer than {BUNDLE_FORMAT}; upgrade medidistill"]
    found = Draft202012Validator(_schema(number)).iter_errors(recipe)
    return sorted(f"recipe.json: {error.json_path}: {error.message[:200]}" for error in found)


def steps_behind(recipe: ReadOnlyJsonObject) -> int | None:
    """Return the outer steps behind a set's images; None where others came before them, or none are stated.

    Args:
        recipe: of a set, as its distillation wrote it.
    """
    settings = recipe.get("distill", {})
    began_elsewhere = settings.get("start_from") or settings.get("coarse", 1) > 1
    return None if began_elsewhere else recipe.get("outer_step")
