"""Find the file that a row of a table names: other systems write paths in other ways."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from medidistill.errors import IngestError
from medidistill.ingest.file_discovery import LEADS_OUT, inside, not_regular

__all__ = ["FileLookup"]

_OEM = ("cp850", "cp852", "cp1252", "cp866")  # what archives hold in names that were read as code page 437


class FileLookup:
    """Finds files below a folder by the path that a table gives.

    Tried in this order: the path as it is; with slashes for backslashes; composed and decomposed letters
    (NFC, NFD); case; names that an archive kept in a code page of Windows. From the second on, a path counts only where
    it fits one file.

    Args:
        source: the folder.
        files: what lies below it.
        allowed: folders outside of it that symbolic links may lead into.
    """

    def __init__(self, source: Path, files: Sequence[Path], allowed: Sequence[str] = ()) -> None:
        self._source, self._root = source, Path(os.path.normpath(source.absolute()))
        self._files, self._allowed = files, allowed

    def find(self, name: str) -> tuple[str, Path]:
        """Return the path relative to the source with forward slashes, and the path itself.

        Raises:
            IngestError: no regular file inside the source.
        """
        outside = ""
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            # `..` is resolved by its letters: what a link would make of it is judged by `inside`
            path = Path(os.path.normpath(self._root / spelled))
            if not path.is_relative_to(self._root):
                outside = "outside the input folder"
                continue
            key = path.relative_to(self._root).as_posix()
            if key in self._known:  # the scan has judged its links
                return key, self._source / key
            try:
                real = inside(self._root, path, self._allowed)
                mode = os.stat(real).st_mode  # noqa: PTH116 (links are resolved)
            except (OSError, ValueError):  # absent; a name that no file system takes
                continue
            except IngestError:
                outside = LEADS_OUT
                continue
            if not stat.S_ISREG(mode):
                raise IngestError(not_regular(mode))
            return key, self._source / key
        for fold, index in self._indices:
            fitting = index.get(fold(os.path.normpath(name.replace("\\", "/"))), ())
            if len(fitting) == 1:
                return self.find(fitting[0])
            if len(fitting) > 1:
                raise IngestError("no such file; but for case or composed letters several fit")
        raise IngestError(outside or "no such file")

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(path.relative_to(self._source).as_posix() for path in self._files)

    @cached_property
    def _indices(self) -> list[tuple[Callable[[str], str], dict[str, tuple[str, ...]]]]:
        keys = sorted(self._known)
        indices: list[tuple[Callable[[str], str], dict[str, tuple[str, ...]]]] = []
        for fold in (_composed, _caseless):
            index: dict[str, list[str]] = defaultdict(list)
            for key in keys:
                index[fold(key)].append(key)
            indices.append((fold, {name: tuple(found) for name, found in index.items()}))
        mojibake: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            for name in set(_meant(key)):
                mojibake[name].append(key)
        indices.append((_composed, {name: tuple(found) for name, found in mojibake.items()}))
        return indices


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _meant(key: str) -> Iterator[str]:
    """Yield the readings of a name, decoded as code page 437, in other code pages."""
    if key.isascii():
        return
    for page in _OEM:
        try:
            yield _composed(key.encode("cp437").decode(page))
        except UnicodeError:
            continue
