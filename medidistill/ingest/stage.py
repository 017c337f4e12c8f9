"""The ingest stage: a folder of chest X-rays in, three labelled splits in memory out."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from medidistill.config import IngestConfig
from medidistill.distilled_set import LabelledImages, Normalisation
from medidistill.errors import ConfigError, IngestError, MedidistillError, QuarantineError
from medidistill.ingest.contact_sheet import MOST_THUMBNAILS, write_contact_sheet
from medidistill.ingest.duplicates import Copies, find_copies, find_near_duplicates
from medidistill.ingest.loading import LoadedImage, load_images, worker_count
from medidistill.ingest.manifest import (
    Quarantined,
    check_quarantine,
    ingest_digest,
    manifest_table,
    write_manifest,
    write_quarantine,
)
from medidistill.ingest.quality import screen_image
from medidistill.ingest.sources import Record, class_names, find_records, workspace
from medidistill.ingest.splits import SPLITS, assign_splits, check_coverage, describe_splits, required_splits
from medidistill.ingest.synthetic import all_marked_synthetic
from medidistill.normalisation import fit_normalisation
from medidistill.patient_units import PatientUnits
from medidistill.scratch import scratch_tensor

__all__ = ["IngestResult", "ingest"]


@dataclass(frozen=True)
class IngestResult:
    """What an ingest found.

    Args:
        train: images of the training split, (N, 1, S, S) float32 in [0, 1], sorted by key.
        val: images of the validation split, likewise.
        test: images of the test split, likewise.
        manifest: one row an image: key, label, patient_id (hashed), patient_source (how the patient is identified),
            site, sex, age, split, width, height, sha256.
        quarantine: what was set aside, with the reason.
        digest: 16 hexadecimal digits that name files, labels, splits and configuration.
        normalisation: how the images become network input.
        warned: images used despite a warning, with the reason.
        excluded: what somebody decided not to use, with the reason.
        notes: what was made of the source, sentences without names of files and patients.
        patients: how many images are attributed to a patient by which identifier.
        synthetic: whether every image is marked as synthetic.
        thumbnails: (1, S, S) of images that were set aside or used under a warning, by key: patients' pixels.
    """

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    manifest: pd.DataFrame
    quarantine: list[Quarantined]
    digest: str
    normalisation: Normalisation
    warned: list[Quarantined] = field(default_factory=list)
    thumbnails: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    excluded: list[Quarantined] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    patients: PatientUnits = field(default_factory=PatientUnits)
    synthetic: bool = False

    def write_tables(self, folder: Path) -> None:
        """Write the manifest, what was set aside, warned of or excluded, and pictures, readable by their owner only."""
        write_manifest(folder / "manifest.csv", self.manifest)
        write_quarantine(folder / "quarantine.csv", self.quarantine)
        write_quarantine(folder / "warnings.csv", self.warned)
        write_quarantine(folder / "excluded.csv", self.excluded)
        write_contact_sheet(folder / "quarantine.html", self.quarantine, self.warned, self.thumbnails)


def ingest(
    source: Path,
    config: IngestConfig,
    *,
    whole: bool = False,
    folder: Path | None = None,
    workers: int = 1,
    progress: bool = False,
) -> IngestResult:
    """Read a source of chest X-rays: find, label, split by patient, decode, resize.

    A file that cannot be used is quarantined with its reason and never stops the run, up to the share
    `config.max_quarantine`. The same folder and configuration give the same result, bit for bit.

    Args:
        source: folder, DICOMDIR, MedMNIST npz or zip; see `medidistill.ingest.sources`.
        config: image size, classes, split, cache, limit of the quarantine.
        whole: put every image into `test`, whatever the split of the table or the configuration.
        folder: a private folder for the disk cache, for what archives hold while they are read, and for the
            quarantine table of a run that had to stop; None: the system's temporary folder, and no table.
        workers: processes that decode; 0: as many as the CPUs and the number of files call for. More than one needs
            a script that guards its start (`if __name__ == "__main__":`). The result does not depend on it.
        progress: show a progress bar on stderr.

    Raises:
        IngestError: the folder, the labels or the splits are not usable as they are.
        QuarantineError: more than `config.max_quarantine` of the files were set aside.
        ResourceError: the cache cannot be written.
        ConfigError: settings that contradict each other.
    """
    source = Path(source)
    with workspace(folder) as place:
        return _ingest(source, config, whole, folder, place, workers, progress)


def _ingest(
    source: Path,
    config: IngestConfig,
    whole: bool,
    folder: Path | None,
    place: Path,
    workers: int,
    progress: bool,
) -> IngestResult:
    found = find_records(source, config, place, progress=progress)
    records, screening = found.records, _Screening(found.quarantine, found.warned)
    total = len(records) + len(screening.quarantine)
    if not records:
        check_quarantine(screening.quarantine, total, config, folder)
        screening.write(folder)
        if not screening.quarantine:
            raise IngestError(f"{source}: all {len(found.excluded)} images are in the list of exclusions")
        raise IngestError(
            f"{source}: no usable images; {total} set aside, first: {screening.quarantine[0].reason}",
            private=[f"{entry.key}: {entry.reason}" for entry in screening.quarantine],
        )
    try:
        classes = class_names(records, config)
        splits = ["test"] * len(records) if whole else assign_splits(records, classes, config)
    except (IngestError, ConfigError) as error:  # a class whose images were all set aside is not a missing class
        check_quarantine(screening.quarantine, total, config, folder)
        screening.fail(error, folder)
    drawn = "" if whole else describe_splits(records, config)
    loaded = load_images(records, config.image_size, config.cache, folder, workers or worker_count(len(records)))
    bar = tqdm(loaded, "reading X-rays", len(records), unit="image", file=sys.stderr, disable=not progress)
    films = screening.screen_each(records, bar, config, folder)
    screening.set_copies_aside(records, films, find_copies(records, films, config.quality))
    screening.set_copies_aside(records, films, find_near_duplicates(records, films, splits, config.quality))
    screening.quarantine.sort(key=lambda entry: entry.key)
    try:
        check_quarantine(screening.quarantine, total, config, folder)
    except QuarantineError:
        screening.write(folder)
        raise

    rows = [
        {**asdict(record), "width": film.width, "height": film.height, "sha256": film.sha256, "split": split}
        for record, split, film in zip(records, splits, films, strict=True)
        if film is not None
    ]
    images = [film.image for film in films if film is not None]
    required = ("test",) if whole else required_splits(any(record.split for record in records), config)
    try:
        check_coverage([row["label"] for row in rows], [row["split"] for row in rows], classes, required)
    except IngestError as error:
        screening.fail(error, folder)
    manifest = manifest_table(rows)
    patients = PatientUnits.of(manifest["patient_source"])
    used = [str(record.path) for record, film in zip(records, films, strict=True) if film is not None]
    parts = {split: _part(rows, images, split, classes, config.image_size, folder) for split in SPLITS}
    return IngestResult(
        **parts,
        manifest=manifest,
        quarantine=screening.quarantine,
        digest=ingest_digest(manifest, config),
        normalisation=fit_normalisation(config.normalisation, config.norm_mean, config.norm_std, parts["train"].images),
        warned=screening.warned,
        thumbnails=screening.thumbnails,
        excluded=found.excluded,
        notes=(*found.notes, *([drawn] if drawn else ()), *patients.sentences()),
        patients=patients,
        synthetic=all_marked_synthetic(Path(), used),
    )


@dataclass
class _Screening:
    """Collects what is set aside and what is used under a warning, with its pictures."""

    quarantine: list[Quarantined]
    warned: list[Quarantined] = field(default_factory=list)
    thumbnails: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def write(self, folder: Path | None) -> None:
        """Write what was set aside, with its pictures, where there is a folder for it."""
        if folder is not None:
            write_quarantine(folder / "quarantine.csv", self.quarantine)
            write_contact_sheet(folder / "quarantine.html", self.quarantine, self.warned, self.thumbnails)

    def fail(self, error: MedidistillError, folder: Path | None) -> NoReturn:
        """Raise `error` with where it is written what was set aside before: that may be what is missing."""
        self.write(folder)
        if not self.quarantine or folder is None or not isinstance(error, IngestError):
            raise error
        count, table = len(self.quarantine), folder / "quarantine.csv"
        set_aside = f"{count} file{' was' if count == 1 else 's were'} set aside before"
        raise IngestError(f"{error}; {set_aside}, table: {table}", private=error.private) from error

    def _note(self, action: str, entry: Quarantined, *films: tuple[str, LoadedImage]) -> None:
        (self.quarantine if action == "quarantine" else self.warned).append(entry)
        if len(self.thumbnails) < 2 * MOST_THUMBNAILS:
            self.thumbnails.update((key, film.image) for key, film in films)

    def screen_each(
        self,
        records: Sequence[Record],
        loaded: Iterable[LoadedImage | str],
        config: IngestConfig,
        folder: Path | None,
    ) -> list[LoadedImage | None]:
        """Return the images that pass the checks of a single image, None for the others; their pixels in `folder`."""
        films: list[LoadedImage | None] = []
        pixels = scratch_tensor((len(records), 1, config.image_size, config.image_size), folder).numpy()
        for place, record, film in zip(pixels, records, loaded, strict=True):
            if isinstance(film, str):
                self._note("quarantine", Quarantined(record.key, film))
                films.append(None)
                continue
            findings = list(screen_image(film, record.view, config.quality))
            for finding in findings:
                self._note(finding.action, Quarantined(record.key, finding.reason), (record.key, film))
                if finding.action == "quarantine":
                    break
            if any(finding.action == "quarantine" for finding in findings):
                films.append(None)
            else:
                place[...] = film.image
                films.append(dataclasses.replace(film, image=place))
        return films

    def set_copies_aside(self, records: Sequence[Record], films: list[LoadedImage | None], found: Copies) -> None:
        """Set copies aside: remove them from `films`."""
        for i, j, finding in found:
            film, other = films[i], films[j]
            assert film is not None
            pictures = [(records[i].key, film), *([(records[j].key, other)] if other is not None else [])]
            self._note(finding.action, Quarantined(records[i].key, finding.reason, records[j].key), *pictures)
            if finding.action == "quarantine":
                films[i] = None


def _part(
    rows: Sequence[dict[str, Any]],
    images: Sequence[NDArray[np.float32]],
    split: str,
    classes: tuple[str, ...],
    size: int,
    folder: Path | None,
) -> LabelledImages:
    chosen = [i for i, row in enumerate(rows) if row["split"] == split]
    pixels = scratch_tensor((len(chosen), 1, size, size), folder)
    for place, i in zip(pixels.numpy(), chosen, strict=True):
        place[...] = images[i]
    return LabelledImages(
        images=pixels,
        labels=torch.tensor([classes.index(rows[i]["label"]) for i in chosen], dtype=torch.int64),
        class_names=classes,
        patient_ids=tuple(rows[i]["patient_id"] for i in chosen),
        keys=tuple(rows[i]["key"] for i in chosen),
        sites=tuple(rows[i]["site"] for i in chosen),
        sexes=tuple(rows[i]["sex"] for i in chosen),
        ages=tuple(rows[i]["age"] for i in chosen),
    )
