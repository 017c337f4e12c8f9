"""The files below a folder, each folder entered once: links are followed, and a circle of them ends."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["find_files"]

_LEFT_BEHIND = {"thumbs.db", "desktop.ini", "__macosx"}


def _of_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def find_files(folder: Path, *, skip_system: bool = False) -> list[Path]:
    """Return every file below a folder, sorted.

    A folder that cannot be listed is an entry too: whoever reads it gets the reason.

    Args:
        folder: where to look; links are followed, and a folder that two paths lead to is entered by the first.
        skip_system: leave out hidden files and folders, and what operating systems leave behind.
    """
    found: list[Path] = []
    entered: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(
        folder, onerror=lambda error: found.append(Path(error.filename)), followlinks=True
    ):
        status = os.stat(here)  # noqa: PTH116 (os.walk gives text)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not (skip_system and _of_system(name)))
        found.extend(Path(here, name) for name in names if not (skip_system and _of_system(name)))
    return sorted(found)
