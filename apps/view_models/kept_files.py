"""What came through the browser and stays until it is deleted: uploads and received bundles."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError
from medidistill.files import translate_os_errors
from view_models.places import Places, inside
from view_models.receiving import forget_trainings

__all__ = ["Kept", "delete_kept", "list_kept"]


@dataclass(frozen=True)
class Kept:
    """One folder.

    Args:
        path: the folder.
        kind: `upload` or `bundle`.
        files: number of files.
        size: bytes.
        date: when it was last changed.
    """

    path: Path
    kind: str
    files: int
    size: int
    date: datetime.datetime


def list_kept(places: Places) -> list[Kept]:
    """Return uploads and received bundles, newest first."""
    found = []
    for kind, parent in (("upload", places.uploads), ("bundle", places.received)):
        for path in parent.iterdir() if parent.is_dir() else []:
            if not path.is_dir() or path.is_symlink() or path.name.startswith("."):
                continue
            files = [one.lstat() for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
            date = datetime.datetime.fromtimestamp(path.stat().st_mtime).astimezone()
            found.append(Kept(path, kind, len(files), sum(one.st_size for one in files), date))
    return sorted(found, key=lambda one: one.date, reverse=True)


def delete_kept(places: Places, path: Path) -> None:
    """Delete one upload or received bundle, with what was trained from it.

    Raises:
        ConfigError: `path` is neither, or a training from it is at work.
        ResourceError: it cannot be deleted.
    """
    if path.parent not in (places.uploads, places.received) or path.is_symlink():
        raise ConfigError(f"{path.name}: is neither an upload nor a received bundle")
    inside(places.runs, path)
    forget_trainings(places, path)
    with translate_os_errors(path):
        shutil.rmtree(path)
