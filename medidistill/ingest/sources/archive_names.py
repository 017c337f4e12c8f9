"""Names of the entries of a zip file, as the many programs that write them mean them.

Source: PKWARE APPNOTE 6.3.10, 4.4.4 (bit 11), 4.4.17, 4.6.9 (Info-ZIP Unicode Path) and appendix D.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from medidistill.errors import IngestError

__all__ = ["EntryName", "check_readable", "is_folder", "read_name"]

_UTF8, _ENCRYPTED = 0x800, 0x1  # general purpose flags
_UNICODE_PATH = 0x7075
_MS_DOS_FOLDER = 0x10
_DRIVE = re.compile(r"[A-Za-z]:")  # of Windows: absolute, or relative to where that drive stands
_READ = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 97: "WavPack", 98: "PPMd", 99: "AES"}


@dataclass(frozen=True)
class EntryName:
    """The path of an entry.

    Args:
        path: relative, with forward slashes.
        guessed: whether its bytes are neither ASCII nor UTF-8, so that a code page had to be assumed (437).
    """

    path: PurePosixPath
    guessed: bool = False


def read_name(member: zipfile.ZipInfo, where: str) -> EntryName:
    """Return the path of an entry; backslashes part folders, as PowerShell 5 and .NET before 4.6.1 write them.

    Args:
        member: the entry.
        where: what a message calls it.

    Raises:
        IngestError: the path is absolute or leads out of the folder.
    """
    text, guessed = _decoded(member)
    name = text.replace("\\", "/")
    path = PurePosixPath(name)
    if name.startswith("/") or _DRIVE.match(name) or ".." in path.parts:
        raise IngestError(f"{where} leads out of the folder; refused as a whole")
    return EntryName(path, guessed)


def _decoded(member: zipfile.ZipInfo) -> tuple[str, bool]:
    text = member.orig_filename.partition("\0")[0]
    if member.flag_bits & _UTF8 or text.isascii():
        return text, False
    try:
        raw = text.encode("cp437")  # what the library decoded it from
    except UnicodeEncodeError:  # an entry that this process made itself
        return text, False
    name = _unicode_path(member.extra, raw)
    if name:
        return name, False
    try:
        return raw.decode(), False  # macOS and many Unix programs write UTF-8 without the flag
    except UnicodeDecodeError:
        return text, True


def _unicode_path(extra: bytes, raw: bytes) -> str:
    """Return the name of an Info-ZIP Unicode Path field that belongs to these bytes, empty where there is none."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        body, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(body) > 5 and body[0] == 1:
            if struct.unpack_from("<I", body, 1)[0] != zlib.crc32(raw):
                return ""  # the entry was renamed by a program that does not know the field
            return body[5:].decode("utf-8", "replace").partition("\0")[0]
    return ""


def is_folder(member: zipfile.ZipInfo) -> bool:
    r"""Return whether an entry is a folder: its name ends with a slash or backslash, or its attributes say so."""
    if member.orig_filename.endswith(("/", "\\")):
        return True
    attributes = member.external_attr & _MS_DOS_FOLDER or stat.S_ISDIR(member.external_attr >> 16)
    return bool(attributes) and member.file_size == 0


def check_readable(member: zipfile.ZipInfo, where: str) -> None:
    """Refuse an entry that is no file, is encrypted, or is packed by a method that cannot be read here.

    Raises:
        IngestError: the reason.
    """
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise IngestError(f"{where} is a link or a device; refused as a whole")
    if member.flag_bits & _ENCRYPTED:
        raise IngestError(f"{where} is encrypted; unpack it yourself and give the folder")
    if member.compress_type not in _READ:
        method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise IngestError(
            f"{where} is packed by {method}, which is not read here; unpack it yourself and give the folder"
        )
