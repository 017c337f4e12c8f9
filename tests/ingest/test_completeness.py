"""Compressed pictures that end early or are damaged are no pictures, whatever a decoder makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.screen import screen_pixels
from medidistill.ingest.dicom import read_image
from tests.ingest.conftest import make_radiograph
from tests.support.codestreams import COMPRESSED, JPEG, compressed, fragments, frame_of, put

END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000


def saved(tmp_path, dataset):
    dataset.save_as(tmp_path / "film", enforce_file_format=True)
    return tmp_path / "film"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
def test_refuses_a_stream_that_is_cut_with_or_without_an_end_marker(tmp_path, syntax, share):
    dataset = compressed(syntax, side=64)
    frame = frame_of(dataset)
    for end in (b"", END):
        put(dataset, syntax, frame[: int(share * len(frame))] + end)
        # without an end it is no decoder that refuses: one of JPEG-LS takes eight seconds of processor time
        with pytest.raises(IngestError, match=r"end early|unreadable pixels|cut short" if end else "cut short"):
            read_image(saved(tmp_path, dataset))
        with pytest.raises(IngestError):
            screen_pixels(dataset)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda syntax: syntax.name)
def test_reads_a_stream_with_bytes_behind_its_end_or_in_several_fragments(tmp_path, syntax):
    dataset = compressed(syntax, side=64)
    frame, whole = frame_of(dataset), read_image(saved(tmp_path, compressed(syntax, side=64)))
    half = len(frame) // 4 * 2
    for data in (fragments(b"", frame + b"spare bytes"), fragments(b"", frame[:half], frame[half:])):
        dataset.PixelData = data
        assert np.array_equal(read_image(saved(tmp_path, dataset)), whole)


def test_a_damaged_stream_leaves_no_word_to_the_next(tmp_path):
    damaged, sound = compressed(JPEG[0], side=64), compressed(JPEG[0], side=64)
    frame = frame_of(sound)
    put(damaged, JPEG[0], frame[: len(frame) // 2] + END)
    whole = read_image(saved(tmp_path, sound))
    for _ in range(3):
        with pytest.raises(IngestError, match="the compressed data end early or are damaged"):
            read_image(saved(tmp_path, damaged))
        assert np.array_equal(read_image(saved(tmp_path, sound)), whole)


def test_native_pixels_are_not_asked_for_an_end(tmp_path):
    pixels = np.full((8, 8), 0xFFD9)
    assert read_image(saved(tmp_path, make_radiograph(pixels, bits=16))).shape == (8, 8)
