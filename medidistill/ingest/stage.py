"""The ingest stage: a folder of chest X-rays in, three labelled splits in memory out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from medidistill.config import IngestConfig
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.errors import IngestError
from medidistill.files import sha256_file, translate_os_errors
from medidistill.ingest.manifest import (
    Quarantined,
    check_quarantine,
    ingest_digest,
    manifest_table,
    write_manifest,
    write_quarantine,
)
from medidistill.ingest.sources import Record, class_names, find_records, workspace
from medidistill.ingest.splits import SPLITS, assign_splits, check_coverage, required_splits
from medidistill.ingest.transforms import make_dataset
from medidistill.normalisation import fit_normalisation

__all__ = ["IngestResult", "ingest"]


@dataclass(frozen=True)
class IngestResult:
    """What an ingest found.

    Args:
        train: images of the training split, (N, 1, S, S) float32 in [0, 1], sorted by key.
        val: images of the validation split, likewise.
        test: images of the test split, likewise.
        manifest: one row an image: key, label, patient_id (hashed), site, sex, age, split, width, height, sha256.
        quarantine: what was set aside, with the reason.
        digest: 16 hexadecimal digits that name files, labels, splits and configuration.
        normalisation: how the images become network input.
    """

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    manifest: pd.DataFrame
    quarantine: list[Quarantined]
    digest: str
    normalisation: Normalisation

    def write_tables(self, folder: Path) -> None:
        """Write `manifest.csv` and `quarantine.csv` into a folder, readable by their owner only."""
        write_manifest(folder / "manifest.csv", self.manifest)
        write_quarantine(folder / "quarantine.csv", self.quarantine)


def ingest(
    source: Path, config: IngestConfig, *, whole: bool = False, folder: Path | None = None, progress: bool = False
) -> IngestResult:
    """Read a source of chest X-rays: find, label, split by patient, decode, resize.

    A file that cannot be used is quarantined with its reason and never stops the run, up to the share
    `config.max_quarantine`. The same folder and configuration give the same result, bit for bit.

    Args:
        source: folder, DICOMDIR, MedMNIST npz or zip; see `medidistill.ingest.sources`.
        config: image size, classes, split, cache, limit of the quarantine.
        whole: put every image into `test`, whatever split the table or the configuration says.
        folder: a private folder for the disk cache, for what archives hold while they are read, and for the
            quarantine table of a run that had to stop; None: the system's temporary folder, and no table.
        progress: show a progress bar on stderr.

    Raises:
        IngestError: the folder, the labels or the splits are not usable as they are.
        QuarantineError: more than `config.max_quarantine` of the files were set aside.
        ResourceError: the cache cannot be written.
        ConfigError: settings that contradict each other.
    """
    source = Path(source)
    with workspace(folder) as place:
        return _ingest(source, config, whole, folder, place, progress)


def _ingest(
    source: Path, config: IngestConfig, whole: bool, folder: Path | None, place: Path, progress: bool
) -> IngestResult:
    found = find_records(source, config, place)
    records, quarantine = found.records, found.quarantine
    total = len(records) + len(quarantine)
    if not records:
        check_quarantine(quarantine, total, config, folder)
        raise IngestError(
            f"{source}: no usable images; {total} set aside, first {quarantine[0].key}: {quarantine[0].reason}"
        )
    classes = class_names(records, config)
    splits = ["test"] * len(records) if whole else assign_splits(records, classes, config)
    loaded, rejected = _load(records, config, folder, progress)
    quarantine = sorted([*quarantine, *rejected], key=lambda entry: entry.key)
    check_quarantine(quarantine, total, config, folder)

    rows: list[dict[str, Any]] = []
    images: list[Tensor] = []
    for record, split, item in zip(records, splits, loaded, strict=True):
        if item is not None:
            rows.append({**asdict(record), **item, "split": split})
            images.append(item["image"])
    required = ("test",) if whole else required_splits(any(record.split for record in records), config)
    check_coverage([row["label"] for row in rows], [row["split"] for row in rows], classes, required)
    manifest = manifest_table([{k: v for k, v in row.items() if k not in ("image", "path", "view")} for row in rows])
    parts = {split: _part(rows, images, split, classes, config.image_size) for split in SPLITS}
    return IngestResult(
        **parts,
        manifest=manifest,
        quarantine=quarantine,
        digest=ingest_digest(manifest, config),
        normalisation=fit_normalisation(config.normalisation, config.norm_mean, config.norm_std, parts["train"].images),
    )


def _part(
    rows: Sequence[dict[str, Any]], images: Sequence[Tensor], split: str, classes: tuple[str, ...], size: int
) -> LabelledImages:
    chosen = [i for i, row in enumerate(rows) if row["split"] == split]
    return LabelledImages(
        images=torch.stack([images[i] for i in chosen]) if chosen else torch.empty(0, 1, size, size),
        labels=torch.tensor([classes.index(rows[i]["label"]) for i in chosen], dtype=torch.int64),
        class_names=classes,
        patient_ids=tuple(rows[i]["patient_id"] for i in chosen),
        keys=tuple(rows[i]["key"] for i in chosen),
        sites=tuple(rows[i]["site"] for i in chosen),
        sexes=tuple(rows[i]["sex"] for i in chosen),
        ages=tuple(rows[i]["age"] for i in chosen),
    )


def _load(
    records: Sequence[Record], config: IngestConfig, folder: Path | None, progress: bool
) -> tuple[list[dict[str, Any] | None], list[Quarantined]]:
    """Decode every record: its item, or None and an entry of the quarantine."""
    items, unreadable = [], {}
    for record in tqdm(records, desc="checking files", unit="file", file=sys.stderr, disable=not progress):
        try:
            items.append({"image": str(record.path), "sha256": sha256_file(record.path)})
        except OSError as error:
            unreadable[record.key] = f"unreadable ({error.strerror})"
            items.append({"image": str(record.path), "sha256": ""})
    dataset = make_dataset(items, config.image_size, config.cache, folder)
    first: dict[str, str] = {}
    loaded: list[dict[str, Any] | None] = []
    rejected: list[Quarantined] = []
    bar = tqdm(records, desc="reading X-rays", unit="image", file=sys.stderr, disable=not progress)
    for i, record in enumerate(bar):
        sha256 = items[i]["sha256"]
        reason = f"same bytes as {first[sha256]}" if sha256 in first else unreadable.get(record.key, "")
        item = None
        if not reason:
            try:
                item = _decode(dataset, i, folder)
                first[sha256] = record.key
            except IngestError as error:
                reason = str(error)
        loaded.append(item)
        if reason:
            rejected.append(Quarantined(record.key, reason))
    return loaded, rejected


def _decode(dataset: Any, index: int, folder: Path | None) -> dict[str, Any]:
    """Return one transformed item; raises `IngestError` with the reason why it cannot be used."""
    with translate_os_errors(folder or Path()):
        try:
            item: dict[str, Any] = dataset[index]
        except RuntimeError as error:
            # MONAI wraps what its transforms raise
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, IngestError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from error
    image = item["image"]
    low, high = float(image.min()), float(image.max())
    if not high - low > 1e-6:
        raise IngestError(f"constant image (every pixel {low:.3f})")
    return item
