"""Look-up tables keep their entries and lose what follows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import Key
from medidistill.ingest.dicom import render
from tests.ingest.conftest import make_radiograph
from tests.ingest.deidentify.pixel_example import TEXT, holds_a_word, through
from tests.support.codestreams import picture

CURVE = np.rint(4095 * (np.arange(4096) / 4095) ** 0.7).astype(np.uint16)
TAIL = TEXT + b"\0"


def with_table(sequence: str, entries: int, bits: int, vr: str, value: object, syntax: UID) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [entries % 65536, 0, bits])
    item.add_new(0x00283006, vr, value)
    if sequence == "ModalityLUTSequence":
        item.ModalityLUTType = "US"
    dataset = make_radiograph(picture(), **{sequence: Sequence([item])})
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    return dataset


def words(table: np.ndarray, syntax: UID) -> bytes:
    return table.astype("<u2" if syntax.is_little_endian else ">u2").tobytes()


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("vr", ["OW", "US", "SS"])
def test_a_text_behind_the_last_entry_is_cut(sequence: str, syntax: UID, vr: str, key: Key, tmp_path: Path) -> None:
    if vr == "SS" and syntax == ImplicitVRLittleEndian:
        pytest.skip("an implicit file states no value representation")
    tail = np.frombuffer(TAIL, "<u2")
    longer, plain = np.append(CURVE, tail), CURVE
    values = [
        words(one, syntax) if vr == "OW" else [int(v) for v in (one.view(np.int16) if vr == "SS" else one)]
        for one in (longer, plain)
    ]
    planted = with_table(sequence, 4096, 12, vr, values[0], syntax)
    new, data = through(planted, key, tmp_path)
    assert holds_a_word((tmp_path / "in.dcm").read_bytes()) or syntax == ExplicitVRBigEndian
    assert not holds_a_word(data)
    assert not holds_a_word(np.frombuffer(data[: len(data) // 2 * 2], "<u2").byteswap().tobytes())
    table = getattr(new, sequence)[0].LUTData
    assert np.frombuffer(table, "<u2" if syntax.is_little_endian else ">u2").tolist() == CURVE.tolist()
    clean, _ = through(with_table(sequence, 4096, 12, vr, values[1], syntax), key, tmp_path)
    assert np.array_equal(render(new), render(clean))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("count", [4096, 4095])
def test_entries_in_bytes_keep_their_order_and_lose_their_padding(
    syntax: UID, count: int, key: Key, tmp_path: Path
) -> None:
    table = (CURVE[:count] >> 4).astype(np.uint8)
    data = table.tobytes() + b"K" * (count % 2)
    if not syntax.is_little_endian:  # of a word the low byte comes first
        data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    new, _ = through(with_table("VOILUTSequence", count, 8, "OW", data, syntax), key, tmp_path)
    after = np.frombuffer(new.VOILUTSequence[0].LUTData, "<u2" if syntax.is_little_endian else ">u2")
    assert after.astype("<u2").tobytes() == table.tobytes() + b"\0" * (count % 2)


def test_65536_entries_are_counted_as_0(key: Key, tmp_path: Path) -> None:
    table = np.arange(65536).astype(np.uint16)
    value = words(table, ExplicitVRLittleEndian) + TAIL
    new, data = through(with_table("VOILUTSequence", 65536, 16, "OW", value, ExplicitVRLittleEndian), key, tmp_path)
    assert not holds_a_word(data)
    assert new.VOILUTSequence[0].LUTData == table.tobytes()


@pytest.mark.parametrize("value", [b"", TAIL, words(CURVE, ExplicitVRLittleEndian)[:-20]])
def test_too_few_entries_are_refused(value: bytes, key: Key, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"\(0028,3006\) LUT Data"):
        through(with_table("VOILUTSequence", 4096, 12, "OW", value, ExplicitVRLittleEndian), key, tmp_path)


def test_a_text_in_the_bits_above_the_entries_is_refused_and_a_wide_curve_is_not(key: Key, tmp_path: Path) -> None:
    wide = words(CURVE * 16, ExplicitVRLittleEndian)
    new, _ = through(with_table("VOILUTSequence", 4096, 12, "OW", wide, ExplicitVRLittleEndian), key, tmp_path)
    assert new.VOILUTSequence[0].LUTData == wide
    nibbles = np.array([half for byte in TEXT for half in (byte >> 4, byte & 15)], np.uint16)
    table = CURVE.copy()
    table[: len(nibbles)] |= nibbles << 12
    with pytest.raises(IngestError, match="hold more bits than"):
        through(with_table("VOILUTSequence", 4096, 12, "OW", table.tobytes(), ExplicitVRLittleEndian), key, tmp_path)
