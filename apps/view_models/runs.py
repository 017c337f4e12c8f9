"""Runs: which there are, what one is, how it stands, and how it is started, stopped and resumed."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medidistill.config import RunConfig
from medidistill.errors import ConfigError, MedidistillError
from medidistill.jsontypes import JsonObject  # facts of a stage, see `RunRecord.stages`
from medidistill.pipeline import RunFolder, load_config, read_status
from medidistill.pipeline.runfolder.redaction import DETAILS
from medidistill.record import RunRecord
from medidistill.results.run_status import RunStatus
from view_models.jobs import Job, start
from view_models.places import Places, free_folder, inside, short_id
from view_models.settings import effective_config

__all__ = [
    "RunState",
    "RunView",
    "continue_run",
    "find_runs",
    "never_began",
    "read_run",
    "remove_run",
    "resume_run",
    "run_state",
    "start_audit",
    "start_demo",
    "start_explaining",
    "start_release",
    "start_run",
    "stop_run",
]

_DEPTH = 3
_AFTERWARDS = ("audit", "export")  # commands that add to a finished run
_MOST_NAMES = 5  # details of an error that are shown
_STOPPED = (130, 143)  # exit codes of a run that a signal asked to stop


@dataclass(frozen=True)
class RunView:
    """One run as the app shows it.

    Args:
        name: path below the root.
        key: stands for it in addresses.
        folder: its files.
        config: its resolved configuration; None before the command has written it.
        finished: stages that have finished, oldest first.
        test_openings: how often the test split was scored.
        facts: of each finished stage, as the record holds them.
    """

    name: str
    key: str
    folder: RunFolder
    config: RunConfig | None
    finished: tuple[str, ...] = ()
    test_openings: int = 0
    facts: dict[str, JsonObject] | None = None

    @property
    def title(self) -> str:
        """Title of the report."""
        return self.config.name if self.config else self.name

    @property
    def notice(self) -> str:
        """The caution shown beside every figure."""
        return self.config.notice if self.config else ""


@dataclass(frozen=True)
class RunState:
    """How a run stands.

    Args:
        state: `queued` (waits for other jobs), `running`, `stopped`, `failed`, `completed`, `not_released` (finished,
            and the policy refused the release), or `unknown`: no process, and nobody said how it ended.
        error: why it ended or was not released, in one line.
        stage: in work.
        done: of the stage, in [0, 1]; None where that is not known.
        text: what the stage counts, in words.
        seconds_left: in this stage.
        finished: stages done.
        stages: all stages, in order.
        lines: the end of what the command wrote, where the app started it.
        ahead: jobs that are to end before this one begins.
        whole_seconds_left: until the whole run ends, queue aside; None where that is not known.
        updated: when the run was last heard of, ISO 8601; empty where that is not known.
    """

    state: str
    error: str = ""
    stage: str = ""
    done: float | None = None
    text: str = ""
    seconds_left: float | None = None
    finished: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    ahead: int = 0
    whole_seconds_left: float | None = None
    updated: str = ""

    @property
    def is_busy(self) -> bool:
        """Whether a process works on the run, or waits to."""
        return self.state in ("running", "queued")


def find_runs(places: Places) -> list[Path]:
    """Return the run folders at most three levels below the root, newest first; links that lead out are left out.

    Runs that are starting come first; those that ended before they wrote anything (see `never_began`) come last.
    """
    found = {
        file.parent
        for depth in range(_DEPTH + 1)
        for file in places.runs.glob("*/" * depth + "run.yaml")
        if RunFolder(file.parent).holds_run() and _is_inside(places.runs, file.parent)
    }
    starting = {path for path in _started(places) if path not in found and Job(_job(places, path)).is_running()}
    ended = {path for path in _started(places) if path not in found | starting and Job(_job(places, path)).error()}
    return [
        *sorted(starting),
        *sorted(found, key=lambda path: (path / "run.yaml").stat().st_mtime, reverse=True),
        *sorted(ended),
    ]


def never_began(places: Places, path: Path) -> bool:
    """Whether the app started a run that ended before it wrote its configuration: there is nothing to resume."""
    return not RunFolder(path).holds_run() and not Job(_job(places, path)).is_running()


def _is_inside(root: Path, path: Path) -> bool:
    with contextlib.suppress(ConfigError, OSError):
        return bool(inside(root, path))
    return False


def _started(places: Places) -> list[Path]:
    """Return the run folders that the app has started work for, whether they exist yet or not."""
    names = sorted(places.jobs.glob("*/run")) if places.jobs.is_dir() else []
    return [places.runs / file.read_text(encoding="utf-8") for file in names]


def _job(places: Places, path: Path) -> Path:
    return places.jobs / short_id(_name(places, path))


def _name(places: Places, path: Path) -> str:
    return path.relative_to(places.runs).as_posix() if path != places.runs else "."


def read_run(places: Places, path: Path) -> RunView:
    """Read one run folder. Raises `MedidistillError` when its files are damaged."""
    folder, name = RunFolder(path), _name(places, path)
    shown = path.name if name == "." else name
    if not folder.holds_run():
        return RunView(shown, short_id(name), folder, None)
    config = _config(folder.config_file, folder.config_file.stat().st_mtime_ns)
    record = RunRecord.load(folder.record_file) if folder.record_file.is_file() else RunRecord()
    finished = tuple(sorted(record.stages, key=lambda stage: record.stages[stage]["finished"]))
    return RunView(shown, short_id(name), folder, config, finished, len(record.test_openings), record.stages)


@functools.lru_cache(maxsize=256)
def _config(file: Path, changed: int) -> RunConfig:
    return load_config(file)


def run_state(places: Places, path: Path) -> RunState:
    """Return how the run at `path` stands, from what its process and the app's job wrote."""
    job = Job(_job(places, path))
    lines = tuple(job.lines())
    folder = RunFolder(path)
    if not folder.holds_run():
        if job.is_running() and (ahead := job.ahead()):
            return RunState("queued", lines=lines, ahead=ahead)
        if job.is_running():
            return RunState("running", stage="start", text="The command is loading.", lines=lines)
        return RunState(_ending(job) or "unknown", error=job.error(), lines=lines)
    status = read_status(path)
    state, error = status["state"], status.get("error", "")
    of_job = job.spans(str(status.get("started", "")))
    lines = lines if of_job or job.is_running() or "started" not in status else ()  # gone on with elsewhere since
    ahead = job.ahead()
    if ahead:
        state, error = "queued", ""
    elif job.is_running() and state != "running":
        state, error = "running", ""
    elif _ending(job) and state == "unknown":  # it ended before the run could say anything
        state, error = _ending(job), job.error()
    elif state == "failed" and of_job and job.error() and job.exit_code == status.get("exit_code"):
        error = _whole_error(folder, job.error())
    finished = tuple(status["finished"])
    if state in ("unknown", "completed"):  # the command ended well, which may have been one of the stages alone
        state = "completed" if "report" in finished else "unknown"
    if state == "stopped" and "report" in finished and status["command"] in _AFTERWARDS:
        state = "completed"  # what was stopped came on top of a finished run
    total = status.get("total") or 0
    done = status["step"] / total if total else None
    return RunState(
        state=state,
        error=error,
        stage=status["stage"] or ("start" if state == "running" else ""),
        done=done,
        text=_counted(status),
        seconds_left=status.get("eta_seconds"),
        finished=finished,
        stages=tuple(status.get("stages", ())),
        lines=lines,
        ahead=ahead,
        whole_seconds_left=_whole_left(job.estimate, status, done) if state == "running" else None,
        updated=str(status.get("updated") or ""),
    )


def _whole_left(estimate: Mapping[str, float], status: RunStatus, done: float | None) -> float | None:
    """Return seconds until the last stage ends: what this stage says of itself, and what the later ones were given."""
    stages, stage = list(status.get("stages", ())), status["stage"]
    if not estimate or stage not in stages:
        return None
    here = status.get("eta_seconds")
    if here is None:
        here = estimate.get(stage, 0.0) * (1 - (done or 0.0))
    later = [one for one in stages[stages.index(stage) + 1 :] if one not in status["finished"]]
    return float(here) + sum(estimate.get(one, 0.0) for one in later)


def _whole_error(folder: RunFolder, line: str) -> str:
    """Return an error with the details that a command keeps off its output: here the one who started it reads on."""
    details = folder.ingest / DETAILS
    if f"see {details}" not in line:
        return line
    with contextlib.suppress(OSError, UnicodeDecodeError):
        first, *names = details.read_text(encoding="utf-8").splitlines()
        more = f"; and {len(names) - _MOST_NAMES} more in {details}" if len(names) > _MOST_NAMES else ""
        return f"{first}: {'; '.join(names[:_MOST_NAMES])}{more}" if names else first
    return line


def _ending(job: Job) -> str:
    """Return how a job ended that did not do its work: `stopped`, `failed`, or nothing."""
    return "" if not job.error() else "stopped" if job.exit_code in _STOPPED else "failed"


def _counted(status: RunStatus) -> str:
    if not status.get("total"):
        return ""
    piece = f"{status['piece']}: " if status.get("piece") else ""
    return f"{piece}{status['unit']} {status['step']} of {status['total']}"


def start_run(
    places: Places,
    name: str,
    config: str,
    source: Path,
    settings: Sequence[str] = (),
    *,
    command: str = "run",
    estimate: Mapping[str, float] | None = None,
) -> Path:
    """Queue `medidistill run` (or `ingest`) in a folder of its own; return that folder. Raises `ConfigError`.

    Args:
        places: where runs are kept.
        name: of the run; becomes the name of its folder.
        config: name or file of a configuration.
        source: folder of X-rays.
        settings: as `--set` takes them.
        command: `run` or `ingest`.
        estimate: stage -> seconds that it is expected to take.
    """
    effective_config(config, settings)  # complain here, not in a log
    output = free_folder(places.runs, name)
    output.mkdir(mode=0o700)  # taken, before the job has its turn
    options = ["--config", config, "--input", str(source), "--output", str(output)]
    options += [part for setting in settings for part in ("--set", setting)]
    return _go(places, output, [command, *options], estimate=estimate)


def start_demo(places: Places) -> Path:
    """Start `medidistill demo`; return its run folder. Goes on with the one that is there."""
    output = places.runs / "demo"
    again = ["--resume"] if RunFolder(output / "run").holds_run() else []
    return _go(places, output / "run", ["demo", "--output", str(output), *again])


def resume_run(places: Places, path: Path) -> Path:
    """Go on with a run; one that ended before it began is started again. Raises `ConfigError` while it is at work."""
    job = Job(_job(places, path))
    if never_began(places, path) and job.arguments:
        return _go(places, path, job.arguments, estimate=job.estimate)
    return continue_run(places, path, ["run", "--output", str(path), "--resume"], estimate=job.estimate)


def start_audit(places: Places, path: Path, profile: str) -> Path:
    """Attack the set that a run exports. Raises `ConfigError` while it is at work."""
    return continue_run(places, path, ["audit", str(path), "--profile", profile])


def start_release(
    places: Places, path: Path, *, overridden: Sequence[str] = (), reason: str = "", by: str = ""
) -> Path:
    """Ask the privacy gate and write the released bundle.

    Args:
        places: where runs are kept.
        path: the run.
        overridden: rules that failed and in spite of which it is released.
        reason: why; printed in the card.
        by: who answers for it; printed in the card.

    Raises:
        ConfigError: the run is at work, or a rule is overridden without a reason and a name.
    """
    if overridden and not (reason.strip() and by.strip()):
        raise ConfigError("a release in spite of a failed rule needs a reason and the name of who answers for it")
    said = [part for rule in overridden for part in ("--override", rule)]
    said += ["--reason", reason.strip(), "--by", by.strip()] if overridden else []
    return continue_run(places, path, ["export", "--output", str(path), "--release", *said], queued=False)


def start_explaining(places: Places, path: Path, cases: int) -> Path:
    """Draw Grad-CAM on test images of patients, `cases` of each outcome. Raises `ConfigError` while it is at work."""
    asked = ["--set", f"evaluate.saliency.cases={cases}"]
    return continue_run(places, path, ["run", "--output", str(path), "--resume", *asked])


def continue_run(
    places: Places,
    path: Path,
    arguments: Sequence[str],
    *,
    queued: bool = True,
    estimate: Mapping[str, float] | None = None,
) -> Path:
    """Start a command that works on a run.

    Args:
        places: where runs are kept.
        path: the run.
        arguments: of the command line.
        queued: whether it waits for other jobs; what takes seconds does not.
        estimate: stage -> seconds that it is expected to take.

    Raises:
        ConfigError: one is at work, or the run has not begun.
    """
    if run_state(places, path).is_busy:
        raise ConfigError("this run is at work already")
    if not RunFolder(path).holds_run():
        raise ConfigError("this run ended before it began; start it again")
    return _go(places, path, arguments, queued=queued, estimate=estimate)


def _go(
    places: Places,
    path: Path,
    arguments: Sequence[str],
    *,
    queued: bool = True,
    estimate: Mapping[str, float] | None = None,
) -> Path:
    folder = _job(places, path)
    start(folder, arguments, queue=places.queue if queued else None, estimate=estimate)
    (folder / "run").write_text(_name(places, path), encoding="utf-8")
    return path


def stop_run(places: Places, path: Path) -> None:
    """Ask a run to stop; what it finished is kept. Does nothing where no process works on it."""
    job = Job(_job(places, path))
    if job.is_running():
        job.stop()
        return
    with contextlib.suppress(MedidistillError, ProcessLookupError, PermissionError):
        status = read_status(path)
        if status["state"] == "running":
            os.kill(int(status["pid"]), signal.SIGTERM)


def remove_run(places: Places, path: Path) -> None:
    """Delete a run and everything that was made for it; foreign files in its folder stay.

    Raises:
        ConfigError: it is at work, or lies outside of the folder of runs.
        ResourceError: it cannot be deleted.
    """
    inside(places.runs, path)
    if run_state(places, path).is_busy:
        raise ConfigError("this run is at work; stop it first")
    if path.is_dir():
        RunFolder(path).remove()
    shutil.rmtree(_job(places, path), ignore_errors=True)
