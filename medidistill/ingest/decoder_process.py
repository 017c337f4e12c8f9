"""The program that decodes compressed pixels: in a separate process, so that a crashing codec costs one file.

`medidistill.ingest.decoding` runs this file by its path and not as a module, as the package would load MONAI and torch
first. A request on stdin is a DICOM file of nothing but one frame; an answer on stdout is JSON, and the pixels.
Requests and JSON stand behind their length; all numbers take 8 bytes.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import tempfile
import warnings
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

_DAMAGED = (b"premature end of data segment", b"bad Huffman code", b"instead of RST", b"bad arithmetic code")
_MOST_MEMORY = 8 << 30  # bytes; the largest picture that `limits.MOST_PIXELS` allows takes less than 3 GiB
_MOST_PRINTED = 1 << 20  # bytes kept of the output


def _decode(request: bytes) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return the answer and the pixels; codecs raise anything, those in Rust not even an `Exception`."""
    said, pixels = {}, np.empty(0)
    try:
        pixels = np.ascontiguousarray(pixel_array(pydicom.dcmread(io.BytesIO(request))))
    except BaseException as error:  # noqa: BLE001
        said["error"] = type(error).__name__
    printed = _printed()
    if any(text in printed for text in _DAMAGED):  # libjpeg fills up what is missing, and goes on
        said["error"] = "the compressed data end early or are damaged"
        pixels = np.empty(0)
    return {**said, "type": pixels.dtype.str, "shape": pixels.shape}, pixels


def _memory_file() -> int:
    """Return the descriptor of a file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("printed")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _printed() -> bytes:
    """Return what codecs have written to stderr since the last call."""
    printed = os.pread(2, _MOST_PRINTED, 0)
    os.ftruncate(2, 0)
    os.lseek(2, 0, os.SEEK_SET)
    return printed


def main() -> None:
    """Answer until stdin ends."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(_memory_file(), 2)  # codecs print, and of some damage libjpeg does nothing but print
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_PRINTED, _MOST_PRINTED))
    requests = sys.stdin.buffer
    while length := requests.read(8):
        said, pixels = _decode(requests.read(int.from_bytes(length, "big")))
        text = json.dumps(said).encode()
        answers.write(len(text).to_bytes(8, "big") + text)
        answers.write(pixels.data if pixels.size else b"")
        answers.flush()


if __name__ == "__main__":
    main()
