"""What a run read: balance, quarantine, and a few prepared images, from the private part of its folder."""

from __future__ import annotations

import functools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors import SafetensorError, safe_open

from medidistill.errors import IngestError
from medidistill.patient_units import PatientUnits
from medidistill.report.wording import confounded_sites, quarantine_by_reason
from view_models.runs import RunView

__all__ = ["Ingested", "class_names", "read_ingested", "shown_images"]


@dataclass(frozen=True)
class Ingested:
    """What a run read.

    Args:
        splits: class x split.
        sites: class x site; empty where no site is known.
        confounded: a sentence for each class that shares no site with another.
        quarantine: (reason, number of files).
        excluded: files that somebody had excluded by hand.
        notes: what tells the patients apart, where not every image names its own.
    """

    splits: pd.DataFrame
    sites: pd.DataFrame
    confounded: tuple[str, ...]
    quarantine: tuple[tuple[str, int], ...]
    notes: tuple[str, ...] = ()
    excluded: int = 0


def read_ingested(run: RunView) -> Ingested | None:
    """Read the tables of the ingest stage; None where it has not finished."""
    if "ingest" not in run.finished:
        return None
    splits = pd.DataFrame((run.facts or {})["ingest"]["images"])[["train", "val", "test"]]
    try:
        manifest = pd.read_csv(run.folder.ingest / "manifest.csv", dtype=str, keep_default_na=False)
        quarantine = pd.read_csv(run.folder.ingest / "quarantine.csv", dtype=str, keep_default_na=False)
        manifest, quarantine = manifest[["label", "site"]], quarantine[["key", "reason"]]
    except (OSError, ValueError, KeyError) as error:
        raise IngestError(f"{run.folder.ingest.name}: its tables cannot be read; resume the run") from error
    known = manifest[manifest["site"] != ""]
    sites = pd.crosstab(known["label"], known["site"]) if len(known) else pd.DataFrame()
    counted: dict[str, Counter[str]] = {
        str(site): Counter({str(k): int(v) for k, v in sites[site].items()}) for site in sites.columns
    }
    pairs = list(zip(quarantine["key"], quarantine["reason"], strict=True))
    return Ingested(
        splits,
        sites,
        tuple(confounded_sites(counted, tuple(map(str, splits.index)))),
        tuple((reason, count) for reason, count, _ in quarantine_by_reason(pairs)),
        tuple(PatientUnits.from_facts((run.facts or {})["ingest"]).sentences()),
        int((run.facts or {})["ingest"].get("excluded", 0)),
    )


def shown_images(run: RunView, each: int = 2) -> list[tuple[npt.NDArray[Any], str]]:
    """Return the first prepared training images of every class, (rows, columns) in [0, 1]: patients' images."""
    path = run.folder.ingest / "train.safetensors"
    try:
        with safe_open(str(path), framework="np") as file:
            labels, images = file.get_tensor("labels"), file.get_slice("images")
            chosen = [int(i) for k in np.unique(labels) for i in np.flatnonzero(labels == k)[:each]]
            pixels = [np.asarray(images[i : i + 1])[0].mean(0) for i in chosen]
    except (SafetensorError, OSError) as error:
        raise IngestError(f"{path.name}: cannot be read; resume the run") from error
    names = class_names(run)
    return [(image, names[int(labels[i])]) for image, i in zip(pixels, chosen, strict=True)]


def class_names(run: RunView) -> tuple[str, ...]:
    """Return the names of the classes in label order; empty before the X-rays were read."""
    path = run.folder.ingest / "train.safetensors"
    if "ingest" not in run.finished or not path.is_file():
        return ()
    return _names(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _names(path: Path, changed: int) -> tuple[str, ...]:
    try:
        with safe_open(str(path), framework="np") as file:
            return tuple(json.loads((file.metadata() or {})["medidistill"])["class_names"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise IngestError(f"{path.name}: damaged; resume the run") from error
