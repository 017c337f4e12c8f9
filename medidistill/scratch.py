"""Tensors that may be larger than memory: in a file without a name, of which the system keeps in memory what is used.

The file is in a folder of the caller, not in the system's temporary folder, which is memory itself on some machines.
It has no name from the beginning, so that nothing is left whatever ends the process.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from medidistill.files import translate_os_errors

__all__ = ["MOST_IN_MEMORY", "mapped", "scratch_tensor"]

MOST_IN_MEMORY = 2**30  # bytes of one tensor
_ROWS = 256
_FLOAT = 4


def scratch_tensor(shape: tuple[int, ...], folder: Path | None) -> Tensor:
    """Return a float32 tensor with arbitrary content, in a file where it takes more than `MOST_IN_MEMORY`.

    Args:
        shape: of the tensor.
        folder: an existing folder, private where the content is; None: memory, whatever the size.

    Raises:
        ResourceError: the disk has no room for it.
    """
    size = _FLOAT * math.prod(shape)
    if folder is None or size <= MOST_IN_MEMORY:
        return torch.empty(shape)
    with translate_os_errors(folder), tempfile.NamedTemporaryFile(dir=folder, prefix=".scratch-") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a crash when a page is written
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            os.ftruncate(file.fileno(), size)
        return torch.from_file(file.name, shared=True, size=math.prod(shape), dtype=torch.float32).view(shape)


def mapped(function: Callable[[Tensor], Tensor], rows: Tensor, folder: Path | None) -> Tensor:
    """Return `function(rows)` as a scratch tensor where it is large, computed some rows at a time.

    Args:
        function: maps (N, ...) to (N, ...) float32, each row by itself.
        rows: (N, ...), N >= 1 where it is large.
        folder: see `scratch_tensor`.
    """
    if folder is None or _FLOAT * rows.numel() <= MOST_IN_MEMORY:
        return function(rows)
    found: Tensor | None = None
    for first in range(0, len(rows), _ROWS):
        part = function(rows[first : first + _ROWS])
        if found is None:
            found = scratch_tensor((len(rows), *part.shape[1:]), folder)
        found[first : first + _ROWS] = part
    assert found is not None
    return found
