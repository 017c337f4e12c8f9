"""The list of runs: which one is chosen, one row a run, and two runs side by side."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medidistill.config import as_dict
from medidistill.errors import MedidistillError
from medidistill.words import arm_words
from view_models.places import Places, short_id
from view_models.results import read_results, rows_table
from view_models.run_labels import read_label
from view_models.runs import RunState, RunView, find_runs, never_began, read_run, run_state
from view_models.verdict import readable_verdict

__all__ = [
    "Choice",
    "RunRow",
    "choose_run",
    "compared_runs",
    "list_runs",
    "settings_table",
    "spoken_state",
    "stored_verdict",
]

_STATES = {
    "queued": "waiting",
    "running": "running",
    "stopped": "stopped",
    "failed": "failed",
    "completed": "finished",
    "not_released": "finished, not released",
    "unknown": "not finished",
    "damaged": "damaged",
}


@dataclass(frozen=True)
class Choice:
    """Which run is shown.

    Args:
        key: of the run; empty where none is.
        unknown: whether an address named a run that is not here.
    """

    key: str
    unknown: bool = False


def choose_run(keys: Sequence[str], asked: str, held: str, begun: Sequence[str]) -> Choice:
    """Return which run is shown: the one that the address names, else the one shown before, else the newest.

    Args:
        keys: all runs, newest first.
        asked: the run that the address names; empty where it names none.
        held: the run that was shown before in this session.
        begun: those of `keys` that began, from which the newest is taken.
    """
    if asked:
        return Choice(asked) if asked in keys else Choice("", unknown=True)
    if held in keys:
        return Choice(held)
    return Choice(next(iter(begun), next(iter(keys), "")))


@dataclass(frozen=True)
class RunRow:
    """One line of the list.

    Args:
        key: stands for the run in addresses.
        path: its folder.
        title: what users call it, else the title of its report, else its folder.
        note: what users noted about it.
        state: how it stands.
        data: the folder that it read, images and classes.
        settings: images a class, side, methods.
        date: when it was last heard of.
        verdict: (colour, sentence) on the delivered set; empty before the comparison.
        began: whether there is anything in it.
        error: why it cannot be read.
    """

    key: str
    path: Path
    title: str
    note: str
    state: RunState
    data: str = ""
    settings: str = ""
    date: datetime.datetime | None = None
    verdict: tuple[str, str] = ("", "")
    began: bool = True
    error: str = ""

    def matches(self, text: str) -> bool:
        """Whether every word of `text` stands in title, note, data or settings, whatever its case."""
        said = " ".join((self.title, self.note, self.data, self.settings, spoken_state(self.state))).casefold()
        return all(word in said for word in text.casefold().split())


def spoken_state(state: RunState) -> str:
    """Return a state in words."""
    return _STATES.get(state.state, state.state)


def list_runs(places: Places, most: int | None = None) -> list[RunRow]:
    """Return every run, or the first `most`, newest first; one that cannot be read is listed with the reason."""
    return [_row(places, path) for path in find_runs(places)[:most]]


def _row(places: Places, path: Path) -> RunRow:
    name = path.relative_to(places.runs).as_posix()
    key = short_id(name)
    label = read_label(places, key, path)
    try:
        run, state = read_run(places, path), run_state(places, path)
    except MedidistillError as error:
        said = str(error).replace(f"{path}/", "")
        return RunRow(key, path, label.title or path.name, label.note, RunState("damaged"), error=said)
    return RunRow(
        key,
        path,
        label.title or (path.name if name != "." else places.runs.name),
        label.note,
        state,
        data=_data(run),
        settings=_settings(run),
        date=_date(run, state),
        verdict=stored_verdict(run),
        began=not never_began(places, path),
    )


def stored_verdict(run: RunView) -> tuple[str, str]:
    """Return colour and sentence of the verdict, or why there is none to believe; both empty without a comparison."""
    verdict, problem = readable_verdict(run)
    if problem:
        return "", f"The verdict cannot be read: {problem}"
    return (verdict.colour.value, verdict.sentence) if verdict is not None else ("", "")


def _data(run: RunView) -> str:
    parts = []
    try:
        source = run.folder.noted_source()
    except (MedidistillError, KeyError, TypeError):
        source = None
    if source is not None:
        parts.append(source.name)
    facts = (run.facts or {}).get("ingest")
    if facts:
        counts = facts["images"]
        images = sum(sum(counts[split].values()) for split in ("train", "val", "test"))
        parts.append(f"{images} images, {len(counts['train'])} classes")
    return ": ".join(parts)


def _settings(run: RunView) -> str:
    if run.config is None:
        return ""
    made, side = run.config.distill.ipc, run.config.ingest.image_size
    arms = ", ".join(arm_words(arm, made) for arm in run.config.evaluate.arms)
    return f"{made} images per class at {side} x {side}; compared: {arms}"


def _date(run: RunView, state: RunState) -> datetime.datetime | None:
    """Return when the run was last heard of, in local time."""
    if state.updated:
        try:
            return datetime.datetime.fromisoformat(state.updated).astimezone()
        except ValueError:
            pass
    try:
        return datetime.datetime.fromtimestamp(run.folder.config_file.stat().st_mtime).astimezone()
    except OSError:
        return None


def compared_runs(runs: Mapping[str, RunView]) -> pd.DataFrame:
    """Return the comparisons of several runs below each other: run, trained on, network, figures.

    Args:
        runs: title -> run; those without a finished comparison are left out.
    """
    tables = []
    for title, run in runs.items():
        results = read_results(run)
        if results is not None:
            table = rows_table(results)
            table.insert(0, "run", title)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def settings_table(runs: Mapping[str, RunView]) -> pd.DataFrame:
    """Return the settings in which runs differ: one row a setting, one column a run."""
    flat = {title: dict(_flat(run.config)) for title, run in runs.items() if run.config is not None}
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    rows = [
        {"setting": key, **{title: values.get(key, "") for title, values in flat.items()}}
        for key in keys
        if len({values.get(key, "") for values in flat.values()}) > 1
    ]
    return pd.DataFrame(rows, columns=["setting", *flat])


def _flat(config: Any) -> list[tuple[str, str]]:
    def walk(value: Any, name: str) -> list[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            return [pair for key, one in value.items() for pair in walk(one, f"{name}.{key}".strip("."))]
        return [(name, str(value))]

    return walk(as_dict(config), "")
