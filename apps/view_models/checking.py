"""The check of a whole folder, and its de-identification: processes of their own, found again by any browser."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from medidistill.errors import ConfigError, IngestError
from medidistill.files import read_json
from view_models import jobs
from view_models.exclusions import exclusions_setting, exclusions_stamp
from view_models.jobs import Job
from view_models.places import Places, free_folder, short_id
from view_models.sources import folder_stamp

__all__ = [
    "Check",
    "Cleaned",
    "deidentified",
    "folder_check",
    "forget_check",
    "start_check",
    "start_deidentifying",
]

_TOLD = {
    "images",
    "patients",
    "set_aside",
    "set_aside_in_all",
    "set_aside_reasons",
    "warned",
    "warned_in_all",
    "warned_reasons",
}
_SCRIPT = Path(__file__).with_name("check_files.py")


@dataclass(frozen=True)
class Check:
    """How the check of a folder stands, and what it found.

    Args:
        job: its process.
        state: `none`, `running`, `failed` or `completed`.
        current: whether no file came or went and no table changed since; a file that is overwritten in place is not
            noticed.
        error: why it failed.
        told: what it found, as `check_files` writes it.
        pictures: thumbnails by name, (rows, columns) uint8. These are patients' images.
    """

    job: Job
    state: str
    current: bool = True
    error: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def classes(self) -> pd.DataFrame:
        """Usable images and patients of each class."""
        return pd.DataFrame(self.told.get("classes", []))

    def fact(self, name: str) -> pd.DataFrame:
        """One fact, for example `view`: value and number of images."""
        counts = self.told.get("facts", {}).get(name, {})
        return pd.DataFrame({name: list(counts), "images": list(counts.values())})

    def reasons(self, which: str) -> pd.DataFrame:
        """Why files were set aside (`set_aside`) or warned of (`warned`), most frequent first."""
        counts = self.told[f"{which}_reasons"]
        return pd.DataFrame({"reason": list(counts), "files": list(counts.values())})


def folder_check(places: Places, source: Path, *, pictures: bool = False) -> Check:
    """Return how the check of a folder stands.

    Args:
        places: where jobs are kept.
        source: the folder.
        pictures: read the thumbnails, too.
    """
    job = Job(_folder(places, source))
    if not job.exists:
        return Check(job, "none")
    if job.is_running():
        return Check(job, "running")
    if job.error():
        return Check(job, "failed", error=job.error())
    output = _output(places, source)
    try:
        told = read_json(output / "check.json")
    except IngestError:
        return Check(job, "none")
    if not isinstance(told, dict) or not told.keys() >= _TOLD:  # damaged, or of an earlier version
        return Check(job, "none")
    stamp = output / "stamp"
    current = stamp.is_file() and stamp.read_text() == _stamp(places, source)
    found = {}
    if pictures and (output / "thumbnails.npz").is_file():
        with np.load(output / "thumbnails.npz", allow_pickle=False) as held:
            found = {name: held[name] for name in held.files}
    return Check(job, "completed", current, told=told, pictures=found)


def start_check(places: Places, source: Path) -> None:
    """Decode every file of a folder. Raises `ConfigError` while that is at work."""
    if folder_check(places, source).state == "running":
        raise ConfigError("these files are being checked already")
    output = _output(places, source)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(mode=0o700, parents=True)
    (output / "stamp").write_text(_stamp(places, source))
    arguments = [str(source), str(output), exclusions_setting(places, source)]
    jobs.start(_folder(places, source), arguments, script=_SCRIPT)


def forget_check(places: Places, source: Path) -> None:
    """Delete what the check of a folder left, thumbnails of patients included."""
    if folder_check(places, source).state != "running":
        shutil.rmtree(_folder(places, source), ignore_errors=True)


def _stamp(places: Places, source: Path) -> str:
    return folder_stamp(source) + exclusions_stamp(places, source)


def _folder(places: Places, source: Path) -> Path:
    return places.jobs / f"check-{short_id(str(source))}"


def _output(places: Places, source: Path) -> Path:
    return _folder(places, source) / "found"


@dataclass(frozen=True)
class Cleaned:
    """How the de-identification of a folder stands.

    Args:
        job: its process.
        state: `none`, `running`, `failed` or `completed`.
        error: why it failed.
        lines: what the command said.
        images: the folder of the de-identified images; None before there is one.
    """

    job: Job
    state: str
    error: str = ""
    lines: tuple[str, ...] = ()
    images: Path | None = None


def deidentified(places: Places, source: Path) -> Cleaned:
    """Return how the de-identification of a folder stands."""
    job = Job(_cleaning(places, source))
    if not job.exists:
        return Cleaned(job, "none")
    if job.is_running():
        return Cleaned(job, "running", lines=tuple(job.lines(1)))
    if job.error():
        return Cleaned(job, "failed", job.error())
    images = Path(job.arguments[2]) / "images" if len(job.arguments) > 2 else None
    if images is None or not images.is_dir():
        return Cleaned(job, "none")
    said = tuple(line for line in job.lines() if not line.startswith("labels: none"))
    return Cleaned(job, "completed", lines=said, images=images)


def start_deidentifying(places: Places, source: Path) -> None:
    """Run `medidistill deidentify` on a folder of DICOM files, into a new folder below the folder of runs.

    The key of the pseudonyms is made once and kept beside the jobs, readable by its owner alone; a table
    `labels.csv` in the folder is carried over.

    Raises:
        ConfigError: it is at work already.
    """
    if deidentified(places, source).state == "running":
        raise ConfigError("these files are being de-identified already")
    parent = places.runs / "deidentified"
    parent.mkdir(mode=0o700, exist_ok=True)
    arguments = ["deidentify", str(source), str(free_folder(parent, source.name)), "--key-file", str(_key(places))]
    if (table := source / "labels.csv").is_file():
        arguments += ["--labels", str(table)]
    jobs.start(_cleaning(places, source), arguments)


def _key(places: Places) -> Path:
    file = places.jobs / "deidentify.key"
    if not file.is_file():
        places.jobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as opened:
            opened.write(secrets.token_hex(32) + "\n")
    return file


def _cleaning(places: Places, source: Path) -> Path:
    return places.jobs / f"deidentify-{short_id(str(source))}"
