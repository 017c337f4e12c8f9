"""Who is at work on what: n processes share a folder, and none does what another is doing.

A claim is a lock on a file. It ends with the process that holds it, however that ends, so nothing is left behind that
a person would have to clear. On a network file system it holds as far as that system's `flock` does.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

__all__ = ["claim"]


@contextlib.contextmanager
def claim(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path`; yield False at once, or with `wait` never, where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
