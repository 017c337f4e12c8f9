"""A folder that the processes of one test session share: the first that needs it makes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

__all__ = ["made_once"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name` of this session, which `make` has filled; no test may change what is in it.

    The workers of pytest-xdist lie side by side in the folder of their session. One makes, the others wait.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder, done = session / f"{name}_shared", session / f"{name}_shared.done"
    with FileLock(session / f"{name}_shared.lock"):
        if not done.is_file():
            folder.mkdir()  # one that a failed worker has left is not made again in silence
            make(folder)
            done.touch()
    return folder
