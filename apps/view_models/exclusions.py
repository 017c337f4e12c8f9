"""Files of a folder of X-rays that are not to be used: the list that new runs on this folder are given.

The app writes nothing into folders of X-rays. Its list lies below the folder of runs, and begins with what a list in
the folder itself says.
"""

from __future__ import annotations

from pathlib import Path

from medidistill.config import IngestConfig
from medidistill.errors import ConfigError
from medidistill.ingest.sources.exclusions import exclusions_file, read_exclusions, write_exclusions
from view_models.places import Places, short_id
from view_models.settings import effective_config

__all__ = [
    "chosen_exclusions",
    "exclude_file",
    "excluded_files",
    "exclusions_setting",
    "exclusions_stamp",
    "include_file",
    "own_list",
]


def own_list(places: Places, source: Path) -> Path:
    """Return where the app keeps the list of a folder."""
    return places.runs / "exclusions" / f"{short_id(str(source))}.csv"


def chosen_exclusions(places: Places, source: Path) -> str | None:
    """Return the app's list for a folder, None where nothing was excluded in the app."""
    file = own_list(places, source)
    return str(file) if file.is_file() else None


def exclusions_setting(places: Places, source: Path) -> str:
    """Return `ingest.exclusions` for a folder: the app's list, else what the environment or the default names."""
    return chosen_exclusions(places, source) or effective_config().ingest.exclusions


def excluded_files(places: Places, source: Path) -> dict[str, str]:
    """Return path relative to the folder -> reason. Raises `IngestError` where the list cannot be read."""
    file = exclusions_file(source, IngestConfig(exclusions=exclusions_setting(places, source)))
    return {} if file is None else read_exclusions(file)


def exclude_file(places: Places, source: Path, key: str, reason: str) -> None:
    """Put a file on the list.

    Args:
        places: where the list is kept.
        source: the folder.
        key: path of the file relative to the folder.
        reason: why; kept with it.

    Raises:
        ConfigError: no reason.
        IngestError: the list cannot be read; it stays as it is.
        ResourceError: it cannot be written.
    """
    if not reason.strip():
        raise ConfigError("say why this file is excluded; whoever reads the list later wants to know")
    _write(places, source, excluded_files(places, source) | {key: reason})


def include_file(places: Places, source: Path, key: str) -> None:
    """Take a file off the list. Raises `IngestError` and `ResourceError` as `exclude_file` does."""
    listed = excluded_files(places, source)
    listed.pop(key, None)
    _write(places, source, listed)


def _write(places: Places, source: Path, listed: dict[str, str]) -> None:
    file = own_list(places, source)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_exclusions(file, listed)


def exclusions_stamp(places: Places, source: Path) -> str:
    """Return a text that changes with the list."""
    file = Path(exclusions_setting(places, source))
    file = file if file.is_absolute() else source / file
    try:
        told = file.stat()
    except OSError:
        return ""
    return f"{told.st_mtime_ns}-{told.st_size}"
