"""How far copies of chest X-rays lie from their originals, and different X-rays from one another.

    python -m benchmarks.near_duplicates --data $MEDIDISTILL_DATA/covid-cxr

Reads every picture of a folder with `labels.csv` (column `file`), makes altered copies of every seventh, and counts
bits of the difference hash and the correlation of fine structure as the quality gate does. Then pairs of different
phantoms: they look more alike than patients do, and the gate must not take them for copies. Writes figures alone, no
picture.
"""

from __future__ import annotations

import argparse
import csv
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medidistill.config import PhantomConfig, QualityConfig
from medidistill.files import write_json
from medidistill.ingest import generate_phantom
from medidistill.ingest.dicom import read_image
from medidistill.ingest.examine import HASH_BITS, difference_hash, fine_structure

RESULT = Path(__file__).parent / "results" / "near_duplicates.json"
Picture = NDArray[np.float32]
_NEAR = 40


def _jpeg(picture: Picture) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(buffer, "JPEG", quality=50)
    return np.asarray(np.asarray(Image.open(buffer)) / 255, dtype=np.float32)


def _resized(picture: Picture) -> Picture:
    size = (round(0.7 * picture.shape[1]), round(0.7 * picture.shape[0]))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


COPIES: dict[str, Callable[[Picture], Picture]] = {
    "JPEG of quality 50": _jpeg,
    "resized to 0.7": _resized,
    "gamma 1.2": lambda picture: np.asarray(picture**1.2, dtype=np.float32),
    "contrast 1.15, brighter": lambda picture: np.asarray(np.clip((picture - 0.5) * 1.15 + 0.54, 0, 1), np.float32),
    "noise of 3 grey levels": lambda picture: np.asarray(
        np.clip(picture + np.random.default_rng(0).normal(0, 3 / 255, picture.shape), 0, 1), np.float32
    ),
    "cut by 2 % on each side": lambda picture: np.ascontiguousarray(picture[3:-3, 3:-3]),
    "negative": lambda picture: 1 - picture,
}


def _fine(picture: Picture) -> Picture:
    """Return what the gate correlates, of unit length."""
    rest = np.frombuffer(fine_structure(picture), np.int8).astype(np.float32)
    return np.asarray(rest / max(float(np.linalg.norm(rest)), 1e-12))


def _quantiles(values: list[float]) -> dict[str, float]:
    return {f"{q}": round(float(np.percentile(values, q)), 4) for q in (0, 1, 5, 50, 95, 99, 100)}


def _pairs(outlines: Picture, fine: Picture, patients: Sequence[str]) -> dict[str, object]:
    """Return how near pairs of different patients come, and how many the gate would take for copies."""
    names = np.asarray(patients)
    chosen = np.triu(names[:, None] != names[None], 1)
    bits = ((HASH_BITS - np.abs(outlines @ outlines.T)) / 2)[chosen]
    correlation = np.abs(fine @ fine.T)[chosen]
    limits = QualityConfig()
    near = bits <= limits.max_bits
    return {
        "films": len(fine),
        "pairs": len(bits),
        "smallest bits": np.sort(bits)[:5].tolist(),
        "pairs within the bits": int(near.sum()),
        "highest correlation within the bits": round(float(np.max(correlation[near], initial=0)), 4),
        f"highest correlation within {_NEAR} bits": round(float(np.max(correlation[bits <= _NEAR], initial=0)), 4),
        "taken for near duplicates": int((near & (correlation >= limits.min_correlation)).sum()),
    }


def _phantoms(patients: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        source = generate_phantom(Path(folder) / "phantoms", PhantomConfig(patients_per_class=patients, size=256))
        with open(source / "labels.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        films = [read_image(source / row["path"]) for row in rows]
    outlines = np.stack([difference_hash(film) for film in films]).astype(np.float32) * 2 - 1
    return _pairs(outlines, np.stack([_fine(film) for film in films]), [row["patient_id"] for row in rows])


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--phantoms", type=int, default=200, help="phantom patients in each class (default: 200)")
    arguments = parser.parse_args()
    with open(arguments.data / "labels.csv", newline="", encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    films = [np.asarray(np.asarray(Image.open(arguments.data / n).convert("L")) / 255, np.float32) for n in names]
    outlines = np.stack([difference_hash(film) for film in films]).astype(np.float32) * 2 - 1
    fine = np.stack([_fine(film) for film in films])
    limits = QualityConfig()
    result: dict[str, object] = {
        "films": len(films),
        "limits": {"max_bits": limits.max_bits, "min_correlation": limits.min_correlation},
        "different films": _pairs(outlines, fine, [str(n) for n in range(len(films))]),
        "different phantoms": _phantoms(arguments.phantoms),
    }
    for name, change in COPIES.items():
        far, alike = [], []
        for index in range(0, len(films), 7):
            copy = change(films[index])
            differing = int((difference_hash(copy) != (outlines[index] > 0)).sum())
            far.append(float(min(differing, HASH_BITS - differing)))
            alike.append(abs(float(_fine(copy) @ fine[index])))
        found = (np.asarray(far) <= limits.max_bits) & (np.asarray(alike) >= limits.min_correlation)
        result[name] = {
            "copies": len(far),
            "bits": _quantiles(far),
            "correlation": _quantiles(alike),
            "found": round(float(found.mean()), 4),
        }
    write_json(arguments.output, result)
    print(arguments.output.read_text())


if __name__ == "__main__":
    main()
