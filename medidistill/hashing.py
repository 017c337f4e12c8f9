"""Digests of what lies in memory. Files have `medidistill.files.sha256_file`, settings `medidistill.config.digest`."""

from __future__ import annotations

import hashlib

from torch import Tensor

__all__ = ["tensor_sha256"]


def tensor_sha256(tensor: Tensor) -> str:
    """Return the SHA-256 of the bytes of a tensor, 64 hexadecimal digits; shape and dtype are not in it.

    Bytes, not sums: a sum depends on the number of threads.
    """
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().data).hexdigest()
