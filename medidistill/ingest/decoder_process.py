"""The program that decodes compressed pixels: a process of its own, so that a codec that crashes takes nothing along.

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
import warnings
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

_MOST_MEMORY = 8 << 30  # bytes; the largest picture that `limits.MOST_PIXELS` allows takes less than 3 GiB


def _decode(request: bytes) -> tuple[dict[str, Any], NDArray[Any]]:
    """Return what to say, and the pixels; codecs raise anything, and those in Rust what is no `Exception`."""
    said, pixels = {}, np.empty(0)
    try:
        pixels = np.ascontiguousarray(pixel_array(pydicom.dcmread(io.BytesIO(request))))
    except BaseException as error:  # noqa: BLE001
        said["error"] = type(error).__name__
    return {**said, "type": pixels.dtype.str, "shape": pixels.shape}, pixels


def main() -> None:
    """Answer until stdin ends."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # some codecs print: stderr leads nowhere
    requests = sys.stdin.buffer
    while length := requests.read(8):
        said, pixels = _decode(requests.read(int.from_bytes(length, "big")))
        text = json.dumps(said).encode()
        answers.write(len(text).to_bytes(8, "big") + text)
        answers.write(pixels.data if pixels.size else b"")
        answers.flush()


if __name__ == "__main__":
    main()
