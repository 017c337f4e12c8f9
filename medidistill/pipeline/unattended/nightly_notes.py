"""What is kept of nightly runs: a note on what each has read and how far it is, and the lock that all nights share."""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from medidistill.errors import IngestError
from medidistill.files import private_folder, read_json, translate_os_errors, write_json
from medidistill.ingest.file_discovery import scan_folder

__all__ = ["FOLDER", "Listing", "Note", "Notes", "Progress", "list_inbox", "listing_digest"]

FOLDER = ".nightly"  # in the folder of runs
FORMAT = 1

Listing = dict[str, tuple[int, int]]  # path below the inbox -> size in bytes, time of the last change in nanoseconds


class Progress(enum.StrEnum):
    """How far the run of a night is."""

    READING = "reading"  # the inbox
    READ = "read"  # and at work on what it read
    FINISHED = "finished"  # with patients' pixels still there
    CLOSED = "closed"  # and nothing is left to do
    ABANDONED = "abandoned"  # it cannot be finished, and a later run reads the inbox again


@dataclass(frozen=True)
class Note:
    """What is kept of one run.

    Args:
        name: its folder.
        sequence: runs are ordered by it and not by their names, as clocks are set back.
        progress: how far it is.
        read: digest of the files that were read, see `listing_digest`; empty where that is not known.
        ingested: when ingest finished, as the record of the run says.
        exit_code: of the last process that worked on it; None where it was killed.
    """

    name: str
    sequence: int
    progress: Progress
    read: str = ""
    ingested: str = ""
    exit_code: int | None = None


class Notes:
    """The notes of a folder of runs, one file each, and the lock that all nights share."""

    def __init__(self, runs: Path) -> None:
        self.runs, self._folder = runs, private_folder(runs / FOLDER)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Give whether no other night is at work; the kernel frees the lock when a process dies."""
        with translate_os_errors(self._folder), open(self._folder / "lock", "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            for left in self._folder.glob(".*.part"):
                left.unlink()
            yield True

    def all(self) -> list[Note]:
        """Return the notes, oldest run first."""
        return sorted((self._parse(path) for path in self._folder.glob("*.json")), key=lambda note: note.sequence)

    def holds(self, name: str) -> bool:
        """Whether there is a note of this name."""
        return self._file(name).exists()

    def read(self, name: str) -> Note:
        """Return one note. Raises `IngestError`."""
        return self._parse(self._file(name))

    def write(self, note: Note) -> None:
        """Replace one note. Raises `ResourceError`."""
        write_json(self._file(note.name), {"format": FORMAT, **asdict(note)}, mode=0o600)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _parse(self, path: Path) -> Note:
        plain = read_json(path)
        try:
            if plain.pop("format") > FORMAT:
                raise IngestError(f"{path}: written by a newer medidistill; upgrade this one")
            return Note(**{**plain, "progress": Progress(plain["progress"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IngestError(f"{path}: damaged; remove it, and the inbox is read again") from error


def list_inbox(inbox: Path) -> Listing:
    """Return the files below a folder as ingest finds them, each with its size and the time of its last change."""
    found: Listing = {}
    listing = scan_folder(inbox)
    for path in (*listing.files, *(entry.path for entry in listing.refused)):
        try:
            facts = path.stat()
            found[os.fsdecode(os.fsencode(path.relative_to(inbox)))] = (facts.st_size, facts.st_mtime_ns)
        except OSError:  # a folder that may not be listed, a link to nowhere: ingest names the reason
            found[str(path.relative_to(inbox))] = (-1, -1)
    return found


def listing_digest(listing: Listing) -> str:
    """Return what names a listing without telling a name in it."""
    rows = sorted([name.encode("utf-8", "surrogateescape").hex(), *facts] for name, facts in listing.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
