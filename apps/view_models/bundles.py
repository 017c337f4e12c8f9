"""Bundles: what one holds, whether it is whole, as a file to carry, and how one of another hospital comes in."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medidistill.distilled_set import DistilledSet
from medidistill.errors import IngestError
from medidistill.export import examine, load
from medidistill.files import read_json, sha256_file
from medidistill.ingest.sources import archive
from view_models.places import Places, free_folder

__all__ = ["BundleView", "find_bundles", "read_bundle", "receive", "unpack", "zipped"]

_LIMITS = archive.ArchiveLimits(files=10_000, size=2_000_000_000, ratio=200, free=1_000_000)


@dataclass(frozen=True)
class BundleView:
    """One bundle.

    Args:
        path: its folder.
        problems: what is not as it was written; empty where the bundle is whole.
        notes: what was not checked.
        recipe: `recipe.json`.
        card: `README.md` without the lines for machines.
        files: name and size of every file.
        distilled: the set; None where it cannot be read.
        error: why it cannot be read.
    """

    path: Path
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    recipe: dict[str, Any]
    card: str
    files: pd.DataFrame
    distilled: DistilledSet | None
    error: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the list of checksums: tells this bundle from every other, over the telephone too."""
        sums = self.path / "SHA256SUMS"
        return sha256_file(sums) if sums.is_file() else ""


def read_bundle(path: Path) -> BundleView:
    """Read a bundle and check it; a damaged one is described as far as it can be."""
    try:
        distilled, error = load(path), ""
    except IngestError as problem:
        distilled, error = None, str(problem)
    try:
        told = read_json(path / "recipe.json")
    except IngestError:
        told = {}
    recipe = told if isinstance(told, dict) else {}  # untrusted input; the check says what is wrong with it
    card = path / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    found = examine(path)
    problems = tuple(problem.replace(f"{path}/", "").replace(f"{path}: ", "") for problem in found.problems)
    files = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
    table = pd.DataFrame(
        [{"file": one.relative_to(path).as_posix(), "kB": round(one.stat().st_size / 1000, 1)} for one in files],
        columns=["file", "kB"],
    )
    return BundleView(path, problems, found.notes, recipe, _without_front_matter(text), table, distilled, error)


def _without_front_matter(text: str) -> str:
    if text.startswith("---\n"):
        return text[4:].partition("\n---\n")[2]
    return text


def zipped(path: Path) -> bytes:
    """Return the bundle as a ZIP archive; the same bundle gives the same bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink()):
            name = f"{path.name}/{file.relative_to(path).as_posix()}"
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            packed.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def unpack(data: bytes, target: Path) -> Path:
    """Unpack an archive into the new folder `target`, as a run unpacks one; return the folder that holds the files.

    Raises:
        IngestError: no readable ZIP archive, or one whose entries lead out of the folder, are links, or are too many or
            large.
        ResourceError: the folder cannot be written.
    """
    found = archive.unpack(io.BytesIO(data), target, name="the archive", limits=_LIMITS)
    inner = list(target.iterdir())
    if not inner:
        shutil.rmtree(target, ignore_errors=True)
        raise IngestError("the archive is empty")
    if found.refused:
        shutil.rmtree(target, ignore_errors=True)
        raise IngestError(f"the archive: {len(found.refused)} names in it are longer than the file system allows")
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else target


def find_bundles(places: Places) -> list[Path]:
    """Return the bundles that came from others, newest first."""
    found = places.received.glob("*/**/distilled.safetensors") if places.received.is_dir() else []
    folders = {file.parent for file in found if not file.is_symlink()}
    return sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)


def receive(places: Places, name: str, data: bytes) -> Path:
    """Unpack an uploaded bundle into a folder of its own below `received`; return the bundle."""
    return unpack(data, free_folder(places.received, Path(name).stem or "bundle"))
