"""Write a bundle.

It appears whole or not at all: it is written into a hidden folder beside its target, which is renamed at the end. What
was there before stays until then.
`SHA256SUMS` lists every other file. A bundle without checksums, provenance or privacy section is not written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from medidistill.config import SourceConfig
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError
from medidistill.export.card import card_text
from medidistill.export.copies import npz_bytes, write_pictures
from medidistill.export.croissant import croissant
from medidistill.export.reading import SET
from medidistill.export.recipe import make_recipe
from medidistill.export.sums import SUMS, sums_text
from medidistill.export.verifying import verify
from medidistill.files import publish_folder, translate_os_errors, write_bytes, write_json, write_text
from medidistill.jsontypes import ReadOnlyJsonObject  # recipes of any version, checked by their schema
from medidistill.record import RunRecord
from medidistill.results.comparison import Comparison
from medidistill.results.privacy_section import PrivacySection
from medidistill.results.verdict import Verdict

__all__ = ["write_bundle"]


def write_bundle(
    distilled: DistilledSet,
    folder: Path,
    *,
    name: str,
    record: RunRecord,
    comparison: Comparison | None,
    notice: str,
    verdict: Verdict | None = None,
    sources: Sequence[SourceConfig] = (),
    privacy: PrivacySection | None = None,
    merged_from: Sequence[ReadOnlyJsonObject] = (),
    replace: bool = False,
    publishing: Callable[[Path], AbstractContextManager[None]] | None = None,
) -> Path:
    """Write the bundle of a distilled set.

    Args:
        distilled: the set; its recipe must say `method` and `init`.
        folder: where the bundle will be; must not exist, unless `replace` is set.
        name: title of the card, and in plain letters the name of the npz file.
        record: the run that made the set; versions and digests go into the bundle, paths and commands do not.
        comparison: of all arms, shown in the card; None where nothing was evaluated.
        notice: a caution printed beside the figures.
        verdict: at the top of the card; None where there is none.
        sources: where the images came from, under which licences.
        privacy: what an audit found; None where no audit was made, and the card says so.
        merged_from: name, digest and recipe of each bundle that this one was put together from.
        replace: take the place of the bundle that is there.
        publishing: entered with the complete bundle, under its hidden name, before it appears under its own, and left
            after that; an error leaves it by that error, and there is no new bundle.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder exists, the set does not say how it was made, the licences of the sources do not go
            together, or a section does not fit the schema.
        ResourceError: it cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and not replace:
        raise ConfigError(f"{folder}: exists; a bundle is never overwritten: name a new folder or remove this one")
    recipe = make_recipe(
        distilled,
        name,
        record,
        comparison=comparison,
        verdict=verdict,
        notice=notice,
        sources=sources,
        privacy=privacy,
        merged_from=merged_from,
    )
    with translate_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
        try:
            _fill(partial, distilled, recipe)
            publish_folder(partial)
            with publishing(partial) if publishing is not None else nullcontext():
                replaced = _put(partial, folder, replace=replace)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    if replaced is not None:  # the release is complete: what is left over of the old bundle must not undo it
        shutil.rmtree(replaced, ignore_errors=True)
    return folder


def _put(partial: Path, folder: Path, *, replace: bool) -> Path | None:
    """Give the new bundle its name and return the place of the old one, None where there was none.

    The old bundle comes back where the new one cannot be put in place. Nothing fails after that: the caller writes down
    a release that has happened.
    """
    if not (replace and os.path.lexists(folder)):
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            taken = f"{folder}: another process has just written there; a bundle is never overwritten"
            raise ConfigError(taken) from error
        return None
    old = folder.with_name(f".{folder.name}.replaced.part")
    if os.path.lexists(old):
        shutil.rmtree(old)
    folder.rename(old)
    try:
        partial.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    return old


def _fill(folder: Path, distilled: DistilledSet, recipe: ReadOnlyJsonObject) -> None:
    from medidistill.export.dicom import dicom_files  # highdicom takes a second to load

    distilled.save(folder / SET)
    write_json(folder / "recipe.json", recipe)
    write_pictures(distilled, folder / "png")
    for file_name, data in dicom_files(distilled, recipe):
        write_bytes(folder / "dicom" / file_name, data)
    npz_name = f"{_plain(recipe['name'])}.npz"
    write_bytes(folder / npz_name, npz_bytes(distilled))
    write_json(folder / "croissant.json", croissant(recipe, folder, npz_name))
    write_text(folder / "README.md", card_text(recipe, npz_name))
    write_text(folder / SUMS, sums_text(folder))
    problems = verify(folder)
    if problems:
        raise ConfigError(f"the bundle is not written, it would not verify: {'; '.join(problems)}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100] or "distilled"
