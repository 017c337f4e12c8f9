"""Small collections of images with a table of labels."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image

COLUMNS = ("path", "label", "patient_id", "split")


def png(path, seed=0, shape=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(path)


def table(folder, rows, columns=COLUMNS, name="labels.csv"):
    with open(folder / name, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def cohort(folder, patients=6, films=2, split=False):
    """Two classes, `patients` each, `films` images a patient."""
    rows = []
    for k, label in enumerate(("cat", "dog")):
        for p in range(patients):
            for f in range(films):
                name = f"{label}/{p}_{f}.png"
                png(folder / name, seed=1000 * k + 10 * p + f)
                rows.append((name, label, f"PHANTOM^{label}^{p}", ("train", "val", "test")[p % 3] if split else ""))
    table(folder, rows)
    return rows
