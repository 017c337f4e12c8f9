"""The folders that the app may look into, and the check that nothing leads out of them."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError, IngestError
from medidistill.ingest import file_discovery

__all__ = [
    "Places",
    "class_folder",
    "clean_title",
    "free_folder",
    "inside",
    "plain_name",
    "readable",
    "short_id",
    "subfolders",
]

_MOST_FOLDERS = 500
_LONGEST_CLASS = 60  # letters: at most 240 bytes
_LONGEST_NAME, _LONGEST_TITLE = 40, 60  # letters


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

    @property
    def queue(self) -> Path:
        """Tickets of the jobs that take turns."""
        return self.jobs / "queue"

    @property
    def labels(self) -> Path:
        """What users call runs, one file a run."""
        return self.jobs / "labels"


def inside(root: Path, path: Path) -> Path:
    """Return `path` with every link resolved. Raises `ConfigError` when that leaves `root`."""
    try:
        return file_discovery.inside(root, path)
    except IngestError as error:
        raise ConfigError(
            f"{path.name}: lies outside of the folders that this app may read; start it with --images"
        ) from error


def readable(places: Places, path: Path) -> Path:
    """Return `path` with every link resolved. Raises `ConfigError` when it lies below none of the allowed folders."""
    for root in places.images[:-1]:
        try:
            return inside(root, path)
        except ConfigError:
            continue
    return inside(places.images[-1], path)


def subfolders(root: Path, path: Path) -> list[Path]:
    """Return the folders in `path` that lie below `root`, by name.

    What a scan would not enter is left out: hidden folders, links that lead out, names that are not valid UTF-8.
    """
    found = [
        entry.path
        for entry in file_discovery.list_folder(inside(root, path), root)
        if entry.kind is file_discovery.EntryKind.FOLDER
        and not file_discovery.is_left_behind(entry.path.name)
        and file_discovery.is_utf8(entry.path.name)
    ]
    return sorted(found, key=lambda one: one.name.lower())[:_MOST_FOLDERS]


def class_folder(text: str) -> str:
    """Return a class as the name of a folder: case, spaces and accents stay. Empty where nothing is left."""
    kept = "".join(c for c in unicodedata.normalize("NFC", text) if c.isprintable() and c not in '/\\:*?"<>|')
    return " ".join(kept.split()).strip(". ")[:_LONGEST_CLASS].rstrip()


def plain_name(text: str) -> str:
    """Return `text` as the name of a folder: letters and digits of any script, `-`; short. Empty where none is left."""
    composed = unicodedata.normalize("NFC", text).lower()
    return re.sub(r"[^\w]+|_+", "-", composed).strip("-")[:_LONGEST_NAME].strip("-")


def clean_title(text: str) -> str:
    """Return `text` as a title: printable, in one line, at most 60 letters. Empty where nothing is left."""
    kept = "".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text))
    return " ".join(kept.split())[:_LONGEST_TITLE].rstrip()


def free_folder(parent: Path, name: str) -> Path:
    """Return a path in `parent` that is not taken: `name`, else `name-2`, `name-3`, ..."""
    base, number = plain_name(name) or "run", 1
    while (path := parent / (base if number == 1 else f"{base}-{number}")).exists():
        number += 1
    return path


def short_id(name: str) -> str:
    """Return 12 hexadecimal digits that stand for a folder in addresses, so that its name stays out of them."""
    return hashlib.sha256(name.encode()).hexdigest()[:12]
