"""The folder of an intake: what a PACS has sent, batch by batch, and how far each batch is.

```
ROOT/intake.json               marks the folder, and holds how long a study must be silent
ROOT/spool/, arrivals/, associations/   see `medidistill.ingest.pacs.study_spool`
ROOT/batches/NAME/batch.json   state of a batch
ROOT/batches/NAME/identified/  its studies as they were received
ROOT/batches/NAME/clean/       de-identified copies with their labels
ROOT/batches/NAME/run/         the run folder
ROOT/privacy-ledger.json, release-log.jsonl   of all batches
```

Everything is closed to other users. A state is written after what it stands for is complete: a process that is killed
leaves work to be done again and never half of it for done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medidistill.errors import ConfigError, IngestError, ResourceError
from medidistill.files import private_folder, read_json, translate_os_errors, write_json

__all__ = ["Batch", "BatchState", "IntakeFolder", "remove"]

FORMAT = 1
_MARK = "intake.json"
SETTLE = 600.0  # seconds; a study is sent in seconds to minutes


class BatchState(enum.StrEnum):
    """How far a batch is; each state follows the one above."""

    COLLECTING = "collecting"  # studies are being moved into it
    SETTLED = "settled"
    DEIDENTIFIED = "de-identified"
    RUN = "run"  # its run has finished
    DELIVERED = "delivered"


@dataclass(frozen=True)
class Batch:
    """One batch. Counts and states alone: it is shown to others.

    Args:
        name: of its folder.
        sequence: batches are ordered by it and not by their names, as clocks are set back.
        state: see `BatchState`.
        created: ISO time.
        delivered: ISO time; empty before.
        studies: how many it holds.
        objects: files received.
        images: de-identified copies; None before.
        quarantined: files that were set aside; None before.
        labelled: images that a row of the table names; None before.
        released: whether its bundle passed the privacy gate; None before there is one.
        exit_code: of the last attempt at the next state; 0 where none has failed.
        error: why, in one line without names.
        attempted: digest of the settings and tables of that attempt.
        identified_purged: when the identified copies were removed; empty before.
        clean_purged: when the de-identified copies were.
    """

    name: str
    sequence: int
    state: BatchState
    created: str
    delivered: str = ""
    studies: int = 0
    objects: int = 0
    images: int | None = None
    quarantined: int | None = None
    labelled: int | None = None
    released: bool | None = None
    exit_code: int = 0
    error: str = ""
    attempted: str = ""
    identified_purged: str = ""
    clean_purged: str = ""


@dataclass(frozen=True)
class IntakeFolder:
    """Paths and states below one root."""

    root: Path

    @property
    def batches_folder(self) -> Path:
        """One folder a batch."""
        return self.root / "batches"

    @property
    def ledger(self) -> Path:
        """The ledger that the runs of all batches share."""
        return self.root / "privacy-ledger.json"

    def folder(self, batch: Batch | str) -> Path:
        """The folder of a batch."""
        return self.batches_folder / (batch if isinstance(batch, str) else batch.name)

    def identified(self, batch: Batch) -> Path:
        """Studies as they were received."""
        return self.folder(batch) / "identified"

    def clean(self, batch: Batch) -> Path:
        """What de-identification has written."""
        return self.folder(batch) / "clean"

    def run(self, batch: Batch) -> Path:
        """The run folder."""
        return self.folder(batch) / "run"

    @classmethod
    def create(cls, root: Path) -> IntakeFolder:
        """Make the folder, or open the one that is there.

        Raises:
            ConfigError: it is a file, or holds something else.
            ResourceError: it cannot be written or closed to others.
        """
        folder = cls(Path(root))
        if folder.root.exists() and not folder.root.is_dir():
            raise ConfigError(f"{root}: is a file; name a folder")
        with translate_os_errors(folder.root):
            foreign = folder.root.is_dir() and any(
                not one.name.startswith(f".{_MARK}") for one in folder.root.iterdir()
            )
        if foreign and not folder.is_intake():
            raise ConfigError(f"{root}: not empty and no intake of medidistill; choose a new folder")
        private_folder(folder.root)
        if not folder.is_intake():
            try:
                write_json(folder.root / _MARK, {"format": FORMAT, "settle": SETTLE}, mode=0o600)
            except ResourceError:
                if not folder.is_intake():  # else another process has made it meanwhile, and swept what it found
                    raise
        private_folder(folder.batches_folder)
        return folder

    @classmethod
    def open(cls, root: Path) -> IntakeFolder:
        """Return the intake at `root`. Raises `ConfigError` when there is none."""
        folder = cls(Path(root))
        if not folder.is_intake():
            what = (
                "holds no intake; `medidistill intake listen` makes one" if folder.root.exists() else "no such folder"
            )
            raise ConfigError(f"{root}: {what}")
        return folder

    def is_intake(self) -> bool:
        """Whether this folder is one of an intake."""
        return (self.root / _MARK).is_file()

    @property
    def settle(self) -> float:
        """Seconds of silence after which a study counts as settled; as the last processing had it."""
        return float(read_json(self.root / _MARK).get("settle", SETTLE))

    def sweep(self) -> None:
        """Remove what killed processes had begun to write of the intake's and the batches' states, as the processor."""
        for left in (*self.root.glob(f".{_MARK}.*.part"), *self.batches_folder.glob("*/.*.part")):
            left.unlink(missing_ok=True)

    def keep_settle(self, seconds: float) -> None:
        """Note the seconds of silence, for the status."""
        if seconds != self.settle:
            write_json(self.root / _MARK, {"format": FORMAT, "settle": seconds}, mode=0o600)

    @contextlib.contextmanager
    def locked(self, who: str) -> Iterator[bool]:
        """Give whether this process alone is `who` (receiver, processor); the kernel frees the lock when it dies."""
        path = self.root / f"{who}.lock"
        with translate_os_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(handle, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def at_work(self, who: str) -> bool:
        """Whether a process is `who` now."""
        try:
            with open(self.root / f"{who}.lock", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def batches(self) -> list[Batch]:
        """Return the batches, oldest first. Raises `IngestError` where a state is damaged."""
        files = [path / "batch.json" for path in self.batches_folder.glob("*") if (path / "batch.json").is_file()]
        return sorted((_parse(path) for path in files), key=lambda batch: batch.sequence)

    def batch(self, name: str) -> Batch:
        """Return one batch. Raises `ConfigError` when there is none."""
        path = self.folder(name) / "batch.json"
        if Path(name).name != name or not path.is_file():
            known = ", ".join(batch.name for batch in self.batches()) or "none"
            raise ConfigError(f"{name}: no such batch; known: {known}")
        return _parse(path)

    def save(self, batch: Batch, **changes: Any) -> Batch:
        """Replace the state of a batch and return it. Raises `ResourceError`."""
        changed = dataclasses.replace(batch, **changes)
        write_json(self.folder(batch) / "batch.json", {"format": FORMAT, **dataclasses.asdict(changed)}, mode=0o600)
        return changed


def _parse(path: Path) -> Batch:
    plain = read_json(path)
    try:
        if plain.pop("format") > FORMAT:
            raise IngestError(f"{path}: written by a newer medidistill; upgrade this one")
        return Batch(**{**plain, "state": BatchState(plain["state"])})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IngestError(f"{path}: damaged; restore it from a backup, the batch itself is not affected") from error


def remove(path: Path) -> None:
    """Remove a folder and all below it, where it is there. Raises `ResourceError`."""
    with translate_os_errors(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
