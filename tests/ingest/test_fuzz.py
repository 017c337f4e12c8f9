"""Damaged files of every kind end in a reason or a picture: no other exception, no value of the header."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medidistill.errors import IngestError
from medidistill.ingest.dicom import read_header, read_image

SECRET = b"PHANTOM"
_MINUTES = float(os.environ.get("MEDIDISTILL_FUZZ_MINUTES", "0"))


def seeds(radiograph):
    pixels = np.arange(64 * 64).reshape(64, 64)
    found = []
    for syntax in (None, RLELossless, JPEGLSLossless, JPEG2000Lossless):
        dataset = radiograph(pixels, WindowCenter="2000", WindowWidth="3000", PixelPaddingValue=0)
        if syntax:
            dataset.compress(syntax)
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        found.append(buffer.getvalue())
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray((pixels // 16).astype(np.uint8)).save(buffer, kind)
        found.append(buffer.getvalue())
    found += [Path(get_testdata_file(name)).read_bytes() for name in ("image_dfl.dcm", "MR_small_RLE.dcm")]
    return found


@st.composite
def damage(draw, count):
    """Which seed, and what to do to it: (place, bytes that replace those there), cuts, and doubled stretches."""
    which = draw(st.integers(0, count - 1))
    changes = draw(st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=6))
    cut = draw(st.none() | st.floats(0, 1))
    double = draw(st.none() | st.tuples(st.floats(0, 1), st.integers(1, 200)))
    return which, changes, cut, double


def damaged(data, changes, cut, double):
    broken = bytearray(data)
    for place, new in changes:
        # most of the header lies in the first 1,500 bytes: half of the changes go there
        end = len(broken) if new[0] % 2 else min(len(broken), 1500)
        at = int(place * max(0, end - len(new)))
        broken[at : at + len(new)] = new
    if double:
        at = int(double[0] * len(broken))
        broken[at:at] = broken[at : at + double[1]]
    return bytes(broken[: int(cut * len(broken))] if cut is not None else broken)


def check(path):
    for read in (read_image, read_header):
        try:
            result = read(path)
        except IngestError as error:
            text = str(error)
            assert "\n" not in text
            assert "PHANTOM" not in text
            assert len(text) < 250
        else:
            if isinstance(result, np.ndarray):
                assert result.dtype == np.float32
                assert result.ndim == 2
                assert np.isfinite(result).all()
                assert result.min() >= 0
                assert result.max() <= 1


def fuzz(tmp_path, radiograph, examples):
    files = seeds(radiograph)

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=not _MINUTES,
    )
    @given(damage(len(files)))
    def run(drawn):
        which, *rest = drawn
        path = tmp_path / "fuzzed"
        path.write_bytes(damaged(files[which], *rest))
        check(path)

    run()


def test_damaged_files(tmp_path, radiograph):
    fuzz(tmp_path, radiograph, 150)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_damaged_files_for_long(tmp_path, radiograph):
    """Thousands of cases; `MEDIDISTILL_FUZZ_MINUTES` repeats it with new ones for so long."""
    import time

    end = time.monotonic() + 60 * _MINUTES
    fuzz(tmp_path, radiograph, 5000)
    while time.monotonic() < end:
        fuzz(tmp_path, radiograph, 5000)
