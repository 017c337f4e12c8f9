"""Pixels of a dataset; compressed ones are decoded in a process that may crash.

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
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels.utils import pixel_array

from medidistill.errors import IngestError
from medidistill.ingest.codestream import read_codestream
from medidistill.ingest.limits import encapsulated_frame
from medidistill.ingest.stored_bits import stored_values

__all__ = ["pixel_cells", "stored_pixels"]

_PROGRAM = Path(__file__).with_name("decoder_process.py")
_SECONDS = 300.0  # a film takes less than one; a stream that is made to take for ever must not
_KEYWORDS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)


def stored_pixels(dataset: Dataset, frame: int | None = None) -> NDArray[Any]:
    """Return the stored values of one frame: pixel cells without their unused bits.

    Args:
        dataset: a grey image whose size was checked.
        frame: which of several, from 0; None: there is one.

    Returns:
        (rows, columns) of the integer type that Bits Allocated and Pixel Representation name.

    Raises:
        IngestError: the pixels cannot be decoded, or the attributes of their bits contradict one another.
    """
    return stored_values(dataset, pixel_cells(dataset, frame), sample_precision(dataset, frame))


def sample_precision(dataset: Dataset, frame: int | None = None) -> int | None:
    """Return the bits of a sample in the codestream of a frame, None for native pixels and RLE; see `pixel_cells`."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return None
    header = read_codestream(encapsulated_frame(dataset, frame or 0, _frames(dataset)))
    return None if header is None else header.precision


def pixel_cells(dataset: Dataset, frame: int | None = None) -> NDArray[Any]:
    """Return the pixel cells of one frame as they were coded: unused bits hold what the file holds there.

    Args:
        dataset: a grey image whose size was checked.
        frame: which of several, from 0; None: there is one.

    Returns:
        (rows, columns) of an integer type; samples of a codestream begin at bit 0.

    Raises:
        IngestError: the pixels cannot be decoded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    named = syntax.name if syntax in UID_dictionary else "an unknown transfer syntax"
    try:
        if not syntax.is_encapsulated:
            return pixel_array(dataset, index=frame, correct_unused_bits=False)
        pixels = _decoder.decode(_image_alone(dataset, encapsulated_frame(dataset, frame or 0, _frames(dataset))))
    except Exception as error:  # damaged data raise anything, and the message quotes them
        why = str(error) if isinstance(error, _DecoderError | IngestError) else type(error).__name__
        raise IngestError(f"unreadable pixels ({named}, {why})") from error
    if pixels.shape != (dataset.Rows, dataset.Columns):
        raise IngestError(f"unreadable pixels ({named}, another size than the header says)")
    return pixels


def _frames(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames", 1) or 1)


def _image_alone(dataset: Dataset, frame: bytes) -> bytes:
    """Return a DICOM file that holds what decoding a frame needs and nothing of a patient."""
    image = Dataset()
    for keyword in _KEYWORDS:
        if keyword in dataset:
            image[keyword] = dataset[keyword]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    image.PixelData = encapsulate([frame], has_bot=False)
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
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

    def decode(self, file: bytes) -> NDArray[Any]:
        """Return the pixels of a file. Raises `_DecoderError`."""
        with self._lock:
            process = self._running()
            clock = threading.Timer(_SECONDS, process.kill)
            clock.start()
            try:
                said, pixels = _ask(process, file)
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
