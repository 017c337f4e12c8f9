"""A new folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from medidistill.errors import ArgumentError
from medidistill.files import publish_folder, translate_os_errors

__all__ = ["new_folder"]


@contextlib.contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """Give a hidden folder to fill beside `path`, which gets that name at the end.

    Raises:
        ArgumentError: something is there already; nothing is overwritten.
        ResourceError: it cannot be written; nothing is left behind.
    """
    target = Path(path)
    if os.path.lexists(target):
        raise ArgumentError("folder", repr(str(target)), "new", "nothing is overwritten")
    with translate_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
        try:
            yield partial
            publish_folder(partial)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
