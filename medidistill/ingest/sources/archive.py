"""Unpack a zip file whose maker is not trusted: no way out of the folder, no links, no bomb."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from medidistill.errors import IngestError
from medidistill.files import translate_os_errors

__all__ = ["check_archive", "unpack"]

_MOST_FILES = 1_000_000
_MOST_BYTES = 1 << 40  # 1 TiB, where the disk would hold it
_RATIO, _FREE_BYTES = 200, 64 << 20  # deflate reaches 1032: X-rays stay far below, and small archives are let be
_CHUNK = 1 << 20


def _members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """Return the files of an archive, after checking what it claims."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > _MOST_FILES:
        raise IngestError(f"{path}: {len(members)} files in the archive: at most {_MOST_FILES}")
    size = sum(member.file_size for member in members)
    packed = path.stat().st_size
    if size > _MOST_BYTES or size > max(_FREE_BYTES, _RATIO * packed):
        raise IngestError(
            f"{path}: {packed} bytes claim to unpack to {size}: more than {_RATIO} times as much; "
            "unpack it yourself if you trust it, and give the folder"
        )
    return members


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise IngestError(f"{path}: not a readable zip file ({type(error).__name__})") from error


def check_archive(path: Path) -> None:
    """Refuse a zip-like file (zip, npz, xlsx) that claims to unpack to far more than it holds. Raises `IngestError`."""
    with _open(path) as archive:
        _members(archive, path)


def _inside(member: zipfile.ZipInfo, number: int, path: Path) -> PurePosixPath:
    """Return the relative path of a member. Raises `IngestError`, naming it by number: names can be patients'."""
    where = f"{path}: entry {number} of the archive"
    name = member.filename.replace("\\", "/")
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or ":" in name or not inside.parts:
        raise IngestError(f"{where} leads out of the folder; refused as a whole")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise IngestError(f"{where} is a link or a device; refused as a whole")
    if member.flag_bits & 0x1:
        raise IngestError(f"{where} is encrypted; unpack it yourself and give the folder")
    return inside


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a zip file into a new folder that only its owner can enter.

    Args:
        path: the archive.
        folder: a folder that does not exist yet.

    Returns:
        The folder that holds the content: where all of it lies in one sub-folder, that one.

    Raises:
        IngestError: no zip file; an entry that leads out, is a link, is encrypted, damaged, or there twice; more
            unpacked than claimed, or far more than the archive is large.
        ResourceError: the folder cannot be written, or the disk does not hold it.
    """
    with _open(path) as archive, translate_os_errors(folder):
        members = _members(archive, path)
        targets: dict[str, PurePosixPath] = {}
        for number, member in enumerate(members, 1):
            inside = _inside(member, number, path)
            # two names that differ in case are one file on some file systems
            if targets.setdefault(str(inside).casefold(), inside) is not inside:
                raise IngestError(f"{path}: entry {number} of the archive is there twice; refused as a whole")
        folder.mkdir(mode=0o700, parents=True)
        size, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
        if size > free:
            raise IngestError(f"{path}: unpacks to {size} bytes, {free} are free in {folder.parent}")
        for number, (member, inside) in enumerate(zip(members, targets.values(), strict=True), 1):
            _extract(archive, member, folder / inside, f"{path}: entry {number} of the archive")
    inner = list(folder.iterdir())
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else folder


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, where: str) -> None:
    """Write one member, counting what comes out: the claimed size can be a lie."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    left = member.file_size
    with open(target, "xb") as file:
        try:
            stream = archive.open(member)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise IngestError(f"{where} cannot be unpacked ({type(error).__name__})") from error
        with stream:
            while True:
                try:
                    chunk = stream.read(_CHUNK)
                except Exception as error:  # zlib, lzma and bz2 raise their own
                    raise IngestError(f"{where} is damaged ({type(error).__name__})") from error
                if not chunk:
                    break
                left -= len(chunk)
                if left < 0:
                    raise IngestError(f"{where} is larger than it claims")
                file.write(chunk)
