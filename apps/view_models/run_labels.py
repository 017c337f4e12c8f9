"""What users call a run and note about it: kept beside the jobs, so that the run's own files stay as they are.

A label is of the run that began when it says. Of another one that came to the same folder it says nothing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import IngestError, MedidistillError
from medidistill.files import read_json, write_json
from medidistill.pipeline import RunFolder
from medidistill.record import RunRecord
from view_models.places import Places, clean_title

__all__ = ["RunLabel", "read_label", "remove_label", "write_label"]

_LONGEST_NOTE = 500  # letters


@dataclass(frozen=True)
class RunLabel:
    """Title and note of a run; empty where nobody gave one."""

    title: str = ""
    note: str = ""


def read_label(places: Places, key: str, run: Path | None = None) -> RunLabel:
    """Return what users call the run `key`; a damaged file, and the label of another run, count as none.

    A label that was given before the run began is tied to it here.

    Args:
        places: where labels are kept.
        key: of the run.
        run: its folder; None: whose label it is, is not asked.
    """
    file = _file(places, key)
    try:
        told = read_json(file) if file.is_file() else {}
    except IngestError:
        told = {}
    if not isinstance(told, dict):
        return RunLabel()
    label, of = RunLabel(str(told.get("title", "")), str(told.get("note", ""))), str(told.get("began", ""))
    began = _began(run) if told else ""
    if began and of not in ("", began):
        return RunLabel()
    if began and not of:
        with contextlib.suppress(MedidistillError):
            write_label(places, key, label.title, label.note, run)
    return label


def write_label(places: Places, key: str, title: str, note: str, run: Path | None = None) -> RunLabel:
    """Keep title and note of the run `key`; return them as they are kept.

    Args:
        places: where labels are kept.
        key: of the run.
        title: what it is called.
        note: about it.
        run: its folder; None, and one that has not begun: the label is of whichever run comes there.

    Raises:
        ResourceError: it cannot be written.
    """
    kept = RunLabel(clean_title(title), note.strip()[:_LONGEST_NOTE])
    places.labels.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(_file(places, key), {"title": kept.title, "note": kept.note, "began": _began(run)}, mode=0o600)
    return kept


def remove_label(places: Places, key: str) -> None:
    """Forget what users called the run `key`."""
    _file(places, key).unlink(missing_ok=True)


def _began(run: Path | None) -> str:
    """Return when a run began, as its record says; empty where it says nothing."""
    if run is None or not (file := RunFolder(run).record_file).is_file():
        return ""
    with contextlib.suppress(MedidistillError):
        return RunRecord.load(file).started
    return ""


def _file(places: Places, key: str) -> Path:
    return places.labels / f"{key}.json"
