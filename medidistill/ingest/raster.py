"""PNG and JPEG pictures as they are: no window, no stretch, no colour management."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from medidistill.errors import IngestError
from medidistill.ingest.codestream import Coding, read_codestream
from medidistill.ingest.limits import MOST_PIXELS
from medidistill.ingest.notices import Notice
from medidistill.ingest.png import PngHeader, read_deep_samples, read_png_header

__all__ = ["Raster", "read_raster", "read_raster_file"]

_SRGB_GAMMA = 0.45455
_NARROW = 1 << 14
_HEAD = 1 << 20  # bytes of a JPEG in which its frame header stands
_ORIENTATION = 0x0112
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)


@dataclass(frozen=True)
class Raster:
    """A picture and its notices.

    Args:
        picture: (rows, columns) float32 in [0, 1].
        notices: what was not applied, or assumed.
    """

    picture: NDArray[np.float32]
    notices: tuple[Notice, ...] = ()


def read_raster(path: Path) -> NDArray[np.float32]:
    """Return the picture of `read_raster_file`, (rows, columns) float32 in [0, 1]. Raises `IngestError`."""
    return read_raster_file(path).picture


def read_raster_file(path: Path) -> Raster:
    """Read a PNG or JPEG in all its bits; colour becomes luminance (ITU-R BT.601), transparent pixels become black.

    Args:
        path: PNG of 1 to 16 bits, grey, colour or palette, with or without transparency; JPEG of 8 bits.

    Raises:
        IngestError: several frames, more pixels than a radiograph has, a JPEG of another kind, or damage.
    """
    try:
        png = read_png_header(path)
        if png is None:
            _check_jpeg(path)
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            _check_size(picture)
            said = _colour_management(picture)
            samples = read_deep_samples(path, png) if png is not None and png.deep_colour else None
            found = _eight_bits(picture, png) if samples is None else _sixteen_bits(picture, samples)
    except IngestError:
        raise
    except Image.DecompressionBombError as error:
        raise IngestError(f"more than {MOST_PIXELS} pixels claimed") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:  # Pillow's words for damage
        raise IngestError("unreadable (damaged or cut short)") from error
    return Raster(found.picture, (*said, *found.notices))


def _check_size(picture: Image.Image) -> None:
    """Refuse several frames and more pixels than a radiograph has. Raises `IngestError`."""
    if getattr(picture, "n_frames", 1) > 1:
        raise IngestError("several frames: a radiograph has one")
    if picture.width * picture.height > MOST_PIXELS:
        raise IngestError(f"more than {MOST_PIXELS} pixels claimed")


def _check_jpeg(path: Path) -> None:
    """Name what Pillow does not read. Raises `IngestError`."""
    with open(path, "rb") as file:
        header = read_codestream(file.read(_HEAD))
    if header is None:
        return
    if header.coding is Coding.JPEG_LS or header.process in _LOSSLESS:
        name = "JPEG-LS" if header.coding is Coding.JPEG_LS else "lossless JPEG"
        raise IngestError(f"{name} outside DICOM: convert it to PNG with all its bits")
    if header.precision != 8:
        raise IngestError(f"JPEG of {header.precision} bits a sample: must be 8; convert it to PNG with all its bits")


def _colour_management(picture: Image.Image) -> tuple[Notice, ...]:
    """Return notices on the file's colour information, none of which is applied."""
    info: dict[Any, Any] = picture.info
    gamma = info.get("gamma")
    odd = gamma is not None and "srgb" not in info and abs(float(gamma) - _SRGB_GAMMA) > 1e-3
    return ((Notice.GAMMA,) if odd else ()) + ((Notice.COLOUR_PROFILE,) if info.get("icc_profile") else ())


def _eight_bits(picture: Image.Image, png: PngHeader | None) -> Raster:
    """Return a picture that Pillow reads in all its bits: 8 bits or fewer, or 16 bits of grey."""
    key = picture.info.get("transparency")
    if png is not None and isinstance(key, int) and png.colour == 0 and png.bits in (2, 4):
        # Pillow stretches these samples to 8 bits, but not the one that is transparent
        key = picture.info["transparency"] = key * 255 // (2**png.bits - 1)
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I"):  # PNG of 16 bits
        values = np.asarray(upright).astype(np.int64)
        return _grey(values, None if key is None else np.where(values == key, 0, 65535))
    notices = [Notice.CMYK] if upright.mode == "CMYK" else []
    alpha = None
    if "A" in upright.getbands() or key is not None:
        upright = upright.convert("RGBA")
        opacity = np.asarray(upright.getchannel("A"))
        alpha = opacity if int(opacity.min()) < 255 else None
    if upright.mode not in ("1", "L"):
        upright = upright.convert("RGB")
        bands = np.asarray(upright)
        if bool((bands[..., 0] != bands[..., 1]).any() or (bands[..., 1] != bands[..., 2]).any()):
            notices.append(Notice.COLOUR)
    # ITU-R 601 luminance, rounded to 8 bits
    shown = np.asarray(upright.convert("L"), dtype=np.float32) / np.float32(255)
    if alpha is not None:
        shown = shown * (alpha.astype(np.float32) / np.float32(255))
        notices.append(Notice.TRANSPARENT)
    return Raster(shown, tuple(notices))


def _sixteen_bits(picture: Image.Image, samples: NDArray[np.uint16]) -> Raster:
    """Return a PNG of 16 bits with colour or opacity, whose samples (rows, columns, channels) were read apart."""
    key = picture.info.get("transparency")
    samples = _upright(samples, picture.getexif().get(_ORIENTATION, 1))
    channels = samples.shape[2]
    alpha = samples[..., -1].astype(np.int64) if channels in (2, 4) else None
    if channels == 2:
        return _grey(samples[..., 0].astype(np.int64), alpha)
    bands = samples[..., :3].astype(np.int64)
    if alpha is None and isinstance(key, tuple):
        alpha = np.where((bands == np.asarray(key)).all(axis=2), 0, 65535)
    colour = bool((bands[..., 0] != bands[..., 1]).any() or (bands[..., 1] != bands[..., 2]).any())
    # ITU-R 601 luminance in the integers of Pillow, so that grey stays what it is
    values = (bands @ np.array([19595, 38470, 7471]) + 0x8000) >> 16
    grey = _grey(values, alpha)
    return Raster(grey.picture, (Notice.COLOUR, *grey.notices) if colour else grey.notices)


def _grey(values: NDArray[np.int64], alpha: NDArray[np.int64] | None) -> Raster:
    """Return 16 bits of grey and opacity as a picture."""
    notices = [Notice.NARROW_16_BITS] if int(values.max()) < _NARROW else []
    picture = values.astype(np.float32) / np.float32(65535)
    if alpha is not None and int(alpha.min()) < 65535:
        picture = picture * (alpha.astype(np.float32) / np.float32(65535))
        notices.append(Notice.TRANSPARENT)
    return Raster(picture, tuple(notices))


def _upright(samples: NDArray[np.uint16], orientation: int) -> NDArray[np.uint16]:
    """Return samples oriented by their EXIF orientation (1 to 8), as `ImageOps.exif_transpose` does."""
    if orientation in (5, 6, 7, 8):
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples[:, ::-1] if orientation in (2, 3, 6, 7) else samples
