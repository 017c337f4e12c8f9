"""Removal of what a finished run keeps of its patients: prepared pixels, caches, trajectories, checkpoints."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from medidistill.errors import ConfigError
from medidistill.files import translate_os_errors
from medidistill.jsontypes import ReadOnlyJsonObject  # stages of a record of any version
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.record import RunRecord

__all__ = ["Removed", "check_not_cleaned", "clean"]


@dataclass(frozen=True)
class Removed:
    """One thing that was removed: its name below the run folder, its size, and what it was."""

    name: str
    bytes: int
    what: str


def clean(folder: RunFolder, *, everything: bool = False) -> list[Removed]:
    """Remove patients' pixels from a run, and with them the way to continue it.

    The distilled sets, the comparison, the report and the bundle stay, and the record notes what went. To go on
    with such a run, `--resume` needs `--input` again.

    Args:
        folder: the run; no process may be working in it.
        everything: also the experts and checkpoints, which hold no image but were computed from images, and the
            predictions for each real image. What is left is what the results need.

    Returns:
        What was removed, in the order of removal.

    Raises:
        ResourceError: a process works in the folder, or a file cannot be removed.
    """
    wanted = [(folder.ingest, "prepared pixels, patient tables, cache")]
    if everything:
        wanted.append((folder.experts, "expert trajectories, computed from patients' images"))
        wanted += [(one, "checkpoint") for one in sorted(folder.path.glob("distill/*/checkpoint.safetensors"))]
        wanted.append((folder.evaluate / "cells", "predictions for each real image"))
        wanted += [(folder.audit / name, "shadow runs of the audit") for name in ("shadows", "work")]
    removed = []
    with folder.locked():
        parts = [(one, "left over from an interrupted write") for one in sorted(folder.path.rglob(".*.part"))]
        for path, what in [*wanted, *parts]:
            if path.exists() or path.is_symlink():
                size = _size(path)
                with translate_os_errors(path):
                    if path.is_dir() and not path.is_symlink():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                removed.append(Removed(path.relative_to(folder.path).as_posix(), size, what))
        _note(folder, removed)
    return removed


def check_not_cleaned(folder: RunFolder, stages: ReadOnlyJsonObject) -> None:
    """Refuse to work on the prepared images of a run that `clean` has removed.

    Args:
        folder: the run.
        stages: of its record.

    Raises:
        ConfigError: with what to do.
    """
    cleaned = stages.get("clean", {})
    if "ingest" in cleaned.get("removed", ()) and not (folder.ingest / "train.safetensors").is_file():
        raise ConfigError(
            f"{folder.path}: the prepared images were removed by `clean` ({cleaned.get('finished', 'time unknown')}); "
            f"start a new run, or name the images with --input: `medidistill run --output {folder.path} --resume "
            "--input DIR` reads them again"
        )


def _note(folder: RunFolder, removed: list[Removed]) -> None:
    if removed and folder.record_file.is_file():
        record = RunRecord.load(folder.record_file)
        record.stage("clean", removed=[one.name for one in removed])
        record.save(folder.record_file)


def _size(path: Path) -> int:
    files = [path] if path.is_file() or path.is_symlink() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.lstat().st_size for one in files)
