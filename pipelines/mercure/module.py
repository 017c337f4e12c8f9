"""medidistill as a processing module of mercure, MONAI Deploy, and what else hands a container a folder of DICOM files.

The orchestrator names two folders: MERCURE_IN_DIR and MERCURE_OUT_DIR (mercure), or HOLOSCAN_INPUT_PATH and
HOLOSCAN_OUTPUT_PATH (a MONAI Application Package). What is to be done stands in `process.settings` of mercure's
task.json, or in variables MEDIDISTILL_<NAME>, which are stronger:

    action   collect   put the received films into the spool; no film leaves (default with mercure: a study at a time)
             distill    de-identify the spool, run, and hand the synthetic images of a released bundle on
             run       do both for the folder at hand (default with MONAI Deploy: a whole cohort at a time)
    spool    folder on a mounted volume that collects films             (collect, distill)
    work     folder on a mounted volume for de-identified films and runs (distill, run)
    key      file with the de-identification key                        (distill, run)
    labels   CSV of labels by SOP Instance UID or accession number      (distill, run)
    config   ready-made configuration or YAML file                      (default: private)

A task that is killed and sent again goes on where it was. The exit code is that of medidistill; 2 is a wrong setting.
Standard library alone: the work is done by the command `medidistill` of the image.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACTIONS = ("collect", "distill", "run")
_FORMER = {"distil": "distill"}  # as 0.1 spelt it
_NAMES = ("action", "spool", "work", "key", "labels", "config")


class SettingError(Exception):
    """A setting is missing or wrong."""


@dataclass(frozen=True)
class Task:
    """What the orchestrator asks for.

    Args:
        source: folder of received files.
        target: folder whose DICOM files the orchestrator hands on.
        settings: by name, see above.
    """

    source: Path
    target: Path
    settings: Mapping[str, str]

    def path(self, name: str) -> Path:
        """Return a setting that must be there. Raises `SettingError`."""
        if not self.settings.get(name):
            raise SettingError(f"setting {name!r} is missing; action {self.settings['action']!r} needs it")
        return Path(self.settings[name])


def read_task(environment: Mapping[str, str]) -> Task:
    """Return the task that the environment and task.json describe.

    Raises:
        SettingError: no folders, an unreadable task.json, an unknown setting or action.
    """
    known = {("MERCURE_IN_DIR", "MERCURE_OUT_DIR"): "collect", ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"): "run"}
    named = next((pair for pair in known if all(environment.get(name) for name in pair)), None)
    if named is None:
        raise SettingError("no folders: needs " + " or ".join(" and ".join(pair) for pair in known))
    source, target = (Path(environment[name]) for name in named)
    settings = {"action": known[named], "config": "private", **_of_mercure(source / "task.json")}
    settings |= {name: value for name in _NAMES if (value := environment.get(f"MEDIDISTILL_{name.upper()}"))}
    settings["action"] = _FORMER.get(settings["action"], settings["action"])
    if settings["action"] not in ACTIONS:
        raise SettingError(f"action={settings['action']!r}: must be one of {', '.join(ACTIONS)}")
    if not source.is_dir() or not target.is_dir():
        raise SettingError(f"{source if not source.is_dir() else target}: no such folder; mount it")
    return Task(source, target, settings)


def _of_mercure(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    try:
        process: Any = json.loads(file.read_text(encoding="utf-8")).get("process") or {}
        steps = process if isinstance(process, list) else [process]  # several modules may follow one another
        found = {key: value for step in steps for key, value in (step.get("settings") or {}).items()}
    except (ValueError, AttributeError) as error:
        raise SettingError(f"task.json: cannot be read ({error})") from error
    ours = found.get("medidistill", found)
    unknown = sorted(set(ours) - set(_NAMES)) if "medidistill" in found else []
    if unknown:
        raise SettingError(f"task.json: unknown setting {unknown[0]!r}; known: {', '.join(_NAMES)}")
    return {name: str(ours[name]) for name in _NAMES if name in ours}


def films_of(folder: Path) -> list[Path]:
    """Return the DICOM files in a folder: mercure keeps task.json and tables of tags beside them.

    Symbolic links are left out: they could lead out of the folder.
    """
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()):
        with open(path, "rb") as file:
            if file.read(132)[128:] == b"DICM":
                found.append(path)
    return found


def collect(source: Path, spool: Path) -> int:
    """Copy the DICOM files of `source` into the spool, each once, by the digest of its bytes; return how many are new.

    The names that mercure gives hold identifiers, and do not stay.
    """
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = 0
    for file in films_of(source):
        content = file.read_bytes()
        target = spool / f"{hashlib.sha256(content).hexdigest()[:32]}.dcm"
        if target.exists():
            continue
        part = target.with_suffix(".part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(target)
        new += 1
    return new


def distill(task: Task, films: Path) -> int:
    """De-identify `films`, run, and copy the synthetic images of a released bundle into the target; return the code."""
    work, _, labels = task.path("work"), task.path("key"), task.path("labels")
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _locked(work / ".lock"):
        # one run for each state of the films and labels: the same task again goes on with it
        names = [path.relative_to(films).as_posix() for path in films_of(films)]
        if not names:
            raise SettingError(f"{films}: holds no DICOM file")
        state = hashlib.sha256("\n".join(names).encode())
        state.update(labels.read_bytes())
        run = work / state.hexdigest()[:16]
        out = run / "run"
        run.mkdir(exist_ok=True, mode=0o700)
        code = 0 if (run / "finished").exists() else _make_bundle(task, films, run)
        if code:
            return code
        released = json.loads((out / "bundle" / "recipe.json").read_text(encoding="utf-8"))["privacy"]["released"]
        if not released:
            print("the bundle was not released: nothing is handed on; see the privacy gate", file=sys.stderr)
            return 4
        for file in sorted((out / "bundle" / "dicom").glob("*.dcm")):
            shutil.copy(file, task.target / file.name)
        return 0


def _make_bundle(task: Task, films: Path, run: Path) -> int:
    """De-identify and run, going on where a stopped attempt was; note the end in `run/finished`."""
    clean, out = run / "clean", run / "run"
    if not (run / "deidentified").exists():
        shutil.rmtree(clean, ignore_errors=True)  # half of a stopped attempt
        options = ("--key-file", task.path("key"), "--labels", task.path("labels"))
        code = _medidistill("deidentify", films, clean, *options)
        if code:
            return code
        (run / "deidentified").touch()
    if (out / "run.yaml").exists():
        code = _medidistill("run", "--output", out, "--resume")
    else:
        begin = ("--config", task.settings["config"], "--input", clean / "images")
        code = _medidistill("run", "--output", out, *begin)
    code = code or _medidistill("verify", out / "bundle") or _medidistill("clean", out)
    if code == 0:
        shutil.rmtree(clean)
        (run / "finished").touch()
    return code


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    with open(file, "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _medidistill(*arguments: object) -> int:
    command = os.environ.get("MEDIDISTILL", f"{sys.executable} -m medidistill").split()
    return subprocess.run([*command, *map(str, arguments), "--quiet"], check=False).returncode  # noqa: S603


def main(environment: Mapping[str, str] | None = None) -> int:
    """Do the task of the environment; return the exit code."""
    umask = os.umask(0o077)
    try:
        task = read_task(os.environ if environment is None else environment)
        action = task.settings["action"]
        if action == "collect":
            print(f"collected {collect(task.source, task.path('spool'))} new films")
            return 0
        if action == "run":
            return distill(task, task.source)
        return distill(task, task.path("spool"))
    except SettingError as error:
        print(f"medidistill module: {error}", file=sys.stderr)
        return 2
    finally:
        os.umask(umask)


if __name__ == "__main__":
    sys.exit(main())
