"""Keep freed memory in the process.

glibc hands large freed blocks back to the kernel at once, and each new activation then pays for its page
faults again: more than half of an eager network's CPU time. Raising two thresholds stops that.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["raise_malloc_thresholds"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = 2**31 - 1


def raise_malloc_thresholds() -> bool:
    """Make glibc keep freed memory; return False, without effect, on other C libraries.

    Called once at the start of a program, never on import: it changes the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, 2**30)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGE))
