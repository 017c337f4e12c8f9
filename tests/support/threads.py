"""Threads that a test must not leave behind."""

from __future__ import annotations

import threading
from collections.abc import Iterable

__all__ = ["assert_threads_end"]

_PATIENCE = 15  # seconds


def assert_threads_end(before: Iterable[threading.Thread]) -> None:
    """Check that threads which were not there `before`, and would hold the end of the process, end by themselves."""
    for thread in (one for one in set(threading.enumerate()) - set(before) if not one.daemon):
        thread.join(_PATIENCE)
        assert not thread.is_alive(), thread
