"""Stored values of a dataset; compressed ones are decoded in a process that may crash.

Codecs are written in C, C++ and Rust, and fuzzing found streams that crash them: one file must not stop a run.
A codec gets the sample format of the codestream; the header's description of the stored values is applied afterwards,
so that native and compressed pixels follow one rule, however a codec would resolve a contradiction.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, RLELossless

from medidistill.errors import IngestError
from medidistill.ingest.attributes import attribute, whole_number
from medidistill.ingest.codestream import Codestream, Coding, read_codestream
from medidistill.ingest.completeness import check_complete
from medidistill.ingest.limits import encapsulated_frame
from medidistill.ingest.notices import Notice
from medidistill.ingest.pixel_layout import PixelLayout, read_layout
from medidistill.ingest.samples import Samples, stored_values

__all__ = ["StoredPixels", "check_encapsulation", "frame_samples", "stored_pixels"]

_PROGRAM = Path(__file__).with_name("decoder_process.py")
_TIMEOUT_S = 300.0  # an image takes less than one; a crafted stream must not take for ever
_SYNTAX, _PIXELS = "(0002,0010) Transfer Syntax UID", "(7FE0,0010) Pixel Data"
_ITEM = b"\xfe\xff\x00\xe0"  # what encapsulated pixel data begin with
_LOSSLESS = {
    *("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"),
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", str(RLELossless)),
}
_DCT = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive


@dataclass(frozen=True)
class StoredPixels:
    """The stored values of one frame.

    Args:
        values: (rows, columns) of an integer type, by High Bit, Bits Stored and Pixel Representation.
        layout: the layout given by these attributes.
        notices: assumptions that were made.
    """

    values: NDArray[Any]
    layout: PixelLayout
    notices: tuple[Notice, ...] = ()


def stored_pixels(dataset: Dataset, frame: int | None = None) -> StoredPixels:
    """Return the stored values of one frame.

    Args:
        dataset: a grey image whose size was checked.
        frame: which of several, from 0; None: there is one.

    Raises:
        IngestError: the pixels cannot be decoded, or their attributes contradict them; the message names what.
    """
    layout, notices = read_layout(dataset)
    values, found = stored_values(frame_samples(dataset, frame), layout)
    return StoredPixels(values, layout, (*notices, *found))


def frame_samples(dataset: Dataset, frame: int | None = None) -> Samples:
    """Return the samples of one frame as they were coded, with what their unused bits hold; see `stored_pixels`."""
    syntax = check_encapsulation(dataset)
    layout, _ = read_layout(dataset)
    size = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    named = syntax.name
    try:
        if syntax.is_encapsulated:
            samples = _compressed(dataset, syntax, frame, layout)
        else:
            samples = _native(dataset, syntax, frame, layout)
    except IngestError:
        raise
    except Exception as error:  # damaged data raise anything, and the message quotes them
        reason = str(error) if isinstance(error, _DecoderError) else type(error).__name__
        raise IngestError(f"unreadable pixels ({named}, {reason})") from error
    if samples.values.shape != size:
        raise IngestError(f"unreadable pixels ({named}, a size other than the header's)")
    return samples


def check_encapsulation(dataset: Dataset) -> UID:
    """Return the transfer syntax of an image whose pixel data match it. Raises `IngestError`."""
    syntax, data = _syntax(dataset), dataset.PixelData
    if not data:
        raise IngestError(f"{_PIXELS} is empty")
    if syntax.is_encapsulated and data[:4] != _ITEM:
        raise IngestError(f"{_SYNTAX} is compressed, but {_PIXELS} is not encapsulated")
    if not syntax.is_encapsulated and data[:4] == _ITEM and dataset["PixelData"].is_undefined_length:
        raise IngestError(f"{_SYNTAX} is uncompressed, but {_PIXELS} is encapsulated")
    return syntax


def _syntax(dataset: Dataset) -> UID:
    value = str(getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID") or "").strip(" \0")
    if not value:
        raise IngestError(f"{_SYNTAX} is missing")
    syntax = UID(value)
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise IngestError(f"{_SYNTAX} is none of the standard: private, unknown or damaged")
    return syntax


def _native(dataset: Dataset, syntax: UID, frame: int | None, layout: PixelLayout) -> Samples:
    """Return the pixel cells of uncompressed data, all bits of them."""
    frames = max(1, whole_number(dataset, "NumberOfFrames", 1))
    needed = whole_number(dataset, "Rows") * whole_number(dataset, "Columns") * frames * layout.allocated // 8
    data = bytes(dataset.PixelData)
    if len(data) < needed:
        raise IngestError(f"{_PIXELS} is shorter than Rows, Columns and Bits Allocated require")
    order = "<" if syntax.is_little_endian else ">"
    if layout.allocated == 8 and order == ">" and dataset["PixelData"].VR == "OW":
        even = data + b"\0" * (len(data) % 2)  # two bytes a word (PS3.5 8.1.1), of which the low one comes first
        data = np.frombuffer(even, ">u2").astype("<u2").tobytes()
    size = (frames, whole_number(dataset, "Rows"), whole_number(dataset, "Columns"))
    cells = np.frombuffer(data, f"{order}u{layout.allocated // 8}", int(np.prod(size))).reshape(size)
    return Samples(cells[frame or 0].astype(cells.dtype.newbyteorder("="), copy=False), layout.allocated)


def _compressed(dataset: Dataset, syntax: UID, frame: int | None, layout: PixelLayout) -> Samples:
    """Return the samples of one compressed frame as its codestream has them."""
    try:
        plugins = get_decoder(syntax).is_available
    except NotImplementedError:
        plugins = False
    if not plugins:
        raise _DecoderError("no decoder")
    stream = encapsulated_frame(dataset, frame or 0, max(1, whole_number(dataset, "NumberOfFrames", 1)))
    cells = whole_number(dataset, "Rows") * whole_number(dataset, "Columns")
    if syntax == RLELossless:  # PS3.5 annex G: the bytes of the pixel cells
        check_complete(stream, syntax, cells, layout.allocated // 8)
        plain = PixelLayout(layout.allocated, layout.allocated, layout.allocated - 1, signed=False)
        return Samples(_decoder.decode(_image_alone(dataset, syntax, stream, plain)), layout.allocated)
    header = read_codestream(stream)
    if header is None:
        raise _DecoderError("no codestream")
    _check(header, syntax)
    check_complete(stream, syntax, cells, layout.allocated // 8)
    allocated = 8 if header.precision <= 8 else 16
    coded = PixelLayout(allocated, header.precision, header.precision - 1, header.signed)
    values = _decoder.decode(_image_alone(dataset, syntax, stream, coded))
    return Samples(
        values,
        header.precision,
        signed=header.signed,
        lossy=syntax not in _LOSSLESS,
        knows_sign=header.coding is Coding.JPEG_2000,
    )


def _check(header: Codestream, syntax: UID) -> None:
    """Refuse what no decoder reads, by name: their own errors name nothing."""
    family = (
        Coding.JPEG_2000
        if syntax in JPEG2000TransferSyntaxes
        else Coding.JPEG_LS
        if syntax in JPEGLSTransferSyntaxes
        else Coding.JPEG
    )
    if header.coding is not family:
        raise IngestError(f"{_SYNTAX} is {family}, but {_PIXELS} holds {header.coding}")
    deep = header.coding is Coding.JPEG and header.precision > 8 and header.process in _DCT
    if deep and find_spec("libjpeg") is None:  # a site may install it: GPL
        raise _DecoderError("no decoder with a permissive licence for 12 bits")
    if not 1 <= header.precision <= 16:
        raise IngestError(f"compressed samples of more than 16 bits: {attribute('BitsStored')} must be 1 to 16")


def _image_alone(dataset: Dataset, syntax: UID, stream: bytes, layout: PixelLayout) -> bytes:
    """Return a DICOM file with one frame and the attributes of its codestream, without patient data."""
    image = Dataset()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    image.BitsAllocated, image.BitsStored, image.HighBit = layout.allocated, layout.stored, layout.high
    image.PixelRepresentation = int(layout.signed)
    image.PixelData = encapsulate([stream])
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.preamble = b"\0" * 128
    buffer = io.BytesIO()
    dcmwrite(buffer, image, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


class _DecoderError(Exception):
    """Why nothing came back, in words of this module or the name of an error."""


class _Decoder:
    """Start the program on the first request, and restart it after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def decode(self, file: bytes) -> NDArray[Any]:
        """Return the pixels of a file. Raises `_DecoderError`."""
        with self._lock:
            process = self._running()
            clock = threading.Timer(_TIMEOUT_S, process.kill)
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
