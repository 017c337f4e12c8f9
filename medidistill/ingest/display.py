"""The display pipeline of DICOM: stored values to a grey picture in [0, 1], bright where the chest absorbs.

Modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2), the inversion of MONOCHROME1 (C.7.6.3.1.2), and a
frontal image that is stored turned or mirrored is turned upright (C.7.6.1.1.1).
What comes out is never stretched to the image's own extremes: two exposures stay two exposures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medidistill.errors import IngestError
from medidistill.ingest.attributes import attribute, items, number, numbers, text, whole_number
from medidistill.ingest.decoding import StoredPixels, check_encapsulation, stored_pixels
from medidistill.ingest.header_screening import LATERAL, OBLIQUE, directions, view
from medidistill.ingest.limits import check_size
from medidistill.ingest.lut import LookupTable, LutKind, read_lookup_table
from medidistill.ingest.notices import Notice
from medidistill.ingest.padding import padding_range
from medidistill.ingest.pixel_layout import PixelLayout, read_layout
from medidistill.ingest.voi import choose_window, window

__all__ = ["MODALITIES", "Rendered", "decode", "display", "number_of_frames", "render", "render_stored"]

MODALITIES = ("CR", "DX", "RG")
# defined terms that a message may repeat (PS3.3 C.7.3.1.1.1); any other value could be anything
_OTHERS = {"CT", "MR", "US", "PT", "NM", "MG", "XA", "RF", "OT", "SC", "SR", "SEG", "DR", "IO", "PX", "ES", "ECG", "PR"}
_OTHERS |= {"RTDOSE", "RTPLAN", "RTSTRUCT", "RTIMAGE", "KO", "DOC", "BMD", "SM", "XC", "OP"}
_COLOURS = {"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
_Cell = TypeVar("_Cell", bound=np.generic)
_WINDOW = f"{attribute('WindowCenter')} and {attribute('WindowWidth')}"


@dataclass(frozen=True)
class Rendered:
    """A radiograph as it is shown.

    Args:
        picture: (rows, columns) float32 in [0, 1], bright = high attenuation.
        padding: (rows, columns) bool, True where pixels are padding; None: nowhere.
        shown_by: the attribute that decided on brightness and contrast; empty: the range of Bits Stored.
        notices: assumptions that were made.
    """

    picture: NDArray[np.float32]
    padding: NDArray[np.bool_] | None = None
    shown_by: str = ""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class _Shown:
    """Display values of stored values, without the notices that belong to the image."""

    values: NDArray[np.float32]
    outside: NDArray[np.bool_] | None
    shown_by: str
    notices: tuple[Notice, ...]


def number_of_frames(dataset: Dataset) -> int:
    """Return (0028,0008) Number of Frames, 1 where it is absent or 0. Raises `IngestError`."""
    return whole_number(dataset, "NumberOfFrames", 1) or 1


def _check(dataset: Dataset, frame: int | None) -> None:
    """Refuse what is no greyscale radiograph."""
    modality = text(dataset, "Modality")
    named = (
        modality if modality in _OTHERS or modality in MODALITIES else "of another kind" if modality else "not stated"
    )
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise IngestError(f"floating-point pixel data (modality {named}): must be (7FE0,0010) Pixel Data")
        raise IngestError(f"no pixel data (modality {named})")
    if modality not in MODALITIES:
        raise IngestError(f"modality {named}: must be {', '.join(MODALITIES)}")
    frames = number_of_frames(dataset)
    if frame is None and frames > 1:
        raise IngestError("several frames: a radiograph has one; `ingest.frames: split` reads each frame as an image")
    if frame is not None and not 0 <= frame < frames:
        raise IngestError("no such frame")
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or whole_number(dataset, "SamplesPerPixel", 1) != 1:
        named = photometric if photometric in _COLOURS else "of another kind" if photometric else "not stated"
        raise IngestError(f"photometric interpretation {named}: must be MONOCHROME1 or MONOCHROME2")
    read_layout(dataset)
    check_encapsulation(dataset)
    check_size(dataset, frames)


def display(dataset: Dataset, frame: int | None = None) -> Rendered:
    """Render a greyscale radiograph for display.

    Without a window or VOI LUT the range that Bits Stored allows, sent through the modality
    transformation, becomes [0, 1]. With one, the window's output range does. The first window or
    VOI LUT counts where several are given, and a VOI LUT goes before a window. Padding becomes 0, as air.
    A frontal image whose (0020,0020) Patient Orientation is another than L\\F, of L or R and H or F, is turned to it.

    Args:
        dataset: a dataset with pixel data.
        frame: which frame of several, from 0; None: there must be one.

    Raises:
        IngestError: several frames, colour, a modality other than CR, DX, RG, no pixels, damaged pixels,
            contradictory attributes, or attributes that show every pixel alike; the message names them.
    """
    _check(dataset, frame)
    return _upright(dataset, _rendered(dataset, stored_pixels(dataset, frame)))


def render(dataset: Dataset, frame: int | None = None) -> NDArray[np.float32]:
    """Return the picture of `display`, (rows, columns) float32 in [0, 1]. Raises `IngestError`."""
    return display(dataset, frame).picture


def decode(dataset: Dataset, frame: int | None = None) -> NDArray[Any]:
    """Return the stored values of a greyscale radiograph, (rows, columns); see `display`. Raises `IngestError`."""
    _check(dataset, frame)
    return stored_pixels(dataset, frame).values


def render_stored(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.float32]:
    """Render what `decode` returned; see `display`. It stays as it is stored, and is not turned upright."""
    layout, notices = read_layout(dataset)
    return _rendered(dataset, StoredPixels(stored, layout, notices)).picture


def _rendered(dataset: Dataset, pixels: StoredPixels) -> Rendered:
    stored = pixels.values
    low, high = min(int(stored.min()), 0), max(int(stored.max()), 0)
    if high - low < stored.size:  # each step is a function of the stored value alone: once a value, not once a pixel
        values = np.concatenate([np.arange(high + 1), np.arange(low, 0)])  # negative values count from the end
        shown = _shown(dataset, values, pixels.layout)
        picture = shown.values[stored]
        padding = None if shown.outside is None else shown.outside[stored]
    else:
        shown = _shown(dataset, stored, pixels.layout)
        picture, padding = shown.values, shown.outside
    padding = padding if padding is not None and padding.any() else None
    _check_contrast(picture, stored, padding, shown.shown_by)
    notices = tuple(dict.fromkeys((*pixels.notices, *shown.notices)))
    return Rendered(np.asarray(picture, dtype=np.float32), padding, shown.shown_by, notices)


def _upright(dataset: Dataset, rendered: Rendered) -> Rendered:
    """Turn a frontal image so that its rows run to the left of the patient and its columns to the feet."""
    stated = directions(dataset)
    if stated is None:
        return rendered
    rows, columns = stated
    sideways = rows in ("H", "F")
    across, down = (columns, rows) if sideways else (rows, columns)
    side_view = view(dataset) in (LATERAL, OBLIQUE)
    if side_view or across not in ("L", "R") or down not in ("H", "F"):
        # a side view may state L\F, as some devices write for all images; a tilted image is taken as upright
        stands = columns[:1] == "F" and rows[:1] in (("L", "A", "P") if side_view else ("L",))
        return rendered if stands else _with(rendered, Notice.ORIENTATION_NOT_APPLIED)
    if stated == ("L", "F"):
        return rendered
    vertical, horizontal = slice(None, None, -1 if down == "H" else 1), slice(None, None, -1 if across == "R" else 1)

    def turned(cells: NDArray[_Cell]) -> NDArray[_Cell]:
        return np.ascontiguousarray((cells.T if sideways else cells)[vertical, horizontal])

    padding = None if rendered.padding is None else turned(rendered.padding)
    return _with(replace(rendered, picture=turned(rendered.picture), padding=padding), Notice.TURNED)


def _with(rendered: Rendered, notice: Notice) -> Rendered:
    return replace(rendered, notices=(*rendered.notices, notice))


def _check_contrast(
    picture: NDArray[np.float32], stored: NDArray[Any], padding: NDArray[np.bool_] | None, shown_by: str
) -> None:
    """Refuse attributes that map differing pixels to one grey value: the attributes are at fault, not the pixels."""
    inside = picture if padding is None else picture[~padding]
    if not inside.size:
        raise IngestError(f"{attribute('PixelPaddingValue')} covers every pixel")
    if float(inside.min()) < float(inside.max()):
        return
    values = stored if padding is None else stored[~padding]
    if shown_by and int(values.min()) < int(values.max()):
        raise IngestError(f"every pixel has the same value after {shown_by}")


def _shown(dataset: Dataset, stored: NDArray[Any], layout: PixelLayout) -> _Shown:
    """Send stored values through the display pipeline; see `display`."""
    little_endian = dataset.original_encoding[1] is not False
    values, low, high, table, notices = _modality(dataset, stored, layout, little_endian)
    shown_by = "" if table is None else str(LutKind.MODALITY)
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    chosen, notice = choose_window(centers, widths)
    if luts := items(dataset, "VOILUTSequence"):
        notices += [Notice.SEVERAL_VOI_LUTS] if len(luts) > 1 else []
        voi = read_lookup_table(LutKind.VOI, luts[0], low, high, little_endian)
        notices += [*voi.notices, *([voi.depth_notice] if voi.depth_notice else [])]
        shown, shown_by = voi.apply(values) / voi.top, str(LutKind.VOI)
    elif chosen is not None:
        notices += [notice] if notice else []
        function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
        shown, shown_by = window(values, chosen.center, chosen.width, function), _WINDOW
    else:
        notices += [notice] if notice else []
        notices += [table.depth_notice] if table is not None and table.depth_notice else []
        shown = (values - low) / (high - low)
    shown = np.clip(shown, 0.0, 1.0)
    inverted, notice = _polarity(dataset)
    shown = 1.0 - shown if inverted else shown
    notices += [notice] if notice else []
    padding, notice = padding_range(dataset, layout)
    notices += [notice] if notice else []
    outside = None
    if padding is not None:
        outside = (stored >= padding[0]) & (stored <= padding[1])
        shown[outside] = 0.0
    return _Shown(np.asarray(shown, dtype=np.float32), outside, shown_by, tuple(notices))


def _modality(
    dataset: Dataset, stored: NDArray[Any], layout: PixelLayout, little_endian: bool
) -> tuple[NDArray[np.float64], float, float, LookupTable | None, list[Notice]]:
    """Return the output of the modality transformation, its range, the table if it is one, and notices."""
    low, high = float(layout.low_value), float(layout.high_value)
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if luts := items(dataset, "ModalityLUTSequence"):
        table = read_lookup_table(LutKind.MODALITY, luts[0], low, high, little_endian)
        found = [*table.notices]
        if slope is not None or intercept is not None:
            found.append(Notice.MODALITY_LUT_FIRST)
        return table.apply(stored), 0.0, table.top, table, found
    values = stored.astype(np.float64)
    if slope is None and intercept is None:
        return values, low, high, None, []
    if slope == 0:
        raise IngestError(f"{attribute('RescaleSlope')} must not be 0")
    found = [Notice.NO_SLOPE] if slope is None else [Notice.NO_INTERCEPT] if intercept is None else []
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    low, high = sorted((low * slope + intercept, high * slope + intercept))
    if not low < high or not np.isfinite([low, high]).all():
        raise IngestError(f"{attribute('RescaleSlope')} and {attribute('RescaleIntercept')} leave no range of values")
    return values * slope + intercept, low, high, None, found


def _polarity(dataset: Dataset) -> tuple[bool, Notice | None]:
    """Return whether high values are dark, and a notice where the Presentation LUT contradicts it.

    Photometric Interpretation decides. A DX image repeats it as Presentation LUT Shape: INVERSE with
    MONOCHROME1, IDENTITY with MONOCHROME2 (PS3.3 C.8.11.3); it does not invert a second time.
    """
    inverted = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    shape = text(dataset, "PresentationLUTShape").upper()
    if items(dataset, "PresentationLUTSequence") or shape not in ("", "IDENTITY", "INVERSE"):
        return inverted, Notice.PRESENTATION_LUT
    if shape == "INVERSE" and not inverted:
        return inverted, Notice.INVERSE_BUT_MONOCHROME2
    return inverted, Notice.IDENTITY_BUT_MONOCHROME1 if shape == "IDENTITY" and inverted else None
