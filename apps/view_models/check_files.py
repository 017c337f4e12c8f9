"""Decode every file of a folder and say what is wrong with it. Run as a script by `checking`.

`python check_files.py SOURCE OUT EXCLUSIONS` writes OUT/check.json and OUT/thumbnails.npz. No prepared image is kept
but the thumbnails of what was set aside or warned of.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from pydicom import dcmread

from medidistill.errors import MedidistillError
from medidistill.files import private_folder, private_umask, write_json
from medidistill.ingest import ingest
from medidistill.ingest.dicom import file_kind
from medidistill.ingest.manifest import Quarantined
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.ingest.sources import find_records, workspace
from medidistill.pipeline import environment_settings, load_config

_SIDE = 96  # of thumbnails
_MOST = 200  # thumbnails and names of each table; reasons are counted over all files
_AGES = [0, 18, 40, 60, 80, 200]  # years
_DEPTHS = {"1": 1, "L": 8, "P": 8, "RGB": 8, "RGBA": 8, "LA": 8, "I;16": 16, "I;16B": 16, "I": 16, "F": 32}
_UNKNOWN = "unknown"


def header_facts(path: Path) -> tuple[str, str]:
    """Return (bit depth, view) of a file, in words."""
    try:
        if file_kind(path) == "dicom":
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=["BitsStored", "ViewPosition"], force=True)
            bits = dataset.get("BitsStored")
            return f"{bits} bits" if bits else _UNKNOWN, str(dataset.get("ViewPosition") or _UNKNOWN)
        with Image.open(path) as picture:
            return f"{_DEPTHS.get(picture.mode, 8)} bits", _UNKNOWN
    except Exception:  # noqa: BLE001 (a damaged file: the check itself says what is wrong with it)
        return _UNKNOWN, _UNKNOWN


def check(source: Path, output: Path, exclusions: str) -> None:
    """Check `source`, without the files on the list `exclusions`, and write what was found into `output`."""
    private_folder(output)
    ingest_config = load_config(None, environment_settings(os.environ)).ingest  # as a run of this app would read
    config = dataclasses.replace(ingest_config, image_size=_SIDE, max_quarantine=1.0, exclusions=exclusions)
    with workspace(output) as place:
        records = find_records(source, config, place).records
        facts = {record.key: header_facts(record.path) for record in records}
        views = {record.key: record.view or facts[record.key][1] for record in records}
        labels = {record.key: record.label for record in records}
    found = ingest(source, config, whole=True, folder=output, workers=0, progress=True)
    rows = found.manifest
    patients_known = not found.patients.nothing
    by_class = rows.groupby("label").agg(images=("key", "size"), patients=("patient_id", "nunique"))
    set_aside, pictures = _rows(found.quarantine, labels, found.thumbnails, "a")
    warned, more = _rows(found.warned, labels, found.thumbnails, "w")
    np.savez_compressed(output / "thumbnails.npz", **(pictures | more))
    write_json(
        output / "check.json",
        {
            "format": 1,
            "images": len(rows),
            "patients": int(rows["patient_id"].nunique()) if patients_known else None,
            "classes": [
                {
                    "class": str(name),
                    "usable images": int(row["images"]),
                    "patients": int(row["patients"]) if patients_known else "unknown",
                }
                for name, row in by_class.iterrows()
            ],
            "facts": {
                "size in pixels": _counts(f"{w} x {h}" for w, h in zip(rows["width"], rows["height"], strict=True)),
                "bit depth": _counts(facts[key][0] for key in rows["key"]),
                "view": _counts(views[key] for key in rows["key"]),
                "sex": _counts(str(one) or _UNKNOWN for one in rows["sex"].fillna("")),
                "age in years": _ages(rows["age"]),
            },
            "set_aside": set_aside,
            "set_aside_in_all": len(found.quarantine),
            "set_aside_reasons": _reasons(found.quarantine),
            "warned": warned,
            "warned_in_all": len(found.warned),
            "warned_reasons": _reasons(found.warned),
            "notes": list(found.notes),
        },
        mode=0o600,
    )


def _counts(values: Any) -> dict[str, int]:
    return dict(Counter(map(str, values)).most_common(12))


def _reasons(entries: Sequence[Quarantined]) -> dict[str, int]:
    return dict(Counter(entry.reason for entry in entries).most_common())


def _ages(ages: pd.Series[Any]) -> dict[str, int]:
    numbers = pd.to_numeric(ages, errors="coerce")
    names = [f"{low} to {high - 1}" if high < 200 else f"{low} and more" for low, high in itertools.pairwise(_AGES)]
    known = pd.cut(numbers.dropna(), _AGES, right=False, labels=names).value_counts(sort=False)
    told = {str(name): int(count) for name, count in known.items() if count}
    missing = int(numbers.isna().sum())
    return told | ({_UNKNOWN: missing} if missing else {})


def _rows(
    entries: Sequence[Quarantined], labels: Mapping[str, str], images: Mapping[str, Any], prefix: str
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Return one row an entry, and its thumbnail by the name that the row gives."""
    rows, pictures = [], {}
    for number, entry in enumerate(entries[:_MOST]):
        name = ""
        if entry.key in images:
            name = f"{prefix}{number}"
            pictures[name] = np.rint(images[entry.key][0] * 255).astype(np.uint8)
        row = {"reason": entry.reason, "class": labels.get(entry.key, ""), "file": entry.key, "picture": name}
        rows.append(row | {"like": entry.other})
    return rows, pictures


def main() -> int:
    """Check the folder that the command line names; return the exit code."""
    try:
        with private_umask(), silence_pydicom():
            check(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    except MedidistillError as error:
        print(f"medidistill: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
