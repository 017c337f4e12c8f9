"""Mutated codestreams with identifiers at random places: none comes out, and every file ends in a picture or a reason.

Real streams of every syntax are used where `MEDIDISTILL_DATA` names them, drawn ones elsewhere. A text that lands in
the pixels themselves cannot be told from them; one of three letters also stands in compressed bytes by chance. So a
hit counts where it comes back with three other texts at the same place.
"""

from __future__ import annotations

import copy
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medidistill.errors import IngestError
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify_folder
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.ingest.conftest import make_radiograph
from tests.ingest.deidentify.pixel_example import write_as_is
from tests.support.codestreams import COMPRESSED, compressed, fragments, frame_of, picture, places

_MINUTES = float(os.environ.get("MEDIDISTILL_FUZZ_MINUTES", "0"))
_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789^ ,.-"
_LONGEST_SECONDS = 60.0
_AGAIN = 3


@dataclass(frozen=True)
class Case:
    """What is done to a seed: drawn once, repeated with other texts."""

    seed: int
    kind: str
    place: float
    length: int
    flips: tuple[tuple[float, int], ...]
    cut: float | None
    doubled: tuple[float, int] | None


def _texts(rng: random.Random, length: int) -> list[bytes]:
    return ["".join(rng.choice(_LETTERS) for _ in range(length)).encode() for _ in range(_AGAIN + 1)]


def _native(syntax: UID) -> Dataset:
    dataset = make_radiograph(picture(48))
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    table = Dataset()
    table.add_new(0x00283002, "US", [4096, 0, 12])
    table.add_new(0x00283006, "OW", np.arange(4096).astype("<u2" if syntax.is_little_endian else ">u2").tobytes())
    dataset.VOILUTSequence = Sequence([table])
    return dataset


def _seeds() -> list[Dataset]:
    return [compressed(syntax, side=48) for syntax in COMPRESSED] + [_native(syntax) for syntax in _NATIVE]


def _real_seeds(folder: Path) -> list[Dataset]:
    """Grey images of one frame below a folder, without their headers; small ones, as each case decodes one thrice."""
    found = []
    for path in sorted(path for path in folder.rglob("*.dcm") if path.stat().st_size < 300_000):
        image = make_radiograph(np.zeros((1, 1)))
        try:
            with silence_pydicom():
                dataset = read_dicom(path)
                if int(dataset.SamplesPerPixel) != 1 or int(dataset.get("NumberOfFrames", 1) or 1) != 1:
                    continue
                image["PixelData"] = dataset["PixelData"]
                for word in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
                    image[word] = dataset[word]
        except (IngestError, AttributeError, KeyError, ValueError):
            continue
        image.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        found.append(image)
    return found


def _draw(rng: random.Random, seeds: list[Dataset]) -> Case:
    number = rng.randrange(len(seeds))
    syntax = seeds[number].file_meta.TransferSyntaxUID
    kinds = ["between", "between", "inside", "behind", "fragment", "table"]
    native = ["behind", "lut"] if "VOILUTSequence" in seeds[number] else ["behind"]
    kinds = [*kinds, *places(syntax)] if syntax in COMPRESSED else native
    flips = tuple((rng.random(), rng.randrange(256)) for _ in range(rng.choice((0, 0, 0, 1, 3))))
    return Case(
        number,
        rng.choice(kinds),
        rng.random(),
        rng.randint(3, 20),
        flips,
        rng.random() if rng.random() < 0.1 else None,
        (rng.random(), rng.randint(1, 100)) if rng.random() < 0.1 else None,
    )


def _segment_starts(frame: bytes, syntax: UID) -> list[int]:
    if syntax == RLELossless:
        return [64, *(int.from_bytes(frame[at : at + 4], "little") for at in range(4, 64, 4)), len(frame)]
    return [at for at in range(len(frame) - 1) if frame[at] == 0xFF and 0xBF < frame[at + 1] < 0xFF] + [len(frame)]


def _planted(dataset: Dataset, case: Case, text: bytes) -> Dataset:
    """Return a copy of a seed with a text in it, and damage that does not depend on the text."""
    dataset = copy.deepcopy(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in COMPRESSED:
        if case.kind == "lut":
            dataset.VOILUTSequence[0].LUTData = _even(dataset.VOILUTSequence[0].LUTData[:8192] + text)
        else:
            dataset.PixelData = _even(dataset.PixelData + text)
        return dataset
    frame = frame_of(dataset)
    whole = bytearray(frame)
    for place, value in case.flips:
        whole[int(place * len(whole))] = value
    if case.doubled:
        at = int(case.doubled[0] * len(whole))
        whole[at:at] = whole[at : at + case.doubled[1]]
    if case.cut is not None:
        del whole[int(case.cut * len(whole)) :]
    frame = bytes(whole)
    if case.kind in ("between", "inside"):
        starts = [at for at in _segment_starts(frame, syntax) if at <= len(frame)]
        at = (
            starts[int(case.place * len(starts))] if case.kind == "between" and starts else int(case.place * len(frame))
        )
        dataset.PixelData = fragments(b"", frame[:at] + text + frame[at:])
    elif case.kind == "fragment":
        at = int(case.place * len(frame)) // 2 * 2
        dataset.PixelData = fragments(b"", frame[:at], frame[at:], text)
    elif case.kind == "table":
        dataset.PixelData = fragments(text[: len(text) // 4 * 4], frame)
    elif case.kind == "behind":
        dataset.PixelData = fragments(b"", frame + text)
    else:
        try:
            dataset.PixelData = fragments(b"", places(syntax)[case.kind](frame, text))
        except (ValueError, AssertionError, IndexError, OverflowError):  # the damage left no such place
            dataset.PixelData = fragments(b"", frame + text)
    return dataset


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def _out(dataset: Dataset, folder: Path) -> tuple[bytes, str]:
    """De-identify one file as the command does; return every byte that was written, and the reason if there is one."""
    source, output = folder / "in", folder / "out"
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    source.mkdir()
    write_as_is(source / "a.dcm", dataset)
    result = deidentify_folder(source, output, DeidentifyConfig(max_quarantine=1.0), Key(bytes(range(40))))
    reasons = [entry.reason for entry in result.quarantine]
    written = b"".join(path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file())
    for name in result.written:  # a deflated file as a reader sees it
        with silence_pydicom():
            written += b"".join(
                bytes(element.value)
                for element in pydicom.dcmread(output / name).iterall()
                if element.VR in ("OB", "OW")
            )
    return written, reasons[0] if reasons else ""


def _run(rng: random.Random, seeds: list[Dataset], folder: Path, cases: Iterator[object]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _ in cases:
        case = _draw(rng, seeds)
        texts, hits, start = _texts(rng, case.length), 0, time.monotonic()
        for text in texts:
            data, reason = _out(_planted(seeds[case.seed], case, text), folder)
            assert not reason.startswith("unreadable ("), (case, reason)
            assert time.monotonic() - start < _LONGEST_SECONDS * (hits + 1), case
            if text not in data:
                break
            hits += 1
        assert hits <= _AGAIN, (case, seeds[case.seed].file_meta.TransferSyntaxUID.name)
        counts["files"] += hits + 1
        counts["cases"] += 1
        counts["quarantined" if reason else "written"] += 1
        counts["by chance"] += hits
        counts[f"syntax {seeds[case.seed].file_meta.TransferSyntaxUID.name}"] += 1
    return counts


def test_no_text_comes_out_of_mutated_codestreams(tmp_path: Path) -> None:
    counts = _run(random.Random(20), _seeds(), tmp_path, iter(range(25)))
    assert counts["written"] > 5
    assert counts["quarantined"] > 2


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(7200)
def test_no_text_comes_out_of_mutated_codestreams_for_long(tmp_path: Path, real_data: Path) -> None:
    """A thousand cases; `MEDIDISTILL_FUZZ_MINUTES` goes on with new ones for so long, from a new seed."""
    seeds = _seeds() + _real_seeds(real_data / "dicom")
    if not _MINUTES:
        _run(random.Random(1), seeds, tmp_path, iter(range(1000)))
        return
    end, seed = time.monotonic() + 60 * _MINUTES, int(time.time())
    cases = iter(lambda: time.monotonic() < end, False)
    print(f"{len(seeds)} streams, seed {seed}:", dict(_run(random.Random(seed), seeds, tmp_path, cases)))
