"""`SHA256SUMS`: what a bundle holds, in a form that `sha256sum -c` reads and that has one spelling only."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from medidistill.errors import IngestError
from medidistill.files import sha256_file

__all__ = [
    "SIGNATURE",
    "SUMS",
    "UNLISTED",
    "file_digest",
    "files_of",
    "folder_problems",
    "listed",
    "read_bounded",
    "sums_text",
]

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.sig"
UNLISTED = frozenset({SUMS, SIGNATURE})
_LINE = re.compile(r"([0-9a-f]{64})  ([^\x00-\x1f\x7f\\]+)")
_LARGEST = 16 * 2**20
_LARGEST_FILE = 8 * 2**30


def read_bounded(path: Path) -> bytes:
    """Return the bytes of a text file of a bundle; never more than 16 MiB, as its input is untrusted.

    Raises:
        IngestError: missing, a link, not a plain file, too large, or not readable.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise IngestError(f"{path}: {'not a plain file' if os.path.lexists(path) else 'no such file'}")
        if path.stat().st_size > _LARGEST:
            raise IngestError(f"{path}: {path.stat().st_size} bytes; a bundle has no more than {_LARGEST} here")
        return path.read_bytes()
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror})") from error


def listed(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return file name -> SHA-256 as `SHA256SUMS` states them, and what is wrong with the list itself.

    Raises:
        IngestError: there is no such list, or it cannot be read.
    """
    text = read_bounded(folder / SUMS).decode("utf-8", errors="replace")
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(f"{SUMS}: line {number} is not 'sha256  name'")
        elif not _inside(match[2]):
            problems.append(f"{SUMS}: line {number} names {match[2]!r}, which is not a file inside the bundle")
        elif match[2] in found:
            problems.append(f"{SUMS}: line {number} names {match[2]!r} again")
        else:
            found[match[2]] = match[1]
    if not found:
        problems.append(f"{SUMS}: lists no file")
    elif not problems and text != _text(found):
        problems.append(f"{SUMS}: changed, its lines are not in the order and form in which they were written")
    folded = Counter(name.casefold() for name in found)
    problems += [
        f"{name}: its name differs from another in case alone" for name in found if folded[name.casefold()] > 1
    ]
    return found, problems


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file of a bundle. Raises `IngestError` when it is too large for one or unreadable."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise IngestError(f"{path}: {path.stat().st_size} bytes; larger than any file of a bundle")
        return sha256_file(path)
    except OSError as error:
        raise IngestError(f"{path}: cannot be read ({error.strerror})") from error


def sums_text(folder: Path) -> str:
    """Return the list of all files below `folder`."""
    return _text({name: sha256_file(folder / name) for name in files_of(folder) if name not in UNLISTED})


def files_of(folder: Path) -> list[str]:
    """Return the names of everything below `folder` that is not a folder with something in it; links not followed."""
    found = []
    for base, folders, files in os.walk(folder, onerror=_unreadable):
        here = Path(base)
        links = [name for name in folders if (here / name).is_symlink()]
        found += [(here / name).relative_to(folder).as_posix() for name in [*files, *links]]
        if not folders and not files and here != folder:
            found.append(f"{here.relative_to(folder).as_posix()}/")
    return sorted(found)


def folder_problems(folder: Path, expected: dict[str, str]) -> list[str]:
    """Return one line for each missing, changed or extra file.

    Args:
        folder: the bundle.
        expected: file name -> SHA-256.
    """
    try:
        found = set(files_of(folder)) - UNLISTED
    except OSError as error:
        return [f"{error.filename}: cannot be read ({error.strerror})"]
    return [
        problem
        for name in sorted(expected.keys() | found)
        if (problem := _problem(folder, name, expected.get(name), name in found))
    ]


def _problem(folder: Path, name: str, digest: str | None, present: bool) -> str:
    if not present:
        return f"{name}: missing"
    if digest is None:
        return (
            f"{name!a}: extra, not listed in {SUMS}"
            if not name.isprintable()
            else f"{name}: extra, not listed in {SUMS}"
        )
    path = folder / name
    if path.is_symlink() or not path.is_file():
        return f"{name}: changed, not a plain file any more"
    try:
        return "" if file_digest(path) == digest else f"{name}: changed"
    except IngestError as error:
        return str(error).replace(str(path), name, 1)


def _inside(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and not {"", ".", ".."} & set(parts) and ":" not in parts[0]


def _text(sums: dict[str, str]) -> str:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def _unreadable(error: OSError) -> None:
    raise error
