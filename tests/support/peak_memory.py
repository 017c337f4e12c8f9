"""The highest memory of a process, for tests and benchmarks."""

from __future__ import annotations

import os
from pathlib import Path

import torch

__all__ = ["Peak"]


class Peak:
    """Memory above what the process held when this was made, bytes: of the GPU where one computes, else resident."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self._before = pages * os.sysconf("SC_PAGE_SIZE")

    def bytes(self) -> int:
        """Return the peak since then; of resident memory, since the process began."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        # not `ru_maxrss`, which counts what the process that started this one had held
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 - self._before
