"""The folders that the app may look into, and the check that nothing leads out of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError

__all__ = ["Places", "free_folder", "inside", "plain_name", "short_id", "subfolders"]

_MOST_FOLDERS = 500


@dataclass(frozen=True)
class Places:
    """Where the app reads and writes.

    Args:
        runs: runs, uploads and received bundles are kept below this folder.
        images: folders below which X-rays may be chosen.
        login: whether a page is shown only to users who have signed in.
    """

    runs: Path
    images: tuple[Path, ...]
    login: bool = False

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Places:
        """Return the places that `medidistill app` put into the environment."""
        runs = Path(environment.get("MEDIDISTILL_RUNS", ".")).resolve()
        named = [Path(part).resolve() for part in environment.get("MEDIDISTILL_IMAGES", "").split(os.pathsep) if part]
        return cls(runs, tuple(dict.fromkeys([*named, runs])), environment.get("MEDIDISTILL_LOGIN", "") == "1")

    @property
    def uploads(self) -> Path:
        """X-rays that came through the browser."""
        return self.runs / "uploads"

    @property
    def received(self) -> Path:
        """Bundles of others."""
        return self.runs / "received"

    @property
    def jobs(self) -> Path:
        """What the app started: one folder a job."""
        return self.runs / ".medidistill-app"


def inside(root: Path, path: Path) -> Path:
    """Return `path` with every link resolved. Raises `ConfigError` when that leaves `root`."""
    found = path.resolve()
    if not found.is_relative_to(root.resolve()):
        raise ConfigError(f"{path.name}: lies outside of the folders that this app may read; start it with --images")
    return found


def subfolders(root: Path, path: Path) -> list[Path]:
    """Return the folders in `path` that lie below `root`, by name; hidden ones and links that lead out are left out."""
    found = []
    for child in sorted(inside(root, path).iterdir(), key=lambda one: one.name.lower()):
        try:
            if not child.name.startswith(".") and child.is_dir() and inside(root, child):
                found.append(child)
        except (ConfigError, OSError):
            continue
    return found[:_MOST_FOLDERS]


def plain_name(text: str) -> str:
    """Return `text` as the name of a folder: letters, digits, `-`; short. Empty where nothing is left."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:40].strip("-")


def free_folder(parent: Path, name: str) -> Path:
    """Return a path in `parent` that is not taken: `name`, else `name-2`, `name-3`, ..."""
    base, number = plain_name(name) or "run", 1
    while (path := parent / (base if number == 1 else f"{base}-{number}")).exists():
        number += 1
    return path


def short_id(name: str) -> str:
    """Return 12 hexadecimal digits that stand for a folder in addresses, so that its name stays out of them."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
