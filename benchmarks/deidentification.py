"""Recall of the de-identification by place, and hits and false alarms of its text detector.

    python -m benchmarks.deidentification [--write] [--answers FOLDER]

Needs no data; with MEDIDISTILL_DATA set, real radiographs are screened too. `--write` renews the JSON in
benchmarks/results and the tables in docs/deidentification.md. `--answers` writes the planted set with its answers in
the form of the MIDI-B challenge, and what this version made of it.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import os
import platform
import random
import re
import secrets
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.filewriter import dcmwrite
from tqdm import tqdm

import medidistill
from benchmarks.answer_key import Answer, answers, score, write_answers, write_mappings
from benchmarks.search_alarms import search_alarms
from medidistill.config import PhantomConfig
from medidistill.errors import IngestError
from medidistill.files import write_json, write_text
from medidistill.ingest import generate_phantom
from medidistill.ingest.deidentify import DeidentifyConfig, Key, deidentify, deidentify_folder, letters_in_row
from medidistill.ingest.deidentify.reading import read_dicom
from medidistill.ingest.deidentify.text import MIN_LETTERS
from medidistill.ingest.silence_pydicom import silence_pydicom
from tests.support.planted import KINDS, Planted, burn_in, bytes_of, holds, plant

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "deidentification.json"
PAGE = ROOT / "docs" / "deidentification.md"
_TEXTS = ("PHANTOM^ADA *12.03.1961", "PHANTOM ADA  ID 4711-0815", "St. Phantom Hospital 2024-05-06")


def make_files(folder: Path, copies: int) -> tuple[list[Planted], list[Answer]]:
    """Write phantoms with planted values below `folder`, `copies` for each kind; return them and their answers."""
    phantoms = folder / "phantoms"
    generate_phantom(phantoms, PhantomConfig(patients_per_class=5, images_per_patient=1, size=128))
    sources = sorted(phantoms.rglob("*.dcm"))
    work = [(kind, copy) for kind in KINDS for copy in range(copies)]
    planted: list[Planted] = []
    rows: list[Answer] = []
    with silence_pydicom():
        for number, (kind, _) in enumerate(work):
            source = sources[number % len(sources)]
            one = plant(pydicom.dcmread(source), kind, number, folder / "planted")
            planted.append(one)
            rows += answers(one, pydicom.dcmread(source))
            if not all(holds(bytes_of(one.path) + str(one.path).encode(), value) for value in one.values):
                raise AssertionError(f"{one.place}: the value is not in the input, so nothing would be measured")
    return planted, rows


def engine_leaks(planted: Iterable[Planted], key: Key, folder: Path) -> dict[str, int]:
    """Return by kind how many files the engine alone, without screens and check, lets a value through in."""
    leaks: dict[str, int] = {}
    with silence_pydicom():
        for one in planted:
            try:
                result = deidentify(read_dicom(one.path), DeidentifyConfig(), key)
            except IngestError:
                found = False  # refused: nothing is written
            else:
                dcmwrite(folder / "engine.dcm", result.dataset, enforce_file_format=True)
                found = any(holds(bytes_of(folder / "engine.dcm"), value) for value in one.values)
            leaks[one.place] = leaks.get(one.place, 0) + found
    return leaks


def measure_places(copies: int, keep: Path | None = None) -> dict[str, Any]:
    """Return by kind: files, values that the engine let through, files quarantined, values in OUT; and the score.

    Args:
        copies: files for each kind.
        keep: a new folder for the planted set, its answers and the mappings of this version; None: nowhere.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder, key = keep or Path(temporary), Key(secrets.token_bytes(32))
        planted, answer_rows = make_files(folder, copies)
        leaks = engine_leaks(planted, key, Path(temporary))
        rows: dict[str, Any] = {}
        pairs: list[tuple[Path, Path]] = []
        start = time.perf_counter()
        for number, kind in enumerate(tqdm(KINDS, desc="kinds")):
            files = [one for one in planted if one.place == kind]
            source, output = Path(temporary) / "in" / str(number), Path(temporary) / "out" / str(number)
            for one in files:
                target = source / one.path.relative_to(folder / "planted")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(one.path.read_bytes())
            result = deidentify_folder(source, output, DeidentifyConfig(max_quarantine=1.0), key)
            pairs += [(old, output / new) for old, new in zip(result.sources, result.written, strict=True)]
            images = b"\n".join(bytes_of(output / name) for name in result.written)
            rest = b"".join((output / name).read_bytes() for name in ("audit.jsonl", "quarantine.csv"))
            names = "\n".join(str(path.relative_to(output)) for path in output.rglob("*")).encode()
            rows[kind] = {
                "files": len(files),
                "engine_leaks": leaks[kind],
                "quarantined": len(result.quarantine),
                "released": len(result.written),
                "leaks_in_output": sum(holds(images + rest + names, v) for one in files for v in one.values),
            }
        seconds = (time.perf_counter() - start) / len(planted)
        if keep is not None:
            write_answers(keep, answer_rows, planted)
            write_mappings(keep, pairs)
        actions = dataclasses.asdict(score(answer_rows, pairs))
        return {"places": rows, "seconds_per_file": seconds, "answers": actions}


def _share(values: list[int]) -> dict[str, int]:
    return {"images": len(values), "flagged": sum(value >= MIN_LETTERS for value in values)}


def phantom_text() -> dict[str, Any]:
    """Return the detector's flags on phantoms of 512 pixels, without and with text of three sizes at two borders."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        generate_phantom(Path(temporary) / "p", PhantomConfig(patients_per_class=10, images_per_patient=1, size=512))
        files = sorted(Path(temporary).rglob("*.dcm"))
        rows["phantoms, no text"] = _share([letters_in_row(pydicom.dcmread(f).pixel_array) for f in files])
        for size in (10, 14, 22):
            found = []
            for number, file in enumerate(files):
                for bottom in (False, True):
                    dataset = pydicom.dcmread(file)
                    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
                    value = 0 if inverted else 4095
                    burn_in(dataset, _TEXTS[number % 3], size=size, bottom=bottom, value=value)
                    found.append(letters_in_row(dataset.pixel_array))
            rows[f"phantoms, white text of {size} pixels"] = _share(found)
    return rows


def real_text(data: Path) -> dict[str, Any]:
    """Return the detector's flags on real radiographs: as they are, and with text burned in."""
    table = list(csv.DictReader((data / "covid-cxr" / "labels.csv").open(encoding="utf-8")))
    files = [data / "covid-cxr" / row["file"] for row in table]
    clean = [letters_in_row(np.asarray(Image.open(file).convert("L"))) for file in tqdm(files, desc="radiographs")]
    rows = {"covid-cxr, 128 pixels, as they are": _share(clean)}
    rng = random.Random(0)
    chosen = rng.sample(files, 200)
    for size in (12, 16, 22):
        found = []
        for number, file in enumerate(chosen):
            picture = Image.open(file).convert("L").resize((512, 512))
            top = rng.choice((3, 506 - size))
            font = ImageFont.load_default(size=size)
            ImageDraw.Draw(picture).text((6, top), _TEXTS[number % 3], fill=rng.choice((255, 235)), font=font)
            found.append(letters_in_row(np.asarray(picture)))
        rows[f"covid-cxr at 512 pixels, white text of {size} pixels"] = _share(found)
    burned: list[int] = []
    plain: list[int] = []
    for file in sorted((data / "dicom").rglob("*.dcm")):
        if file.parent.name in ("chest", "radiograph_other") or "burned_in" in file.name:
            try:
                with silence_pydicom():
                    pixels = pydicom.dcmread(file).pixel_array
            except Exception:  # noqa: BLE001 (what cannot be decoded is never released)
                continue
            grey = pixels.mean(-1) if pixels.ndim == 3 else pixels
            (burned if "burned_in" in file.name else plain).append(letters_in_row(grey))
    return {**rows, "DICOM radiographs, as they are": _share(plain), "DICOM, name burned in": _share(burned)}


def tables(result: dict[str, Any]) -> str:
    """Return the tables of the docs page."""
    text = io.StringIO()
    print("| planted in | files | engine alone lets through | quarantined | in the output |", file=text)
    print("|---|---|---|---|---|", file=text)
    for place in KINDS:
        row = result["places"][place]
        cells = (place, row["files"], row["engine_leaks"], row["quarantined"], row["leaks_in_output"])
        print("| " + " | ".join(map(str, cells)) + " |", file=text)
    print("\n| text in the pixels | images | flagged |\n|---|---|---|", file=text)
    for name, row in sorted(result["text"].items()):
        print(f"| {name} | {row['images']} | {row['flagged']} ({row['flagged'] / row['images']:.1%}) |", file=text)
    alarms = result["search_alarms"]
    rules = list(dict.fromkeys(row["rule"] for row in alarms))
    print("\n| a name found by chance in pixel data | " + " | ".join(rules) + " |", file=text)
    print("|---|" + "---|" * len(rules), file=text)
    for data in dict.fromkeys(row["data"] for row in alarms):
        found = {row["rule"]: f"{row['found']} of {row['pairs']}" for row in alarms if row["data"] == data}
        print(f"| {data} | " + " | ".join(found[rule] for rule in rules) + " |", file=text)
    actions = result["answers"]
    print(
        f"\nActions of the answer key taken: {actions['correct']} of {actions['actions']}. "
        "A file in quarantine takes none of those that ask for something to be retained.",
        file=text,
    )
    return text.getvalue().strip()


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=5, help="files for each place (default: 5)")
    parser.add_argument("--write", action="store_true", help="renew the JSON and the tables of the docs page")
    parser.add_argument("--answers", type=Path, metavar="FOLDER", help="new folder for the planted set and its answers")
    arguments = parser.parse_args()
    if arguments.answers is not None:
        arguments.answers.mkdir(parents=True)
    result = measure_places(arguments.copies, arguments.answers)
    result["search_alarms"] = search_alarms(os.environ.get("MEDIDISTILL_DATA"))
    result["text"] = phantom_text()
    if data := os.environ.get("MEDIDISTILL_DATA"):
        result["text"] |= real_text(Path(data))
    result["made_with"] = {
        "command": f"python -m benchmarks.deidentification --copies {arguments.copies}",
        "medidistill": medidistill.__version__,
        "pydicom": pydicom.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    print(tables(result))
    if arguments.write:
        write_json(RESULT, result)
        marks = "<!-- tables -->", "<!-- end of tables -->"
        page = re.sub(
            f"{marks[0]}.*?{marks[1]}",
            lambda _: f"{marks[0]}\n{tables(result)}\n{marks[1]}",
            PAGE.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        write_text(PAGE, page)
    print(json.dumps(result["made_with"]))


if __name__ == "__main__":
    main()
