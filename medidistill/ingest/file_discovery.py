"""File discovery: the files below a folder, and none outside of it, for the scan, label tables and the app's picker.

A symbolic link is judged by its target. One that leaves the folder is not followed, unless it ends below a folder
that the caller allows. Hard links and mounts cannot be distinguished from the folder's own files.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from medidistill.errors import IngestError

__all__ = [
    "LEADS_OUT",
    "Entry",
    "EntryKind",
    "Listing",
    "Refused",
    "find_files",
    "inside",
    "is_left_behind",
    "is_utf8",
    "list_folder",
    "not_regular",
    "relative_name",
    "scan_folder",
]

_LEFT_BEHIND = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("__macosx", "icon\r"),  # macOS; its other names begin with a dot
    *("@eadir", "#recycle", "lost+found"),  # network storage, Linux
}
_SPECIAL_FILES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
LEADS_OUT = "a symbolic link that leads out of the input folder (see ingest.follow_links)"
_DANGLING = "a symbolic link to nothing"
_CYCLE = "a symbolic link that leads to itself"
_NOT_UTF8 = "its name is not valid UTF-8: rename it"
_BELOW_NOT_UTF8 = "the name of its folder is not valid UTF-8: rename the folder"


class EntryKind(StrEnum):
    """What an entry of a folder is, links followed."""

    FILE = "file"
    FOLDER = "folder"
    REFUSED = "refused"


@dataclass(frozen=True)
class Entry:
    """One name in a folder.

    Args:
        path: the folder with the name, as it was reached.
        kind: what it is.
        link: whether it is a symbolic link.
        reason: why it is refused, else empty.
    """

    path: Path
    kind: EntryKind
    link: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Refused:
    """An entry that is not read, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """What lies below a folder.

    Args:
        files: regular files inside the folder with names in UTF-8, sorted.
        refused: links that lead out, pipes, sockets, devices, folders that cannot be listed and names that are not
            valid UTF-8, sorted.
    """

    files: tuple[Path, ...]
    refused: tuple[Refused, ...]


def not_regular(mode: int) -> str:
    """Return the reason to show for something of this mode (`st_mode`) that is no regular file."""
    kind = "a folder" if stat.S_ISDIR(mode) else _SPECIAL_FILES.get(stat.S_IFMT(mode), "unknown")
    return f"not a regular file ({kind})"


def is_left_behind(name: str) -> bool:
    """Return whether a file or folder is hidden, or left by an operating system or office program."""
    return name.startswith((".", "~$")) or name.lower() in _LEFT_BEHIND


def relative_name(path: Path, root: Path) -> str:
    r"""Return the path below `root` with forward slashes, as text that any file can hold.

    Bytes that are not valid UTF-8 are written as escapes (``M\xfcller.dcm``).
    """
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def inside(root: Path, path: Path, allowed: Sequence[str] = ()) -> Path:
    """Return `path` with every symbolic link resolved.

    Args:
        root: the folder that it must not leave, links resolved.
        path: what to look at; it need not exist.
        allowed: further folders that links may lead into.

    Raises:
        IngestError: it ends outside of `root` and of every folder in `allowed`.
    """
    found = os.path.realpath(path)
    for folder in (str(root), *allowed):
        if _below(found, os.path.realpath(folder)):
            return Path(found)
    # the path as written lies below the root: a link led out of it
    here, top = (os.path.normpath(one.absolute()) for one in (path, root))
    raise IngestError(LEADS_OUT if _below(here, top) else "outside the input folder")


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def list_folder(folder: Path, root: Path, allowed: Sequence[str] = ()) -> Iterator[Entry]:
    """Yield the entries of one folder by name, each judged by where it ends.

    Args:
        folder: a folder inside `root`.
        root: the folder that no link may leave.
        allowed: further folders that links may lead into.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as names:
        entries = sorted(names, key=lambda entry: entry.name)
    for entry in entries:
        yield _classify(entry, Path(folder, entry.name), root, allowed)


def _classify(entry: os.DirEntry[str], path: Path, root: Path, allowed: Sequence[str]) -> Entry:
    try:
        link = entry.is_symlink()
        if link:
            inside(root, path, allowed)
        if entry.is_dir():
            return Entry(path, EntryKind.FOLDER, link)
        if entry.is_file():
            return Entry(path, EntryKind.FILE, link)
        mode = entry.stat().st_mode  # of the target: raises where there is none
        return Entry(path, EntryKind.REFUSED, link, not_regular(mode))
    except IngestError as error:
        return Entry(path, EntryKind.REFUSED, True, str(error))
    except OSError as error:
        if entry.is_symlink():
            reason = _CYCLE if error.errno == errno.ELOOP else _DANGLING
            return Entry(path, EntryKind.REFUSED, True, reason)
        return Entry(path, EntryKind.REFUSED, False, f"cannot be inspected ({error.strerror})")


def scan_folder(folder: Path, *, skip_system: bool = False, allowed: Sequence[str] = ()) -> Listing:
    """List what lies below a folder, at any depth; each folder is entered once, so that a cycle of links ends.

    Args:
        folder: where to look. Nothing outside of it is opened or listed.
        skip_system: leave out hidden files and folders, and what operating systems leave behind.
        allowed: further folders that links may lead into (`IngestConfig.follow_links`).
    """
    root = Path(folder)
    files: list[Path] = []
    refused: list[Refused] = []
    entered: set[tuple[int, int]] = set()
    links: list[Path] = []  # entered after the folders themselves: so that a folder is listed under its own name
    waiting = [root]
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        try:
            status = os.stat(here)  # noqa: PTH116 (the links of this path were judged when it was found)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = list(list_folder(here, root, allowed))
        except OSError as error:
            refused.append(Refused(here, f"the folder cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            if skip_system and is_left_behind(entry.path.name):
                continue
            if entry.kind is EntryKind.FOLDER:
                (links if entry.link else waiting).append(entry.path)
            elif entry.kind is EntryKind.REFUSED:
                refused.append(Refused(entry.path, entry.reason))
            elif wrong := _undecodable(entry.path, root):
                refused.append(Refused(entry.path, wrong))
            else:
                files.append(entry.path)
    return Listing(tuple(sorted(files)), tuple(sorted(refused, key=lambda one: one.path)))


def _undecodable(path: Path, root: Path) -> str:
    """Return why the name of a file below the root cannot be written into a table, empty where it can."""
    parts = path.relative_to(root).parts
    if not is_utf8(parts[-1]):
        return _NOT_UTF8
    return "" if all(map(is_utf8, parts)) else _BELOW_NOT_UTF8


def is_utf8(name: str) -> bool:
    """Return whether the bytes of a name are valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
        return False
    return True


def find_files(folder: Path, *, skip_system: bool = False) -> list[Path]:
    """Return the regular files below a folder, sorted; what `scan_folder` refuses is left out."""
    return list(scan_folder(folder, skip_system=skip_system).files)
