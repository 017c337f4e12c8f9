"""PNG of every colour type, depth and interlacing, and JPEG, against the samples that went in."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGLSLossless

from medidistill.errors import IngestError
from medidistill.ingest.deidentify.picture import bare_picture
from medidistill.ingest.dicom import read_radiograph
from medidistill.ingest.notices import Notice

from .builders import chest, encode_cells, png

RNG = np.random.default_rng(0)
SIZE = (11, 13)  # odd, so that passes of Adam7 have unequal sizes
R, G, B = 19595 / 65536, 38470 / 65536, 7471 / 65536  # ITU-R BT.601, in 16 bits as Pillow has them


def random(bits, channels=1):
    samples = RNG.integers(0, 2**bits, (*SIZE, channels))
    samples[0, 0], samples[-1, -1] = 0, 2**bits - 1
    return samples


def read(tmp_path, data):
    path = tmp_path / "picture"
    path.write_bytes(data)
    return read_radiograph(path).rendered


def luminance(samples, top):
    return (samples[..., :3] @ np.array([R, G, B])) / top


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey(tmp_path, bits, interlaced):
    samples = random(bits)
    found = read(tmp_path, png(samples, bits, interlaced=interlaced))
    np.testing.assert_allclose(found.picture, samples[..., 0] / (2**bits - 1), atol=1e-6)
    assert found.picture.dtype == np.float32
    assert not found.notices


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_opacity(tmp_path, bits, interlaced):
    samples = random(bits, 2)
    top = 2**bits - 1
    found = read(tmp_path, png(samples, bits, interlaced=interlaced))
    np.testing.assert_allclose(found.picture, samples[..., 0] / top * (samples[..., 1] / top), atol=1e-6)
    assert found.notices == (Notice.TRANSPARENT,)
    samples[..., 1] = top
    found = read(tmp_path, png(samples, bits, interlaced=interlaced))
    np.testing.assert_allclose(found.picture, samples[..., 0] / top, atol=1e-6)
    assert not found.notices


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_colour(tmp_path, bits, channels, interlaced):
    samples, top = random(bits, channels), 2**bits - 1
    found = read(tmp_path, png(samples, bits, "rgb", interlaced=interlaced))
    opacity = samples[..., 3] / top if channels == 4 else 1.0
    np.testing.assert_allclose(found.picture, luminance(samples, top) * opacity, atol=0.51 / top)
    assert found.notices == (Notice.COLOUR, *([Notice.TRANSPARENT] if channels == 4 else []))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_grey_of_16_bits_is_the_same_in_every_colour_type(tmp_path, channels):
    grey = random(16)
    samples = np.concatenate([grey] * (3 if channels > 2 else 1) + [np.full_like(grey, 65535)] * (channels % 2 == 0), 2)
    found = read(tmp_path, png(samples, 16, "rgb" if channels > 2 else "grey"))
    assert np.array_equal(found.picture, grey[..., 0].astype(np.float32) / np.float32(65535))
    assert not found.notices


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette(tmp_path, bits, interlaced):
    colours = RNG.integers(0, 256, (2**bits, 3))
    samples = random(bits)
    chunks = [(b"PLTE", colours.astype("u1").tobytes())]
    found = read(tmp_path, png(samples, bits, "palette", interlaced=interlaced, chunks=chunks))
    np.testing.assert_allclose(found.picture, luminance(colours[samples[..., 0]], 255), atol=0.51 / 255)
    assert found.notices == (Notice.COLOUR,)


def test_palette_of_greys_with_transparency(tmp_path):
    samples = random(4)
    chunks = [(b"PLTE", bytes(17 * n for n in range(16) for _ in range(3))), (b"tRNS", bytes([0] * 8))]
    found = read(tmp_path, png(samples, 4, "palette", chunks=chunks))
    grey = samples[..., 0]
    np.testing.assert_allclose(found.picture, np.where(grey < 8, 0, grey / 15), atol=1e-6)
    assert found.notices == (Notice.TRANSPARENT,)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_transparent_grey(tmp_path, bits):
    samples = random(bits)
    key = 2**bits - 1
    found = read(tmp_path, png(samples, bits, chunks=[(b"tRNS", key.to_bytes(2, "big"))]))
    grey = samples[..., 0]
    np.testing.assert_allclose(found.picture, np.where(grey == key, 0, grey / key), atol=1e-6)
    assert found.notices[-1] == Notice.TRANSPARENT


@pytest.mark.parametrize("bits", [8, 16])
def test_one_transparent_colour(tmp_path, bits):
    samples, top = random(bits, 3), 2**bits - 1
    key = b"".join(int(value).to_bytes(2, "big") for value in samples[3, 4])
    found = read(tmp_path, png(samples, bits, "rgb", chunks=[(b"tRNS", key)]))
    expected = luminance(samples, top)
    expected[(samples == samples[3, 4]).all(axis=2)] = 0
    np.testing.assert_allclose(found.picture, expected, atol=0.51 / top)
    assert found.picture[3, 4] == 0
    assert found.notices == (Notice.COLOUR, Notice.TRANSPARENT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG 8", "PNG 16", "PNG RGB 16", "JPEG"])
def test_exif_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes()
    if kind == "JPEG":
        buffer = io.BytesIO()
        grey = np.kron(RNG.integers(0, 256, (3, 4)), np.ones((8, 8), int))
        Image.fromarray(grey.astype("u1")).save(buffer, "JPEG", quality=100, exif=block)
        data, top, atol = buffer.getvalue(), 255, 2 / 255
    else:
        bits = 8 if kind == "PNG 8" else 16
        grey, top, atol = random(bits)[..., 0], 2**bits - 1, 1e-6
        samples = np.repeat(grey[..., None], 3, axis=2) if "RGB" in kind else grey
        chunks = [(b"eXIf", block.removeprefix(b"Exif\0\0"))]
        data = png(samples, bits, "rgb" if "RGB" in kind else "grey", chunks=chunks)
    # TIFF 6.0, section 8: where row 0 and column 0 of the stored picture are shown
    turned = {
        1: grey,
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: grey[::-1].T,
        7: grey[::-1, ::-1].T,
        8: grey[:, ::-1].T,
    }[orientation]
    np.testing.assert_allclose(read(tmp_path, data).picture, turned / top, atol=atol)


@pytest.mark.parametrize(
    ("chunks", "notices"),
    [
        ([(b"gAMA", (100000).to_bytes(4, "big"))], (Notice.GAMMA,)),
        ([(b"gAMA", (45455).to_bytes(4, "big"))], ()),
        ([(b"sRGB", b"\0"), (b"gAMA", (45455).to_bytes(4, "big"))], ()),
        ([(b"sRGB", b"\0")], ()),
        ([(b"sBIT", b"\x0c")], ()),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_gamma_is_not_applied_and_said(tmp_path, bits, chunks, notices):
    samples = random(bits)
    found = read(tmp_path, png(samples, bits, chunks=chunks))
    np.testing.assert_allclose(found.picture, samples[..., 0] / (2**bits - 1), atol=1e-6)
    assert found.notices == notices


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_colour_profile_is_not_applied_and_said(tmp_path, kind):
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 64, axis=0)
    Image.fromarray(picture).save(buffer, kind, icc_profile=profile)
    found = read(tmp_path, buffer.getvalue())
    np.testing.assert_allclose(found.picture, picture / 255, atol=3 / 255)
    assert found.notices == (Notice.COLOUR_PROFILE,)


def test_16_bits_of_which_12_are_used_are_said_and_not_stretched(tmp_path):
    found = read(tmp_path, png(random(12), 16))
    assert found.picture.max() < 0.07
    assert found.notices == (Notice.NARROW_16_BITS,)


def jpeg(picture, mode, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture.astype("u1"), mode).save(buffer, "JPEG", quality=100, **options)
    return buffer.getvalue()


BLOCKS = np.kron(np.array([[0, 60], [130, 255]]), np.ones((16, 16), int))


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_in_grey_and_in_colour(tmp_path, progressive):
    found = read(tmp_path, jpeg(BLOCKS, "L", progressive=progressive))
    np.testing.assert_allclose(found.picture, BLOCKS / 255, atol=1.01 / 255)
    assert not found.notices
    grey = np.repeat(BLOCKS[..., None], 3, axis=2)
    found = read(tmp_path, jpeg(grey, "RGB", progressive=progressive))
    np.testing.assert_allclose(found.picture, BLOCKS / 255, atol=2.01 / 255)
    assert not found.notices
    red = grey * np.array([1, 0, 0])
    found = read(tmp_path, jpeg(red, "RGB", subsampling=0, progressive=progressive))
    np.testing.assert_allclose(found.picture, R * BLOCKS / 255, atol=4 / 255)
    assert found.notices == (Notice.COLOUR,)


def test_jpeg_in_cmyk_is_read_and_said(tmp_path):
    ink = np.zeros((32, 32, 4), int)
    ink[..., 3] = 255 - BLOCKS  # black alone
    found = read(tmp_path, jpeg(ink, "CMYK"))
    np.testing.assert_allclose(found.picture, BLOCKS / 255, atol=4 / 255)
    assert Notice.CMYK in found.notices


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (next(generate_frames(encode_cells(chest(), JPEGLSLossless).PixelData, number_of_frames=1)), "JPEG-LS outside"),
        (b"\xff\xd8\xff\xc3\x00\x0b\x10\x00\x10\x00\x10\x01\x01\x11\x00", "lossless JPEG outside DICOM: convert it"),
        (b"\xff\xd8\xff\xc1\x00\x0b\x0c\x00\x10\x00\x10\x01\x01\x11\x00", "JPEG of 12 bits a sample: must be 8"),
        (jpeg(BLOCKS, "L")[:200], r"unreadable \(damaged or cut short\)"),
        (b"\x89PNG\r\n\x1a\n", r"unreadable \(damaged or cut short\)"),
    ],
)
def test_other_jpeg_and_damage_are_named(tmp_path, data, message):
    with pytest.raises(IngestError, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("bits", "kind", "channels"), [(16, "rgb", 3), (16, "grey", 2), (8, "rgb", 3), (16, "grey", 1)]
)
def test_damaged_png_is_named(tmp_path, bits, kind, channels):
    whole = png(random(bits, channels), bits, kind)
    for data in (whole[:-30], whole[: len(whole) // 2], whole[:60] + b"\xff" + whole[61:]):
        with pytest.raises(IngestError, match=r"unreadable \(damaged or cut short\)"):
            read(tmp_path, data)


@pytest.mark.parametrize("mode", ["I;16", "L", "RGB"])
def test_tiff_is_named_and_never_cut_to_8_bits(tmp_path, mode):
    buffer = io.BytesIO()
    picture = chest(65535).astype(np.uint16) if mode == "I;16" else (chest(255)).astype(np.uint8)
    picture = np.repeat(picture[..., None], 3, axis=2) if mode == "RGB" else picture
    Image.fromarray(picture).save(buffer, "TIFF", tiffinfo=ImageFileDirectory_v2())
    with pytest.raises(IngestError, match="TIFF: must be DICOM, PNG or JPEG; convert it to PNG with all its bits"):
        read(tmp_path, buffer.getvalue())


@pytest.mark.parametrize(("kind", "channels"), [("grey", 2), ("rgb", 3), ("rgb", 4)])
def test_deidentification_writes_the_picture_that_ingest_reads(tmp_path, kind, channels):
    picture = np.repeat(chest(65535)[..., None], channels, axis=2)
    picture[..., -1] = 65535 if channels % 2 == 0 else picture[..., -1]
    before = read(tmp_path, png(picture, 16, kind)).picture
    after = read(tmp_path, bare_picture(tmp_path / "picture")).picture
    assert np.array_equal(before, after)
    assert len(np.unique(before)) > 256
