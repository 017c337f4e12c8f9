"""A spool by study, and when a study has settled: no association that sent of it is open, and it has been silent.

```
ROOT/spool/STUDY/OBJECT.dcm    what was received; both names are hashes of identifiers
ROOT/arrivals/STUDY.json       when the last object came, and hashes of the accession numbers
ROOT/associations/NUMBER       studies that an association has sent of; locked by the receiver while it is open
```

The receiver and the consumer of studies are different processes. Time is that of the running system since it was
started, which no correction of the clock moves; a study that came before a restart has been silent at least since then.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medidistill.errors import IngestError
from medidistill.files import private_folder, read_json, translate_os_errors, write_bytes, write_json
from medidistill.ingest.pacs.spool import Spool, object_name

__all__ = ["Arrival", "StudySpool", "WaitingStudy", "accession_name", "list_spool", "take_study", "taking"]

_LOCK = "spool.lock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Arrival(enum.StrEnum):
    """Where a study in the spool stands."""

    ARRIVING = "arriving"  # an association that has sent of it is open
    SETTLING = "settling"  # it has not been silent for long enough
    SETTLED = "settled"


@dataclass(frozen=True)
class WaitingStudy:
    """A study in the spool.

    Args:
        name: of its folder.
        state: see `Arrival`.
        silent: seconds since its last object came.
        objects: names of its objects, without suffix.
        bytes: size of all of them.
        accessions: hashes of its accession numbers; None where they were not written down.
    """

    name: str
    state: Arrival
    silent: float
    objects: tuple[str, ...]
    bytes: int
    accessions: frozenset[str] | None


def accession_name(number: str) -> str:
    """Return what stands for an accession number outside of the images."""
    return hashlib.sha256(f"accession\x1f{number.strip()}".encode()).hexdigest()[:32]


class StudySpool(Spool):
    """Takes objects into one folder a study below `root`, see the module.

    Args:
        root: of an intake; one receiver works on it at a time.

    Raises:
        ConfigError: it is a file.
        ResourceError: it cannot be written.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root / "spool")
        self.root = root
        private_folder(root / "arrivals")
        private_folder(root / "associations")
        self._open: dict[int, IO[bytes]] = {}
        self._sent: dict[int, set[str]] = {}

    def add(self, uid: str, data: bytes, sender: int = 0) -> Path:
        """Write one object into the folder of its study.

        Args:
            uid: SOP Instance UID.
            data: a DICOM file.
            sender: number of the association.

        Raises:
            ResourceError: it cannot be written, or the disk is nearly full.
        """
        self.check_room(len(data))
        study, accession = _identify(data)
        with _locked(self.root, fcntl.LOCK_SH):
            self._note_sender(sender, study)
            folder = private_folder(self.folder / study)
            self._note_arrival(study, accession)
            path = folder / f"{object_name(uid)}.dcm"
            write_bytes(path, data, mode=0o600)
        self.counted()
        return path

    def closed(self, sender: int) -> None:
        """Take note that an association has ended, in whatever way."""
        file = self._open.pop(sender, None)
        self._sent.pop(sender, None)
        if file is not None:
            Path(os.fsdecode(file.name)).unlink(missing_ok=True)
            file.close()

    def _note_sender(self, sender: int, study: str) -> None:
        sent = self._sent.setdefault(sender, set())
        if study in sent:
            return
        path = self.root / "associations" / f"{os.getpid()}-{sender}"
        with translate_os_errors(path):
            if sender not in self._open:
                file = open(path, "ab", opener=_opener)  # noqa: SIM115 (held while the association is open)
                fcntl.flock(file, fcntl.LOCK_EX)
                self._open[sender] = file
            self._open[sender].write(f"{study}\n".encode())
            self._open[sender].flush()
        sent.add(study)

    def _note_arrival(self, study: str, accession: str) -> None:
        path = self.root / "arrivals" / f"{study}.json"
        known = _read_arrival(path).get("accessions") or []
        accessions = sorted({*known, accession_name(accession)}) if accession else known
        write_json(path, {**_now(), "accessions": accessions}, mode=0o600)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _identify(data: bytes) -> tuple[str, str]:
    """Return the name of the study that a DICOM file belongs to, and its accession number."""
    import pydicom

    from medidistill.ingest.silence_pydicom import silence_pydicom

    try:
        with silence_pydicom():
            header = pydicom.dcmread(
                io.BytesIO(data), stop_before_pixels=True, specific_tags=["StudyInstanceUID", "AccessionNumber"]
            )
            study, accession = (str(header.get(name, "") or "") for name in ("StudyInstanceUID", "AccessionNumber"))
    except Exception:  # noqa: BLE001 (de-identification will report and exclude it)
        study, accession = "", ""
    # an object without a study counts as one of its own
    named = f"study\x1f{study}".encode() if study else b"object\x1f" + data
    return hashlib.sha256(named).hexdigest()[:32], accession


@contextlib.contextmanager
def _locked(root: Path, kind: int) -> Iterator[None]:
    with translate_os_errors(root / _LOCK), open(root / _LOCK, "ab", opener=_opener) as file:
        fcntl.flock(file, kind)
        yield


def list_spool(root: Path, settle: float) -> list[WaitingStudy]:
    """Return the studies in the spool of an intake by name; changes nothing.

    Args:
        root: of the intake.
        settle: seconds of silence after which a study that no association is sending counts as settled.
    """
    sending = _being_sent(root)
    found = []
    for folder in sorted(path for path in (root / "spool").glob("*") if path.is_dir()):
        files = sorted(folder.glob("*.dcm"))
        arrival = _read_arrival(root / "arrivals" / f"{folder.name}.json")
        silent = _silence(arrival) if arrival else 0.0
        state = Arrival.SETTLED if silent >= settle else Arrival.SETTLING
        accessions = arrival.get("accessions")
        found.append(
            WaitingStudy(
                folder.name,
                Arrival.ARRIVING if folder.name in sending else state,
                silent,
                tuple(path.stem for path in files),
                sum(path.stat().st_size for path in files),
                None if accessions is None else frozenset(accessions),
            )
        )
    return found


@contextlib.contextmanager
def taking(root: Path) -> Iterator[None]:
    """Let no object be written inside the block; a receiver waits. Sweeps what killed processes left.

    A study without a note of its arrival, as one that was put there by hand, begins its silence now.
    """
    with _locked(root, fcntl.LOCK_EX):
        for folder in ("spool", "arrivals", "associations"):
            for left in (root / folder).rglob(".*.part"):
                left.unlink(missing_ok=True)
        for path in (root / "associations").glob("*"):
            if not _is_open(path):
                path.unlink(missing_ok=True)  # its receiver is gone
        names = {path.name for path in (root / "spool").glob("*") if path.is_dir()}
        for note in (root / "arrivals").glob("*.json"):
            if note.stem not in names:
                note.unlink(missing_ok=True)
        for name in names:
            path = root / "arrivals" / f"{name}.json"
            if not _read_arrival(path):
                write_json(path, _now(), mode=0o600)
        yield


def take_study(root: Path, name: str, target: Path) -> None:
    """Move a study out of the spool into the folder `target`, inside `taking`. Raises `ResourceError`."""
    with translate_os_errors(target / name):
        (root / "spool" / name).rename(target / name)
    (root / "arrivals" / f"{name}.json").unlink(missing_ok=True)


def _being_sent(root: Path) -> set[str]:
    """Return the studies that open associations have sent of."""
    found: set[str] = set()
    for path in (root / "associations").glob("*"):
        if _is_open(path):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                found |= set(path.read_text().split())
    return found


def _is_open(association: Path) -> bool:
    """Whether a receiver holds the lock of an association's file."""
    try:
        with open(association, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _now() -> dict[str, Any]:
    return {"boot": _boot_id(), "at": _running_time()}


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def _running_time() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _silence(arrival: dict[str, Any]) -> float:
    """Return a lower limit of the seconds since an object came."""
    now = _running_time()
    if arrival["boot"] == _boot_id() and arrival["at"] <= now:
        return float(now - arrival["at"])
    return now


def _read_arrival(path: Path) -> dict[str, Any]:
    """Return the note of an arrival; empty where there is none, or it is damaged."""
    try:
        note = read_json(path)
    except IngestError:
        return {}
    whole = isinstance(note, dict) and isinstance(note.get("at"), int | float) and isinstance(note.get("boot"), str)
    return note if whole else {}
