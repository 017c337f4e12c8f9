"""Unpack a zip file whose maker is not trusted: no way out of the folder, no links, no bomb."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm.auto import tqdm

from medidistill.errors import IngestError, ResourceError
from medidistill.files import translate_os_errors
from medidistill.ingest.file_discovery import is_left_behind
from medidistill.ingest.sources.archive_names import check_readable, is_folder, read_name

__all__ = ["ArchiveLimits", "Unpacked", "check_archive", "unpack"]

_CHUNK = 1 << 20
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes, on common file systems
_DEEPEST = 100  # folders within folders: what removes them again goes down by recursion


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may unpack to.

    Args:
        files: number of files.
        size: bytes in all.
        ratio: bytes for each byte of the archive: deflate reaches 1032, X-rays stay far below.
        free: bytes that are let be whatever the ratio.
    """

    files: int = 1_000_000
    size: int = 1 << 40  # 1 TiB, where the disk would hold it
    ratio: int = 200
    free: int = 64 << 20


@dataclass(frozen=True)
class Unpacked:
    """What came out of an archive.

    Args:
        folder: holds the content.
        refused: (name, reason) of entries that are too long or too deep for a file system.
        guessed: number of entries whose names are neither ASCII nor UTF-8.
    """

    folder: Path
    refused: tuple[tuple[str, str], ...] = ()
    guessed: int = 0


@dataclass(frozen=True)
class _Target:
    number: int
    member: zipfile.ZipInfo
    path: PurePosixPath


def _members(archive: zipfile.ZipFile, name: str, packed: int, limits: ArchiveLimits) -> list[zipfile.ZipInfo]:
    """Return the entries of an archive, after checking what it claims."""
    members = archive.infolist()
    files = sum(not is_folder(member) for member in members)
    if files > limits.files:
        raise IngestError(f"{name}: {files} files in the archive: at most {limits.files}")
    size = sum(member.file_size for member in members)
    if size > limits.size:
        raise IngestError(f"{name}: unpacks to {size} bytes: at most {limits.size}")
    if size > max(limits.free, limits.ratio * packed):
        raise IngestError(
            f"{name}: {packed} bytes claim to unpack to {size}: more than {limits.ratio} times as much; "
            "unpack it yourself if you trust it, and give the folder"
        )
    return members


def _open(source: Path | BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except UnicodeDecodeError as error:
        raise IngestError(f"{name}: not a readable zip file: a name in it is marked as UTF-8 and is not") from error
    except Exception as error:  # a damaged directory raises anything
        raise IngestError(
            f"{name}: not a readable zip file ({type(error).__name__}): it is damaged, cut short, or one part of a "
            "split archive; copy it again"
        ) from error


def _size(source: Path | BinaryIO) -> int:
    if isinstance(source, Path):
        return source.stat().st_size
    return source.seek(0, os.SEEK_END)


def check_archive(path: Path, content: BinaryIO | None = None) -> None:
    """Refuse a zip-like file (zip, npz, xlsx) that claims to unpack to far more than it holds.

    Args:
        path: the file, or what messages call it.
        content: the file open for reading; None: `path` is opened.

    Raises:
        IngestError: too large, or no zip file.
    """
    source = path if content is None else content
    with _open(source, str(path)) as archive:
        _members(archive, str(path), _size(source), ArchiveLimits())


def unpack(
    source: Path | BinaryIO,
    folder: Path,
    *,
    name: str = "",
    limits: ArchiveLimits | None = None,
    progress: bool = False,
) -> Unpacked:
    """Unpack a zip file into a new folder that only its owner can enter.

    What operating systems put into archives (`__MACOSX`, `.DS_Store`, `Thumbs.db`) stays in it.

    Args:
        source: the archive, or a file open for reading.
        folder: a folder that does not exist yet.
        name: what messages call the archive; empty: its path.
        limits: how much it may unpack to.
        progress: show a progress bar on stderr.

    Raises:
        IngestError: no zip file; an entry that leads out, is a link, is encrypted, damaged, packed by an unknown
            method, or there twice; more unpacked than claimed, or far more than the archive is large.
        ResourceError: the folder cannot be written, or the disk does not hold it.
    """
    name = name or str(source)
    packed = _size(source)
    with _open(source, name) as archive:
        members = _members(archive, name, packed, limits or ArchiveLimits())
        targets, guessed = _targets(members, name)
        with translate_os_errors(folder):
            folder.mkdir(mode=0o700, parents=True)
        try:
            _extract_all(archive, [one for one in targets if not _misfit(folder, one.path)], folder, name, progress)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    misfits = ((str(target.path), _misfit(folder, target.path)) for target in targets)
    refused = tuple((path, reason) for path, reason in misfits if reason)
    return Unpacked(folder, refused, guessed)


def _targets(members: list[zipfile.ZipInfo], name: str) -> tuple[list[_Target], int]:
    """Return where each file goes, and how many names had to be guessed; refuse what cannot be unpacked safely."""
    files: dict[str, _Target] = {}
    folders: dict[str, int] = {}
    guessed = 0
    for number, member in enumerate(members, 1):
        where = f"{name}: entry {number} of the archive"
        entry = read_name(member, where)
        check_readable(member, where)
        path = entry.path
        if is_folder(member):
            if member.file_size:
                raise IngestError(f"{where} is a folder that holds bytes; refused as a whole")
            continue
        if not path.parts:
            raise IngestError(f"{where} has no name; refused as a whole")
        if any(is_left_behind(part) for part in path.parts):
            continue
        guessed += entry.guessed
        # names that differ in case, or in how accents are composed, are one file on some file systems
        before = files.setdefault(_folded(path), _Target(number, member, path))
        if before.number != number:
            but = "" if before.path == path else ", but for case or composed letters"
            raise IngestError(f"{where} is there twice (entry {before.number}{but}); refused as a whole")
        for parent in path.parents:
            folders.setdefault(_folded(parent), number)
    for folded, target in files.items():
        if folded in folders:
            raise IngestError(
                f"{name}: entry {target.number} of the archive is a file where entry {folders[folded]} needs a folder; "
                "refused as a whole"
            )
    return list(files.values()), guessed


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _misfit(folder: Path, path: PurePosixPath) -> str:
    """Return error_reason a file cannot be unpacked to `path` in `folder`, empty where it can."""
    parts = [len(part.encode("utf-8", "surrogateescape")) for part in path.parts]
    if max(parts) > _LONGEST_NAME:
        return f"its name is longer than this file system allows ({_LONGEST_NAME} bytes)"
    if len(parts) > _DEEPEST:
        return f"it lies more than {_DEEPEST} folders deep"
    too_long = len(str(folder)) + sum(parts) + len(parts) > _LONGEST_PATH
    return f"its path is longer than this file system allows ({_LONGEST_PATH} bytes)" if too_long else ""


def _extract_all(archive: zipfile.ZipFile, targets: Sequence[_Target], folder: Path, name: str, progress: bool) -> None:
    size, free = sum(one.member.file_size for one in targets), shutil.disk_usage(folder).free
    if size > free:
        raise ResourceError(f"{name}: unpacks to {size} bytes, {free} are free in {folder.parent}")
    with tqdm(
        desc="unpacking", total=size, unit="B", unit_scale=True, file=sys.stderr, disable=not progress, leave=False
    ) as bar:
        for target in targets:
            _extract(archive, target, folder / target.path, name, bar.update)


def _extract(
    archive: zipfile.ZipFile, target: _Target, path: Path, name: str, advance: Callable[[int], object]
) -> None:
    """Write one member, counting what comes out: the claimed size can be a lie."""
    where = f"{name}: entry {target.number} of the archive"
    left = target.member.file_size
    with translate_os_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "xb") as file:
            for chunk in _chunks(archive, target.member, where):
                left -= len(chunk)
                if left < 0:
                    raise IngestError(f"{where} is larger than it claims")
                file.write(chunk)
                advance(len(chunk))


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """Yield the bytes of a member. Raises `IngestError` for whatever the codecs raise, and no `OSError`."""
    try:
        with archive.open(member) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except IngestError:
        raise
    except Exception as error:  # zipfile, zlib, lzma and bz2 raise their own, an OSError among them
        raise IngestError(
            f"{where} is damaged ({_damage(error)}): the archive was changed or cut on its way; copy it again"
        ) from error


def _damage(error: Exception) -> str:
    if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error):
        return "checksum differs"
    return "it ends too early" if isinstance(error, EOFError) else type(error).__name__
