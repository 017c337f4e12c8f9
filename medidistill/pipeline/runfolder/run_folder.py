"""The folder of one run: where each stage writes, when it may be written into, its permissions and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medidistill.config import RunConfig
from medidistill.errors import ConfigError, IngestError, ResourceError
from medidistill.files import (
    close_folder,
    private_folder,
    private_umask,
    read_json,
    translate_os_errors,
    write_json,
    write_text,
)
from medidistill.pipeline.config_io.config_file import HEADER, differences, dump_config, load_config
from medidistill.pipeline.stages import STAGES

__all__ = ["RunFolder", "refused_changes"]

_STAGE_ENTRIES = {"export": ("bundle",), "report": ("report.html", "summary.pdf")}  # others: a folder of their name
_MANAGED_ENTRIES = (
    "record.json",
    "provenance.json",
    "release-check.json",
    "verdict.json",
    *(entry for kind in STAGES for entry in _STAGE_ENTRIES.get(kind, (kind,))),
    "status.json",
    "events.jsonl",
    ".lock",
    "run.yaml",
)
_SOURCE = "source.json"  # in the ingest folder
_LOCK_TIMEOUT_S = 2.0  # whoever reads the status holds the lock for an instant


@dataclass(frozen=True)
class RunFolder:
    """Paths below one output folder.

    `ingest` holds patients' pixels, and what the other stages write was computed from them. So the folder is closed
    to everybody but its owner (folders 0700, files 0600), whatever the umask; `bundle` alone, which is made to leave,
    has the modes that the umask asks for.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / "run.yaml"

    @property
    def record_file(self) -> Path:
        """What the run did: versions, digests, figures, openings of the test split."""
        return self.path / "record.json"

    @property
    def ingest(self) -> Path:
        """Prepared real images, manifest and quarantine list; mode 0700."""
        return self.path / "ingest"

    @property
    def experts(self) -> Path:
        """Expert trajectories."""
        return self.path / "experts"

    @property
    def explained(self) -> Path:
        """Grad-CAM on test images of patients: a page, its picture, its cases."""
        return self.ingest / "explained"

    def distill(self, method: str) -> Path:
        """Distilled set, history and checkpoint of one method."""
        return self.path / "distill" / method

    @property
    def evaluate(self) -> Path:
        """Cells of the comparison and its tables."""
        return self.path / "evaluate"

    @property
    def audit(self) -> Path:
        """What attacks found, and the shadow runs behind it; mode 0700."""
        return self.path / "audit"

    @property
    def provenance(self) -> Path:
        """What touched patients, and by which mechanism."""
        return self.path / "provenance.json"

    @property
    def verdict(self) -> Path:
        """Whether the set that is delivered may stand in for the real X-rays, see `medidistill.evaluate.verdict`."""
        return self.path / "verdict.json"

    @property
    def release_check(self) -> Path:
        """Which rules of the gate the counts of the run cannot resolve."""
        return self.path / "release-check.json"

    @property
    def bundle(self) -> Path:
        """What may leave the hospital."""
        return self.path / "bundle"

    @property
    def report(self) -> Path:
        """The self-contained HTML page."""
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """The verdict and its figures on one page of PDF."""
        return self.path / "summary.pdf"

    @property
    def status_file(self) -> Path:
        """How the work stands, see `medidistill.pipeline.runfolder.journal`."""
        return self.path / "status.json"

    @property
    def events_file(self) -> Path:
        """What happened, one JSON object a line."""
        return self.path / "events.jsonl"

    def holds_run(self) -> bool:
        """Whether this folder was made by medidistill."""
        try:
            with open(self.config_file, encoding="utf-8") as file:
                return file.readline() == HEADER
        except (OSError, UnicodeDecodeError):
            return False

    def has_finished_stages(self) -> bool:
        """Whether anything of this run is done, so that its input and configuration are settled."""
        from medidistill.record import RunRecord  # its imports take a while, and most uses of a folder need none

        if not self.record_file.is_file():
            return False
        try:
            return bool(RunRecord.load(self.record_file).stages)
        except IngestError:
            return True  # damaged: nothing may be changed on its word

    @classmethod
    def create(
        cls,
        path: Path,
        config: RunConfig,
        *,
        resume: bool = False,
        force: bool = False,
        source: Path | None = None,
    ) -> RunFolder:
        """Start a run folder, or continue one.

        Args:
            path: the output folder; must be absent or empty without `resume` or `force`.
            config: the resolved configuration, written as `run.yaml`.
            resume: continue the run that the folder holds; once a stage has finished, its configuration must be the
                same, but for more outer steps, more experts, another distance of checkpoints, other Grad-CAM pictures
                and another method to deliver.
            force: remove the results of the run that the folder holds, and only those.
            source: folder of images that a new run reads, or one of which no stage has finished; noted first, so that
                `resume` need not be told.

        Raises:
            ConfigError: the folder is in use, foreign, or holds a run with another configuration.
            ResourceError: it cannot be written.
        """
        folder = cls(Path(path))
        if folder.path.exists() and not folder.path.is_dir():
            raise ConfigError(f"--output {path}: is a file; name a folder")
        with translate_os_errors(folder.path):
            occupied = folder.path.is_dir() and any(not _is_start_residue(one) for one in folder.path.iterdir())
        if occupied and not folder.holds_run():
            raise ConfigError(
                f"--output {path}: not empty and not a medidistill run; choose a new folder (it is left untouched)"
            )
        if occupied and force:
            folder._clear()
        elif occupied and resume:
            before, begun = load_config(folder.config_file), folder.has_finished_stages()
            changed = refused_changes(before, config) if begun else []
            if changed:
                raise ConfigError(
                    f"--resume: the configuration differs from {folder.config_file} in {'; '.join(changed)}; "
                    "use the old value, another --output, or --force to start again"
                )
            moved = source is not None and not begun and source.resolve() != folder.noted_source()
            if before != config or moved:
                with folder.locked():
                    if source is not None and moved:
                        folder.note_source(source)
                    write_text(folder.config_file, dump_config(config))
            return folder
        elif occupied:
            raise ConfigError(
                f"--output {path}: already holds a run; --resume continues it, --force starts again and deletes it"
            )
        private_folder(folder.path)
        with folder.locked():
            if folder.holds_run():  # somebody else began here since we looked
                raise ConfigError(f"--output {path}: another process has just started a run there")
            if source is not None:
                folder.note_source(source)
            write_text(folder.config_file, dump_config(config))
        return folder

    def note_source(self, source: Path) -> None:
        """Keep where the images lie, in the folder that is for patient data. Raises `ResourceError`."""
        private_folder(self.ingest)
        write_json(self.ingest / _SOURCE, {"source": str(source.resolve())}, mode=0o600)

    def noted_source(self) -> Path | None:
        """Return where the images of this run lie, None where nobody said so. Raises `IngestError`."""
        note = self.ingest / _SOURCE
        return Path(read_json(note)["source"]) if note.is_file() else None

    @classmethod
    def open(cls, path: Path, *, option: str = "") -> RunFolder:
        """Return the run folder at `path`.

        Args:
            path: the folder.
            option: the option that named it, for the message; empty where it stood alone on the command line.

        Raises:
            ConfigError: there is none.
            ResourceError: it may not be read.
        """
        folder, named = cls(Path(path)), f"{option} {path}".strip()
        if folder.holds_run():
            return folder
        try:
            with open(folder.config_file, "rb"):
                pass
        except PermissionError as error:
            raise ResourceError(
                f"{named}: permission denied; the folder of a run is open to its owner alone"
            ) from error
        except OSError:
            if not folder.path.exists():
                raise ConfigError(f"{named}: no such folder; name the folder of a run") from None
            if not folder.path.is_dir():
                raise ConfigError(f"{named}: is a file; name the folder of a run") from None
        raise ConfigError(f"{named}: holds no medidistill run; start one with `medidistill ingest` or `run`")

    def close(self) -> None:
        """Close what an earlier version, a copy or another program left open to others. Raises `ResourceError`."""
        close_folder(self.path, but=self.bundle)

    def remove(self) -> None:
        """Delete the run; the folder goes too, unless it holds something else.

        Raises:
            ResourceError: a process works in the folder, or it cannot be deleted.
        """
        self._clear()
        with translate_os_errors(self.path), contextlib.suppress(OSError):
            self.path.rmdir()

    def _clear(self) -> None:
        with self.locked(), translate_os_errors(self.path):
            for name in _MANAGED_ENTRIES:
                child = self.path / name
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child)
                else:
                    child.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Keep other processes out of this folder inside the block; the kernel frees it when a process dies.

        What the process writes inside the block is readable by its owner alone, see `private_umask`.

        Args:
            shared: let others in that share too; for processes that write different files.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(private_umask())
            with translate_os_errors(self.path / ".lock"):
                file = stack.enter_context(open(self.path / ".lock", "a"))
            until = time.monotonic() + _LOCK_TIMEOUT_S
            while not _try_lock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
                if time.monotonic() > until:
                    raise ResourceError(f"{self.path}: another medidistill process is working in this folder")
                time.sleep(0.05)
            yield

    def at_work(self) -> bool:
        """Whether a process holds the lock of this folder now."""
        try:
            with open(self.path / ".lock") as file:
                return not _try_lock(file, fcntl.LOCK_SH)
        except OSError:
            return False

    def remove_entry(self, path: Path) -> None:
        """Remove a file or folder of this run, where it is there. Raises `ResourceError`."""
        with translate_os_errors(path):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a killed process was writing; call it with the lock held."""
        for path in sorted(self.path.rglob(".*.part"), reverse=True):
            self.remove_entry(path)


def _is_start_residue(path: Path) -> bool:
    """Whether `path` is all that a start which was killed at once leaves."""
    if path.name == "ingest" and path.is_dir() and not path.is_symlink():
        return all(one.name == _SOURCE or one.name.startswith(f".{_SOURCE}.") for one in path.iterdir())
    return path.name == ".lock" or (path.name.startswith(".run.yaml.") and path.name.endswith(".part"))


def refused_changes(before: RunConfig, now: RunConfig) -> list[str]:
    """Return one `key: old -> new` for each setting that a run cannot be continued with."""
    allowed = _resumable_changes(before, now)
    return [line for line in differences(before, now) if line.partition(":")[0] not in allowed]


def _resumable_changes(before: RunConfig, now: RunConfig) -> set[str]:
    """Return the settings that a continued run may have changed: what is done stays valid, and machines differ."""
    grown = {"distill.checkpoint_every", "evaluate.saliency.arms", "evaluate.saliency.cases"}
    grown |= {"threads", "device", "deterministic", "memory_check", "privacy.release_check", "deliver"}
    if before.privacy.ledger and not Path(before.privacy.ledger).is_absolute():  # nothing was released with that
        grown.add("privacy.ledger")
    if now.distill.outer_steps > before.distill.outer_steps:
        grown.add("distill.outer_steps")
    if now.experts.count > before.experts.count:
        grown.add("experts.count")
    return grown


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
