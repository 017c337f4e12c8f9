"""Check a bundle: every byte against its checksums, the signature, the recipe against its schema and the tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medidistill.errors import IngestError
from medidistill.export.reading import SET, read_recipe, read_set
from medidistill.export.recipe import STORAGE_FORMAT, describe_set, schema_problems
from medidistill.export.signing import signature_problem
from medidistill.export.sums import SUMS, folder_problems, listed
from medidistill.jsontypes import ReadOnlyJsonObject  # a recipe of any version, checked by its schema

__all__ = ["Verification", "examine", "require_verified", "verify"]

_REQUIRED = ("README.md", "croissant.json", SET, "png/metadata.csv", "recipe.json")


@dataclass(frozen=True)
class Verification:
    """What the check of a bundle found.

    Args:
        problems: one line for each thing that is not as it was written; empty: the bundle is whole.
        notes: what was not checked, or is worth knowing.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify(path: Path | str) -> list[str]:
    """Return one line for each thing in a bundle that is not as it was written; empty: the bundle is whole."""
    return list(examine(path).problems)


def examine(path: Path | str, *, public_key: Path | None = None) -> Verification:
    """Check a bundle and never change it; no file outside it is opened, whatever its lists or links say.

    Args:
        path: the bundle's folder.
        public_key: of the signer, from a source that is trusted; without it a signature is not checked.

    Raises:
        ConfigError: `public_key` is not a key.
    """
    folder = Path(path)
    if not folder.is_dir():
        return Verification((f"{folder}: no such folder",))
    try:
        expected, problems = listed(folder)
    except IngestError as error:
        return Verification((f"{error}: nothing can be checked, this is not a whole bundle",))
    problems += folder_problems(folder, expected)
    signature, note = signature_problem(folder, public_key)
    problems += [signature] if signature else []
    notes = [note] if note else []
    try:
        recipe = read_recipe(folder)
        problems += schema_problems(recipe) or _contents(folder, recipe, expected, notes)
    except IngestError as error:
        problems.append(str(error).removeprefix(f"{folder}/"))
    return Verification(tuple(dict.fromkeys(problems)), tuple(notes))


def _contents(folder: Path, recipe: ReadOnlyJsonObject, expected: Mapping[str, str], notes: list[str]) -> list[str]:
    """Return where recipe, tensors and the list of files say different things."""
    stated = describe_set(read_set(folder / SET))
    problems = [
        f"recipe.json: {key} is not what {SET} holds"
        for key, value in stated.items()
        if not _agrees(recipe.get(key), value, older=recipe["format"] < STORAGE_FORMAT)
    ]
    if recipe["format"] < STORAGE_FORMAT:
        missing = "no licence, evaluation or audit" if recipe["format"] < 2 else "not how its images are stored"
        notes.append(f"format {recipe['format']}, older than {STORAGE_FORMAT}: states {missing}")
    if recipe["format"] < 2:
        return problems
    problems += [f"{name}: not listed in {SUMS}, every bundle has it" for name in _REQUIRED if name not in expected]
    for place, ending in (("png/", ".png"), ("dicom/", ".dcm")):
        count = sum(name.startswith(place) and name.endswith(ending) for name in expected)
        if count != recipe["images"]:
            problems.append(f"{place}: {count} files for {recipe['images']} images")
    return problems


def _agrees(stated: Any, value: Any, *, older: bool) -> bool:
    """Whether the recipe states `value`; one of an older format need not name what did not exist then."""
    if older and stated is None:
        return True
    found = _plain(value)
    if older and isinstance(stated, dict) and isinstance(found, dict):
        found = {key: one for key, one in found.items() if key in stated}
    return bool(_plain(stated) == found)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def require_verified(path: Path | str, *, public_key: Path | None = None) -> None:
    """Raise `IngestError` with the first problem of a bundle that does not verify."""
    problems = examine(path, public_key=public_key).problems
    if problems:
        raise IngestError(
            f"{path}: does not verify, {len(problems)} problem(s), first: {problems[0]}; fetch it again "
            "(`medidistill verify` lists all)"
        )
