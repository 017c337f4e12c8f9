"""What de-identification writes is shown as the file that it read was: the two share one reading of every attribute."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.deidentify.screen import screen_pixels
from medidistill.ingest.dicom import read_image
from medidistill.ingest.silence_pydicom import silence_pydicom

from .builders import as_sequence, chest, encode_cells, lut_item, make_film, pixel_cells, retype, save_film

KEY = Key(b"correct-horse-battery-staple-0123456789")
STUDY = {"StudyInstanceUID": "2.25.2", "SeriesInstanceUID": "2.25.3"}
CURVE = (65535 * (np.arange(4096) / 4095) ** 0.7).astype(int)
JUNK = np.indices((32, 32)).sum(axis=0) // 4 % 2 * 0xFFFF
RESCALE = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}


def written_again(path):
    with silence_pydicom():
        dataset = read_dicom(path)
        screen_pixels(dataset)
        result = deidentify(dataset, DeidentifyConfig(), KEY)
        result.dataset.save_as(path.with_name("out"), enforce_file_format=True)
    return path.with_name("out")


def films():
    overlaid, left = pixel_cells(chest(), 16, 12, 11, JUNK), pixel_cells(chest(), 16, 12, 15, JUNK)
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian):
        big = syntax == ExplicitVRBigEndian
        lut = as_sequence(lut_item(-1024, 16, CURVE, big=big))
        yield f"{syntax.name}: overlay", make_film(overlaid, syntax=syntax, **STUDY)
        yield f"{syntax.name}: left-justified", make_film(left, high=15, syntax=syntax, **STUDY)
        yield f"{syntax.name}: VOI LUT", make_film(chest(), syntax=syntax, VOILUTSequence=lut, **RESCALE, **STUDY)
        lut = as_sequence(lut_item(-2048, 16, CURVE, big=big))
        signed = make_film(chest() - 2048, signed=True, syntax=syntax, ModalityLUTSequence=lut, **STUDY)
        yield f"{syntax.name}: Modality LUT", signed
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        yield f"{syntax.name}: overlay", encode_cells(overlaid, syntax, **STUDY)
        yield f"{syntax.name}: left-justified", encode_cells(left, syntax, high=15, **STUDY)
        yield f"{syntax.name}: sign not extended", encode_cells((chest() - 2048) & 0xFFF, syntax, signed=True, **STUDY)
    bordered = np.pad(chest() - 1000, 3, constant_values=-2048)
    padded = make_film(bordered, signed=True, **STUDY)
    padded.add_new(0x00280120, "US", 2048)
    yield "padding of signed pixels typed US", padded
    for frames in ("0", "1"):
        yield f"{frames} frames", make_film(chest(), NumberOfFrames=frames, **STUDY)


FILMS = dict(films())


@pytest.mark.parametrize("name", FILMS)
def test_the_picture_is_the_same_before_and_after(tmp_path, name):
    path = save_film(tmp_path / "in", FILMS[name])
    assert np.array_equal(read_image(path), read_image(written_again(path)))


def test_a_first_value_typed_ss(tmp_path):
    film = make_film(chest(), VOILUTSequence=as_sequence(lut_item(-1024, 16, CURVE)), **RESCALE, **STUDY)
    path = retype(save_film(tmp_path / "in", film), 0x00283002, "US", "SS")
    assert np.array_equal(read_image(path), read_image(written_again(path)))


@pytest.mark.parametrize(
    "film",
    [
        make_film(chest(), high=15, **STUDY),
        make_film(chest(), stored=12, HighBit=10, **STUDY),
        make_film(chest(), VOILUTSequence=as_sequence(lut_item(0, 16, CURVE[:9], count=4096)), **STUDY),
    ],
)
def test_what_one_refuses_the_other_does(tmp_path, film):
    path = save_film(tmp_path / "in", film)
    with pytest.raises(IngestError):
        read_image(path)
    with pytest.raises(IngestError):
        written_again(path)
