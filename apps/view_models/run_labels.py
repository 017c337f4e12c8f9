"""What users call a run and note about it: kept beside the jobs, so that the run's own files stay as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import IngestError
from medidistill.files import read_json, write_json
from view_models.places import Places, clean_title

__all__ = ["RunLabel", "read_label", "remove_label", "write_label"]

_LONGEST_NOTE = 500  # letters


@dataclass(frozen=True)
class RunLabel:
    """Title and note of a run; empty where nobody gave one."""

    title: str = ""
    note: str = ""


def read_label(places: Places, key: str) -> RunLabel:
    """Return what users call the run `key`; a damaged file counts as none."""
    file = _file(places, key)
    try:
        told = read_json(file) if file.is_file() else {}
    except IngestError:
        told = {}
    if not isinstance(told, dict):
        return RunLabel()
    return RunLabel(str(told.get("title", "")), str(told.get("note", "")))


def write_label(places: Places, key: str, title: str, note: str) -> RunLabel:
    """Keep title and note of the run `key`; return them as they are kept. Raises `ResourceError`."""
    kept = RunLabel(clean_title(title), note.strip()[:_LONGEST_NOTE])
    places.labels.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(_file(places, key), {"title": kept.title, "note": kept.note}, mode=0o600)
    return kept


def remove_label(places: Places, key: str) -> None:
    """Forget what users called the run `key`."""
    _file(places, key).unlink(missing_ok=True)


def _file(places: Places, key: str) -> Path:
    return places.labels / f"{key}.json"
