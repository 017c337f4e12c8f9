"""What this process may use of the machine, on Linux and macOS: cores, free memory, the highest memory so far."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil

__all__ = ["available_cores", "free_memory", "peak_memory", "virtual_memory"]

_STATUS = Path("/proc/self/status")


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
    """Return the highest resident memory of this process so far, in bytes.

    Linux says it in `/proc`; `ru_maxrss` counts there what the process that started this one had held, too.
    """
    if _STATUS.is_file():
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024  # macOS counts bytes, others KiB
