"""How a run stands, for people and for programs, whether a process works on it or not."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from medidistill.errors import IngestError
from medidistill.files import read_json
from medidistill.jsontypes import JsonObject, ReadOnlyJsonObject  # files of any version, shown as they are
from medidistill.pipeline.runfolder.journal import FORMAT, State
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.results.run_status import RunStatus

__all__ = ["State", "describe", "read_status", "verdict_lines"]

_TO_MEND = (2, 3, 6)  # setting, input, quarantine: the same again would fail again
_DIED = "the process terminated unexpectedly (killed, out of memory, or power lost); --resume goes on"


def read_status(path: Path) -> RunStatus:
    """Return the status of the run at `path`.

    A status that says `running` while no process holds the folder is reported as `failed`.

    Raises:
        ConfigError: `path` holds no run.
        ResourceError: it may not be read.
        IngestError: the status file is damaged, or of a newer version.
    """
    folder = RunFolder.open(path)
    if not folder.status_file.is_file():
        return _from_record(folder)
    working = folder.at_work()
    stored = read_json(folder.status_file)
    if not isinstance(stored, dict) or not {"format", "state", "stage", "finished"} <= stored.keys():
        raise IngestError(f"{folder.status_file}: damaged status file; delete it, the run itself is not affected")
    status = cast("RunStatus", stored)  # of this process, or of one of an earlier version with fewer keys
    if status["format"] > FORMAT:
        raise IngestError(f"{folder.status_file}: written by a newer medidistill; upgrade this one")
    status["release_check"] = _or_none(folder.release_check)
    status["verdict"] = _or_none(folder.verdict)
    if status["state"] == State.RUNNING and not working:
        status |= {"state": State.FAILED, "error": _DIED, "exit_code": None, "eta_seconds": None}
    return status


def _or_none(file: Path) -> JsonObject | None:
    try:
        found = read_json(file) if file.is_file() else None
    except IngestError:
        return None  # it is written again when the run goes on
    return found if isinstance(found, dict) else None


def _from_record(folder: RunFolder) -> RunStatus:
    from medidistill.record import RunRecord

    finished = list(RunRecord.load(folder.record_file).stages) if folder.record_file.is_file() else []
    state = State.RUNNING if folder.at_work() else State.UNKNOWN
    return {
        "format": FORMAT,
        "state": state,
        "stage": "",
        "finished": finished,
        "stages": [],
        "error": "",
        "verdict": _or_none(folder.verdict),
    }


def describe(status: RunStatus, path: Path) -> str:
    """Return the status as a few lines for a terminal."""
    state, stages, finished = status["state"], status.get("stages", []), status["finished"]
    lines = [("run", str(path)), ("state", _shown(status))]
    if status["stage"]:
        place = f" ({stages.index(status['stage']) + 1} of {len(stages)})" if status["stage"] in stages else ""
        lines.append(("stage", status["stage"] + place))
    if status.get("total") and state != State.COMPLETED:
        piece = f"{status['piece']}: " if status.get("piece") else ""
        lines.append(("progress", f"{piece}{status['step']} of {status['total']} {status['unit']}s"))
    left = status.get("eta_seconds")
    if left is not None:
        lines.append(("time left", f"about {duration(left)} in this stage"))
    lines.append(("finished", ", ".join(finished) or "nothing yet"))
    if status.get("released") is not None:
        lines.append(("bundle", "released" if status["released"] else "not released: for use inside"))
    lines += [("" if place else "verdict", line) for place, line in enumerate(verdict_lines(status.get("verdict")))]
    if status.get("updated"):
        lines.append(("updated", status["updated"]))
    check = status.get("release_check")
    if check and (check["wanted"] or check["unresolvable"]):
        lines += [("release" if number == 0 else "", line) for number, line in enumerate(check["summary"])]
    if status["error"]:
        lines.append(("why" if state == State.NOT_RELEASED else "error", status["error"]))
    if state == State.FAILED and not finished and status.get("exit_code") in _TO_MEND:
        again = f"medidistill run --output {path} --resume"
        lines.append(("correct", f"that, then: {again} (nothing has finished: --input and --set may change)"))
    elif state in (State.FAILED, State.STOPPED):
        lines.append(("go on with", f"medidistill run --output {path} --resume"))
    if state == State.NOT_RELEASED:
        lines.append(
            ("decide", f"medidistill export --output {path} --release --override RULE --reason TEXT --by NAME")
        )
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def verdict_lines(verdict: ReadOnlyJsonObject | None) -> list[str]:
    """Return a stored verdict as lines for a terminal; none where there is no verdict, or not one of this version."""
    if not verdict or not {"colour", "sentence", "missing", "warnings", "chosen_by"} <= verdict.keys():
        return []
    lines = [f"{verdict['colour']}. {verdict['sentence']}"]
    lines += [f"Missing for a yes: {'; '.join(verdict['missing'])}."] if verdict["missing"] else []
    return [*lines, *verdict["warnings"], verdict["chosen_by"]]


def _shown(status: RunStatus) -> str:
    state = status["state"]
    if state == State.RUNNING:
        return f"running (process {status['pid']})" if "pid" in status else "running"
    if state == State.NOT_RELEASED:
        return "finished, not released"
    whole = status.get("stages") and set(status["stages"]) <= set(status["finished"])
    return "finished" if state == State.COMPLETED and whole else str(state)


def duration(seconds: float) -> str:
    """Return a time span in the two largest units, for example `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((place for place, (count, _) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count) or "0 s"
