"""Write, read and check a bundle.

A bundle appears whole or not at all: it is written into a hidden folder beside its target, which is
renamed at the end. `SHA256SUMS` lists every other file and can be checked by `sha256sum -c` too.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, IngestError
from medidistill.export.card import card_text
from medidistill.export.copies import npz_bytes, write_pictures
from medidistill.export.recipe import make_recipe
from medidistill.files import sha256_file, translate_os_errors, write_bytes, write_json, write_text
from medidistill.record import RunRecord

__all__ = ["load", "verify", "write_bundle"]

_SET = "distilled.safetensors"
_SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_bundle(
    distilled: DistilledSet,
    folder: Path,
    *,
    name: str,
    record: RunRecord,
    comparison: Mapping[str, Any] | None,
    notice: str,
) -> Path:
    """Write the bundle of a distilled set.

    Args:
        distilled: the set; its recipe must say `method` and `init`.
        folder: where the bundle will be; must not exist.
        name: title of the card, and in plain letters the name of the npz file.
        record: the run that made the set; versions and digests go into the bundle, paths and commands do not.
        comparison: `Comparison.to_dict()`, shown in the card; None where nothing was evaluated.
        notice: a caution printed beside the figures.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder exists, or the set does not say how it was made.
        ResourceError: it cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise ConfigError(f"{folder}: exists; a bundle is never overwritten: name a new folder or remove this one")
    recipe = make_recipe(distilled, name, record)
    with translate_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        try:
            distilled.save(partial / _SET)
            write_json(partial / "recipe.json", recipe)
            write_pictures(distilled, partial / "png")
            npz_name = f"{_plain(name)}.npz"
            write_bytes(partial / npz_name, npz_bytes(distilled))
            write_text(partial / "README.md", card_text(recipe, npz_name, comparison, notice))
            write_text(partial / _SUMS, _sums(partial))
            partial.chmod(0o755)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return folder


def load(path: Path | str) -> DistilledSet:
    """Read the distilled set of a bundle, or of a single `distilled.safetensors`.

    Args:
        path: a bundle folder or a file written by `DistilledSet.save`.

    Raises:
        IngestError: nothing to read there, or the file is not the one that the bundle's checksums describe.
    """
    path = Path(path)
    if not path.is_dir():
        return DistilledSet.load(path)
    if not (path / _SET).is_file():
        raise IngestError(f"{path}: not a bundle, it holds no {_SET}; name the folder that `medidistill export` wrote")
    expected = _listed(path).get(_SET)
    if expected is not None and expected != sha256_file(path / _SET):
        raise IngestError(f"{path / _SET}: differs from {_SUMS}; the file was changed or damaged, fetch it again")
    return DistilledSet.load(path / _SET)


def verify(path: Path | str) -> list[str]:
    """Compare a bundle with its checksums.

    Returns:
        One line for each missing, changed or extra file; an empty list when the bundle is as it was written.
    """
    path = Path(path)
    if not (path / _SUMS).is_file():
        return [f"{path}: no {_SUMS}, so nothing can be checked; this is not a whole bundle"]
    expected = _listed(path)
    if not expected:
        return [f"{_SUMS}: lists no file"]
    found = {one.relative_to(path).as_posix(): one for one in path.rglob("*") if one.is_symlink() or not one.is_dir()}
    found.pop(_SUMS, None)
    problems = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problems.append(f"{name}: missing")
        elif name not in expected:
            problems.append(f"{name}: extra, not listed in {_SUMS}")
        elif found[name].is_symlink() or not found[name].is_file():
            problems.append(f"{name}: changed, not a plain file any more")
        elif sha256_file(found[name]) != expected[name]:
            problems.append(f"{name}: changed")
    return problems


def _listed(folder: Path) -> dict[str, str]:
    """Return file name -> SHA-256 as `SHA256SUMS` states them; lines that say anything else do not count."""
    try:
        lines = (folder / _SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return {match[2]: match[1] for line in lines if (match := _LINE.fullmatch(line))}


def _sums(folder: Path) -> str:
    files = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())
    return "".join(f"{sha256_file(folder / name)}  {name}\n" for name in files)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "distilled"
