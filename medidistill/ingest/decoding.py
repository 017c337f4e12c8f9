"""Stored pixels of a dataset; compressed ones are decoded in a process that may crash.

Codecs are C, C++ and Rust. Fuzzing found streams that end the process in one of them: one file must not stop a run.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.pixels.utils import pixel_array

from medidistill.errors import IngestError

__all__ = ["stored_pixels"]

_PROGRAM = Path(__file__).with_name("decoder_process.py")
_SECONDS = 300.0  # a film takes less than one; a stream that is made to take for ever must not
_KEYWORDS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
)


def stored_pixels(dataset: Dataset, frame: int | None = None) -> NDArray[Any]:
    """Return the stored values of one frame.

    Args:
        dataset: a grey image whose size was checked.
        frame: which of several, from 0; None: there is one.

    Returns:
        (rows, columns) of an integer type.

    Raises:
        IngestError: the pixels cannot be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    named = syntax.name if syntax in UID_dictionary else "an unknown transfer syntax"
    try:
        if not syntax.is_encapsulated:
            return pixel_array(dataset, index=frame)
        pixels = _decoder.decode(_image_alone(dataset), frame)
    except Exception as error:  # damaged data raise anything, and the message quotes them
        why = str(error) if isinstance(error, _DecoderError) else type(error).__name__
        raise IngestError(f"unreadable pixels ({named}, {why})") from error
    if pixels.shape != (dataset.Rows, dataset.Columns):
        raise IngestError(f"unreadable pixels ({named}, another size than the header says)")
    return pixels


def _image_alone(dataset: Dataset) -> bytes:
    """Return a DICOM file that holds what decoding needs and nothing of a patient."""
    image = Dataset()
    for keyword in _KEYWORDS:
        if keyword in dataset:
            image[keyword] = dataset[keyword]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    image["PixelData"].is_undefined_length = True
    image.preamble = b"\0" * 128
    buffer = io.BytesIO()
    dcmwrite(buffer, image, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


class _DecoderError(Exception):
    """Why nothing came back, in words of this module or the name of an error."""


class _Decoder:
    """Starts the program with the first request, and anew after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, file: bytes, frame: int | None) -> NDArray[Any]:
        """Return the pixels of a file. Raises `_DecoderError`."""
        number = (-1 if frame is None else frame).to_bytes(8, "big", signed=True)
        with self._lock:
            process = self._running()
            clock = threading.Timer(_SECONDS, process.kill)
            clock.start()
            try:
                said, pixels = _ask(process, number + file)
            except BaseException as error:
                process.kill()  # also where Ctrl-C came between question and answer: the next one would get this answer
                process.wait()
                self._process = None
                if isinstance(error, OSError | ValueError):  # its end of the pipe is closed: it died on the way
                    raise _DecoderError("the decoder crashed, or ran out of memory or time") from error
                raise
            finally:
                clock.cancel()
        if "error" in said:
            raise _DecoderError(said["error"])
        return pixels

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(  # noqa: S603 (this interpreter, a file of this package)
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process


def _ask(process: subprocess.Popen[bytes], request: bytes) -> tuple[dict[str, Any], NDArray[Any]]:
    """Send a request and return the answer. Raises `OSError` or `ValueError` where none comes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(len(request).to_bytes(8, "big") + request)
    process.stdin.flush()
    said = json.loads(process.stdout.read(int.from_bytes(process.stdout.read(8), "big")))
    kind, shape = np.dtype(said["type"]), tuple(said["shape"])
    data = process.stdout.read(int(np.prod(shape)) * kind.itemsize)
    return said, np.frombuffer(data, kind).reshape(shape)


_decoder = _Decoder()
