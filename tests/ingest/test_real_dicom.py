from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medidistill.errors import IngestError
from medidistill.ingest.dicom import read_image

pytestmark = pytest.mark.data


@pytest.fixture
def dicom():
    folder = os.environ.get("MEDIDISTILL_DATA")
    if not folder:
        pytest.skip("MEDIDISTILL_DATA is not set: real X-rays are not here")
    return Path(folder) / "dicom"


CHESTS = (
    "cr_mono1_10bit_explicit_le",
    "cr_mono1_10bit_rle_burned_in_phi",
    "cr_mono1_15bit_jpegls_near_lossless",
    "cr_mono2_8bit_jpeg_baseline_rsna",
)


@pytest.mark.parametrize("name", CHESTS)
def test_chests_come_out_bright_where_the_chest_absorbs(dicom, name):
    picture = read_image(dicom / "chest" / f"{name}.dcm")
    assert picture.dtype == np.float32
    assert 0 <= picture.min() < picture.max() <= 1
    height, width = picture.shape
    rows = slice(int(0.35 * height), int(0.6 * height))
    spine = picture[rows, int(0.46 * width) : int(0.54 * width)].mean()
    lungs = [picture[rows, int(a * width) : int((a + 0.1) * width)].mean() for a in (0.2, 0.7)]
    assert spine > max(lungs) + 0.05


def test_relabelled_copy_is_the_inverse(dicom):
    two = read_image(dicom / "chest/cr_mono2_8bit_jpeg_baseline_rsna.dcm")
    one = read_image(dicom / "chest/cr_mono1_8bit_jpeg_baseline_relabelled.dcm")
    np.testing.assert_allclose(one, 1 - two, atol=1e-6)


@pytest.mark.parametrize("folder", ["broken", "non_image", "multiframe", "other"])
def test_what_is_no_radiograph_is_refused_in_one_line(dicom, folder):
    for path in sorted((dicom / folder).iterdir()):
        with pytest.raises(IngestError) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250
