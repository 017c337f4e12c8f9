"""What this process may use of the machine, on Linux and macOS: cores, free memory, the highest memory so far."""

from __future__ import annotations

import resource
import sys

import psutil

__all__ = ["available_cores", "free_memory", "peak_memory", "virtual_memory"]


def available_cores() -> int:
    """Return the CPU cores that this process may use.

    Those it is bound to, where the system binds processes to cores (Linux); else all of the machine.
    """
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):
        return len(process.cpu_affinity())
    return int(psutil.cpu_count() or 1)


def free_memory() -> int:
    """Return the bytes of memory that the machine can hand out without swapping."""
    return int(psutil.virtual_memory().available)


def virtual_memory() -> int:
    """Return the bytes of address space that this process holds."""
    return int(psutil.Process().memory_info().vms)


def peak_memory() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024  # macOS counts bytes, Linux KiB
