"""One chest radiograph file to one grey picture in [0, 1], bright where the chest absorbs.

DICOM (CR, DX, RG) runs the display pipeline of the standard (`medidistill.ingest.display`); PNG and JPEG are taken as
they are (`medidistill.ingest.raster`).

Messages hold words of the standard and of this package alone: a damaged header can hold a name in any element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from numpy.typing import NDArray

from medidistill.errors import IngestError
from medidistill.ingest.dicom_file import read_dicom_file
from medidistill.ingest.display import Rendered, decode, display, number_of_frames, render, render_stored
from medidistill.ingest.file_kind import file_kind, unknown_kind
from medidistill.ingest.header_screening import body_part, view
from medidistill.ingest.raster import read_raster_file
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.jsontypes import JsonObject  # meta data as MONAI's readers return them

__all__ = [
    "ChestXrayReader",
    "Header",
    "Radiograph",
    "address",
    "decode",
    "file_kind",
    "read_header",
    "read_image",
    "read_radiograph",
    "render",
    "render_stored",
    "unknown_kind",
]

_HEADER_TAGS = ["PatientID", "SOPInstanceUID", "AccessionNumber", "PatientSex", "PatientAge", "StudyInstanceUID"]
_FRAME = "\0"  # parts a path from the number of a frame: the one sign that no path can hold


@dataclass(frozen=True)
class Header:
    """What labels can be keyed on, sex, age and frames. Raw values: they go into no message and no table."""

    patient_id: str = ""
    sop_instance_uid: str = ""
    accession_number: str = ""
    sex: str = ""
    age: str = ""
    frames: int = 1
    study_instance_uid: str = ""


@dataclass(frozen=True)
class Radiograph:
    """A file as it was read.

    Args:
        rendered: picture, padding, notices.
        view: of the header, in the words of `medidistill.ingest.header_screening`; empty where the header gives none.
        body_part: `other` where the header gives another part than the chest, else empty.
    """

    rendered: Rendered
    view: str = ""
    body_part: str = ""


def address(path: Path, frame: int | None) -> str:
    """Return the text by which `ChestXrayReader` finds a picture: a path, and of several frames which, from 0."""
    return str(path) if frame is None else f"{path}{_FRAME}{frame}"


def read_header(path: Path) -> Header:
    """Read the identifiers of a DICOM file without its pixels. Raises `IngestError`."""
    try:
        with silence_pydicom():
            wanted = [*_HEADER_TAGS, "NumberOfFrames"]
            dataset = read_dicom_file(path, keywords=wanted, pixels=False).dataset
            patient, uid, accession, sex, age, study = (str(dataset.get(t, "") or "").strip() for t in _HEADER_TAGS)
            return Header(patient, uid, accession, sex, age, number_of_frames(dataset), study)
    except IngestError:
        raise
    except Exception as error:
        # the message could quote a damaged value, which might be a name
        raise IngestError(f"unreadable DICOM header ({type(error).__name__})") from error


def _read(path: Path, frame: int | None) -> Radiograph:
    kind = file_kind(path)
    with silence_pydicom():
        if kind in ("png", "jpeg"):
            raster = read_raster_file(path)
            return Radiograph(Rendered(raster.picture, notices=raster.notices))
        if kind != "dicom":
            raise IngestError(unknown_kind(path))
        file = read_dicom_file(path)
        rendered = display(file.dataset, frame)
        notices = tuple(dict.fromkeys((*file.notices, *rendered.notices)))
        rendered = Rendered(rendered.picture, rendered.padding, rendered.shown_by, notices)
        return Radiograph(rendered, view(file.dataset), body_part(file.dataset))


def read_radiograph(path: Path, frame: int | None = None) -> Radiograph:
    """Read one DICOM, PNG or JPEG file, with its view, body part and notices.

    Args:
        path: the file; its kind is determined by content.
        frame: which frame of a DICOM file that holds several, from 0.

    Raises:
        IngestError: the reason why the file cannot be used, without the path and without patient values.
    """
    try:
        return _read(path, frame)
    except IngestError:
        raise
    except Exception as error:  # decoders raise anything on damaged data, quoting it; one file never stops a run
        raise IngestError(f"unreadable ({type(error).__name__})") from error


def read_image(path: Path, frame: int | None = None) -> NDArray[np.float32]:
    """Read one DICOM, PNG or JPEG file.

    Args:
        path: the file; its kind is determined by content. PNG of up to 16 bits a channel; colour becomes luminance.
        frame: which frame of a DICOM file that holds several, from 0.

    Returns:
        (rows, columns) float32 in [0, 1], rows first.

    Raises:
        IngestError: the reason why the file cannot be used, without the path and without patient values.
    """
    return read_radiograph(path, frame).rendered.picture


class ChestXrayReader(ImageReader):  # type: ignore[misc, unused-ignore]
    """MONAI image reader for chest radiographs; see `read_image` for what it does to pixels.

    `read` only notes where to look and `get_data` decodes: `LoadImage` answers an exception in `read` by trying
    its other readers, which would show the file without its window and inversion.
    """

    def verify_suffix(self, filename: Sequence[str | PathLike[str]] | str | PathLike[str]) -> bool:
        """Return whether every file is DICOM, PNG or JPEG by content."""
        return all(bool(file_kind(path)) for path, _ in _places(filename))

    def read(
        self, data: Sequence[str | PathLike[str]] | str | PathLike[str], **_: Any
    ) -> list[tuple[Path, int | None]]:
        """Return the paths and frames to decode; see `address`."""
        return _places(data)

    def get_data(self, img: Sequence[tuple[Path, int | None]]) -> tuple[NDArray[np.float32], JsonObject]:
        """Decode one file: `(picture, metadata)`, picture (rows, columns) float32 in [0, 1].

        The metadata hold the header's `view` and `body_part` in the words of `medidistill.ingest.header_screening`, and
        `padding`, `shown_by` and `notices` of `medidistill.ingest.display.Rendered`.

        Raises:
            IngestError: more than one file, or a file that cannot be used.
        """
        if len(img) != 1:
            raise IngestError(f"{len(img)} files for one radiograph: must be one")
        film = read_radiograph(*img[0])
        rendered = film.rendered
        return rendered.picture, {
            "spatial_shape": np.asarray(rendered.picture.shape),
            "original_channel_dim": "no_channel",
            "view": film.view,
            "body_part": film.body_part,
            "padding": rendered.padding,
            "shown_by": rendered.shown_by,
            "notices": [str(notice) for notice in rendered.notices],
        }


def _places(names: Sequence[str | PathLike[str]] | str | PathLike[str]) -> list[tuple[Path, int | None]]:
    found = []
    for name in [names] if isinstance(names, str | PathLike) else names:
        path, _, frame = str(name).partition(_FRAME)
        found.append((Path(path), int(frame) if frame else None))
    return found
