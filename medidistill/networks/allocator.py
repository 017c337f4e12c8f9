"""Keep freed memory in the process.

glibc hands large freed blocks back to the kernel at once, and each new activation then pays for its page
faults again: more than half of an eager network's CPU time. Raising two thresholds stops that.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

__all__ = ["freed_memory_returned", "raise_malloc_thresholds"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 2**31 - 1
_DEFAULT = 128 * 1024  # glibc's own, of both thresholds
_raised = False


def raise_malloc_thresholds() -> bool:
    """Make glibc keep freed memory; return False, without effect, on other C libraries.

    Called once at the start of a program, never on import: it changes the whole process.
    """
    global _raised
    _raised = _set(2**30, _LARGE)
    return _raised


@contextlib.contextmanager
def freed_memory_returned() -> Iterator[None]:
    """Let large freed blocks go back to the kernel inside the block, as without `raise_malloc_thresholds`.

    For work that allocates large blocks and keeps small ones: each small block that is cut from a large freed one makes
    that too small for the next, and the heap grows by a large block for every small one.
    """
    before = _raised
    if before:
        _set(_DEFAULT, _DEFAULT)
    try:
        yield
    finally:
        if before:
            _set(2**30, _LARGE)


def _set(mmap_threshold: int, trim_threshold: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, mmap_threshold)) and bool(mallopt(_M_TRIM_THRESHOLD, trim_threshold))
