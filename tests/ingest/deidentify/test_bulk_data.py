"""Text in bulk data beside the pixels: it goes, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import Key
from tests.ingest.conftest import make_radiograph
from tests.ingest.deidentify.pixel_example import TEXT, holds_a_word, stored, through
from tests.support.codestreams import (
    picture,
)


def _icon(dataset: Dataset) -> None:
    icon = make_radiograph(picture(8, 8), bits=8)
    item = Dataset()
    for element in icon.group_dataset(0x0028):
        item[element.tag] = element
    item.PixelData = icon.PixelData + TEXT + b"\0"
    item["PixelData"].VR = "OB"
    dataset.IconImageSequence = Sequence([item])


def _nested(dataset: Dataset) -> None:
    item = Dataset()
    item.add_new(0x7FE00010, "OW", TEXT + b"\0")
    item.add_new(0x00283006, "OW", TEXT + b"\0")
    dataset.AnatomicRegionSequence = Sequence([item])


def _waveform(dataset: Dataset) -> None:
    item = Dataset()
    item.add_new(0x54001010, "OW", TEXT + b"\0")
    item.ChannelLabel = TEXT.decode()
    dataset.WaveformSequence = Sequence([item])


def _tags(text: bytes) -> list[int]:
    """Tags whose bytes in a little endian file are a text."""
    return [int(group) << 16 | int(element) for group, element in np.frombuffer(text, "<u2").reshape(-1, 2)]


OTHER_BULK = {
    "icon": _icon,
    "pixel data of an item": _nested,
    "waveform": _waveform,
    "float pixel data": lambda d: d.add_new(0x7FE00008, "OF", TEXT + bytes(3)),
    "double float pixel data": lambda d: d.add_new(0x7FE00009, "OD", TEXT + bytes(3)),
    "encapsulated document": lambda d: d.add_new(0x00420011, "OB", TEXT + b"\0"),
    "curve": lambda d: d.add_new(0x50003000, "OW", TEXT + b"\0"),
    "audio": lambda d: d.add_new(0x5000200C, "OW", TEXT + b"\0"),
    "overlay": lambda d: d.add_new(0x60003000, "OW", TEXT + b"\0"),
    "overlay of a high group": lambda d: d.add_new(0x60FE3000, "OB", TEXT + b"\0"),
    "overlay label": lambda d: d.add_new(0x60001500, "LO", TEXT.decode()),
    "palette": lambda d: d.add_new(0x00281201, "OW", TEXT + b"\0"),
    "segmented palette": lambda d: d.add_new(0x00281221, "OW", TEXT + b"\0"),
    "smallest value as text": lambda d: d.add_new(0x00280106, "US", np.frombuffer(TEXT + b"\0", "<u2").tolist()),
    "padding value as text": lambda d: d.add_new(0x00280120, "US", np.frombuffer(TEXT + b"\0", "<u2").tolist()),
    "frame increment pointer": lambda d: d.add_new(0x00280009, "AT", _tags(TEXT + bytes(3))),
    "variable pixel data": lambda d: d.add_new(0x7F000010, "OW", TEXT + b"\0"),
    "coefficients": lambda d: d.add_new(0x7FE00020, "OW", TEXT + b"\0"),
    "digital signature": lambda d: d.add_new(0x04000120, "OB", TEXT + b"\0"),
    "encrypted attributes": lambda d: d.add_new(0x04000520, "OB", TEXT + b"\0"),
    "pixel data provider": lambda d: d.add_new(0x00287FE0, "UR", TEXT.decode()),
    "trailing padding": lambda d: d.add_new(0xFFFCFFFC, "OB", TEXT + b"\0"),
}


# attributes of the picture itself, and two kinds of pixels at once
REFUSED_BULK = {"padding value as text", "smallest value as text", "float pixel data", "double float pixel data"}


@pytest.mark.parametrize("kind", OTHER_BULK)
def test_a_text_in_other_bulk_data_goes_or_is_refused(kind: str, key: Key, tmp_path: Path) -> None:
    dataset = make_radiograph(picture())
    OTHER_BULK[kind](dataset)
    if kind in REFUSED_BULK:
        with pytest.raises(IngestError) as caught:
            through(dataset, key, tmp_path)
        assert not holds_a_word(str(caught.value).encode())
        return
    new, data = through(dataset, key, tmp_path)
    assert holds_a_word((tmp_path / "in.dcm").read_bytes())
    assert not holds_a_word(data)
    assert np.array_equal(stored(new), picture())
