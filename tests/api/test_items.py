"""PIL images of every mode, as the items of a dataset hold them: the pixels that they show, or a refusal."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from medidistill.api.inputs import check_images
from medidistill.api.items import raw_images
from medidistill.errors import ArgumentError

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([GREY, GREY[::-1], GREY.T], axis=2)
DARKER_FIRST = [255 - value for value in range(256) for _ in range(3)]  # a palette of greys, upside down


def with_palette(palette):
    """An image whose stored numbers are GREY and whose colours are those of a palette."""
    picture = Image.fromarray(GREY).convert("P")
    picture.putpalette(palette)
    return picture


def read_back(picture, **options):
    """The image as a PNG file holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def opaque(picture, mode):
    changed = picture.convert(mode)
    changed.putalpha(255)
    return changed


def alpha(picture, mode):
    changed = picture.convert(mode)
    changed.putalpha(Image.fromarray(np.where(GREY > 100, 255, 90).astype(np.uint8)))
    return changed


def pixels(picture):
    """What the library reads of an image, (C, H, W) in [0, 1]."""
    checked = check_images(raw_images([(picture, 0), (picture, 1)]))
    assert torch.equal(checked.images[0], checked.images[1])
    return checked.images[0].numpy()


SIXTEEN = GREY.astype(np.uint16) * 257
SHOWN = {
    "1": (Image.fromarray(GREY > 99), (GREY > 99) * 1.0),
    "L": (Image.fromarray(GREY), GREY / 255),
    "LA, opaque": (opaque(Image.fromarray(GREY), "LA"), GREY / 255),
    "P of greys": (with_palette(DARKER_FIRST), 1 - GREY / 255),
    "P of greys in a PNG file": (read_back(with_palette(DARKER_FIRST)), 1 - GREY / 255),
    "PA, opaque": (opaque(with_palette(DARKER_FIRST), "PA"), 1 - GREY / 255),
    "P of greys, all opaque": (read_back(with_palette(DARKER_FIRST), transparency=bytes([255] * 256)), 1 - GREY / 255),
    "I": (Image.fromarray(SIXTEEN.astype(np.int32)), GREY / 255),
    "I;16": (Image.fromarray(SIXTEEN), GREY / 255),
    "I;16 in a PNG file": (read_back(Image.fromarray(SIXTEEN)), GREY / 255),
    "I;16B": (Image.frombytes("I;16B", (16, 16), SIXTEEN.astype(">u2").tobytes()), GREY / 255),
    "F": (Image.fromarray(GREY.astype(np.float32) / 255), GREY / 255),
}


@pytest.mark.parametrize("mode", SHOWN)
def test_a_grey_image_has_one_channel_with_what_it_shows(mode):
    picture, expected = SHOWN[mode]
    assert picture.mode == mode.split(",")[0].split(" ")[0]
    found = pixels(picture)
    assert found.shape == (1, 16, 16)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA, opaque", "P"])
def test_a_colour_image_has_three_channels(mode):
    colours = np.random.default_rng(0).integers(0, 256, (256, 3))
    picture, expected = {
        "RGB": (Image.fromarray(COLOUR), COLOUR / 255),
        "RGBA, opaque": (opaque(Image.fromarray(COLOUR), "RGBA"), COLOUR / 255),
        "P": (with_palette(colours.flatten().tolist()), colours[GREY] / 255),
    }[mode]
    np.testing.assert_allclose(pixels(picture), np.moveaxis(expected, 2, 0), atol=1e-6)


@pytest.mark.parametrize(
    "mode", ["LA", "RGBA", "PA", "P, one of its colours", "L, one of its values", "I;16, one value"]
)
def test_transparent_pixels_are_refused(mode):
    picture = {
        "LA": alpha(Image.fromarray(GREY), "LA"),
        "RGBA": alpha(Image.fromarray(COLOUR), "RGBA"),
        "PA": alpha(with_palette(DARKER_FIRST), "PA"),
        "P, one of its colours": read_back(with_palette(DARKER_FIRST), transparency=7),
        "L, one of its values": read_back(Image.fromarray(GREY), transparency=7),
        "I;16, one value": read_back(Image.fromarray(SIXTEEN), transparency=257),
    }[mode]
    words = rf"data\[0\]=PIL image of mode {picture.mode} with transparent pixels: must be opaque; fill those pixels"
    with pytest.raises(ArgumentError, match=words):
        raw_images([(picture, 0), (picture, 1)])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"])
def test_a_mode_whose_numbers_are_no_grey_and_no_rgb_is_refused(mode):
    picture = Image.new(mode, (16, 16))
    with pytest.raises(ArgumentError, match=rf"data\[1\]=PIL image of mode {mode}: must be of mode 1, L, .*convert"):
        raw_images([(GREY, 0), (picture, 1)])


def test_an_array_of_the_other_byte_order_is_read_as_its_numbers():
    np.testing.assert_allclose(pixels(SIXTEEN.astype(">u2"))[0], GREY / 255, atol=1e-6)
