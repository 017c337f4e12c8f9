"""Who released what under which policy: an append-only log beside the ledger, see `medidistill.chained_log`.

| event | when |
|---|---|
| `refused` | the privacy gate refused a release |
| `releasing` | a bundle passed and is complete; it is about to appear under its name |
| `released` | it has appeared |
| `withdrawn` | it could not appear: nothing was released |
| `sending`, `sent` | `medidistill push` begins, and the archive has stored all of it |
| `delivering`, `delivered` | an intake begins to copy a bundle to the folder that it delivers to, and it is there |
| `repaired` | what a killed process had written in part was cut off |
"""

from __future__ import annotations

import datetime
import os
import pwd
from pathlib import Path
from typing import Any

from medidistill.chained_log import ChainedLog
from medidistill.errors import ConfigError
from medidistill.files import read_json
from medidistill.jsontypes import ReadOnlyJsonObject  # facts of a log entry, by event
from medidistill.pipeline.runfolder.run_folder import RunFolder

__all__ = ["NAME", "acting_user", "check_ledger", "ledger_of", "log_of_bundle", "not_logged", "note", "unfinished"]

NAME = "release-log.jsonl"
LEDGER = "privacy-ledger.json"


def note(path: Path, event: str, **facts: Any) -> str:
    """Append an event with the time and the user; return its hash.

    Raises:
        ResourceError: it cannot be written: what it is about must not happen then.
        IngestError: the end of the log was changed.
    """
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return ChainedLog(path).append(event, when=when, user=acting_user(), **facts)


def acting_user() -> str:
    """Return the name of the user that this process runs as, its number where it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container that does not know its user
        return f"uid {os.geteuid()}"


def log_of_bundle(bundle: Path) -> Path:
    """Return the log that a bundle belongs to: beside the ledger of its run, or beside a bundle without one."""
    bundle = Path(bundle).resolve()
    run = RunFolder(bundle.parent)
    if not run.holds_run():
        return bundle.parent / NAME
    from medidistill.pipeline.config_io.config_file import load_config

    return ledger_of(run, load_config(run.config_file).privacy.ledger).with_name(NAME)


def ledger_of(run: RunFolder, named: str) -> Path:
    """Return the ledger of a run: the one that its configuration names, else one that the runs beside it share.

    Raises:
        ConfigError: it names a relative path, which is another file in each folder that a command is started from; a
            ledger that is not there counts as one without releases.
    """
    check_ledger(named)
    return Path(named) if named else run.path.resolve().parent / LEDGER


def check_ledger(named: str) -> None:
    """Refuse a ledger by a relative path. A run that has one may be given another: `RunFolder.create`.

    Raises:
        ConfigError: with the path to write instead.
    """
    if named and not Path(named).is_absolute():
        path = Path(named).absolute()
        raise ConfigError(
            f"privacy.ledger={named!r}: must be an absolute path, or releases of the same patients would be added up "
            f"in another file in each folder that a command is started from; use {path}; in a run that is there by "
            f"`medidistill run --output OUT --resume --set privacy.ledger={path}`"
        )


def unfinished(entries: tuple[ReadOnlyJsonObject, ...]) -> list[str]:
    """Return what was begun and has no end in a log, one line each: the process was killed in between."""
    ends = {"releasing": ("released", "withdrawn"), "sending": ("sent",), "delivering": ("delivered",)}
    found = []
    for number, entry in enumerate(entries):
        event, name = str(entry.get("event")), entry.get("set")
        later = [one for one in entries[number + 1 :] if one.get("set") == name]
        if event in ends and not any(one.get("event") in ends[event] for one in later):
            found.append(f"line {entry.get('line')}: {event} {name}: its end is not in the log")
    return found


def not_logged(log: Path, entries: tuple[ReadOnlyJsonObject, ...]) -> list[str]:
    """Return the sets that the ledger beside a log counts and the log does not know, one line each."""
    ledger = log.with_name(LEDGER)
    counted = read_json(ledger).get("releases", []) if ledger.is_file() else []
    known = {entry.get("set") for entry in entries if entry.get("event") in ("releasing", "released")}
    return [
        f"{ledger}: counts the set {one['set']} of {one.get('when', 'unknown time')}, which the log does not know"
        for one in counted
        if one.get("set") not in known
    ]
