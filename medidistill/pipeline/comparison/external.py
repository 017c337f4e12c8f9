"""A second test set from elsewhere: read with the same transforms, never split, never trained on."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from medidistill.config import IngestConfig, digest
from medidistill.distilled_set import LabelledImages
from medidistill.errors import IngestError
from medidistill.files import read_json, write_json
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.prepared import PreparedData, load_split, private_folder, save_split
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.work import RunContext

__all__ = ["external_set", "external_units"]


def external_set(run: RunContext, data: PreparedData) -> LabelledImages | None:
    """Return the images of `evaluate.external`, None where it is empty. They are read once and kept with the others.

    Raises:
        IngestError: the folder, its labels or its classes are not usable, or it holds an image of this run's own
            collection.
        QuarantineError: too many of its files cannot be used.
    """
    if not run.config.evaluate.external:
        return None
    source = Path(run.config.evaluate.external).resolve()
    folder = private_folder(run.folder.ingest / "external")
    # class names and size are those that the networks know; patients are not split; exclusions name files by path
    config = dataclasses.replace(
        run.config.ingest, classes=data.train.class_names, cache="memory", exclusions=IngestConfig().exclusions
    )
    inputs, note, file = digest("external", config, data.digest), folder / "source.json", folder / "images.safetensors"
    if file.is_file() and note.is_file() and read_json(note) == {"source": str(source), "inputs": inputs}:
        return load_split(file)[0]
    say(run.progress, f"evaluate: reading the external test set {source}")
    from medidistill.ingest import ingest  # MONAI takes seconds to load

    result = ingest(source, config, whole=True, folder=folder, progress=run.progress)
    with open(run.folder.ingest / "manifest.csv", encoding="utf-8", newline="") as table:
        own = {row["sha256"] for row in csv.DictReader(table)}
    shared = sum(value in own for value in result.manifest["sha256"])
    if shared:
        raise IngestError(
            f"evaluate.external={source}: {shared} of {len(result.test)} images are files of this run's own "
            "collection; a test set from elsewhere must not share images with it"
        )
    save_split(file, result.test, {"digest": result.digest})
    result.write_tables(folder)
    write_json(note, {"source": str(source), "inputs": inputs}, mode=0o600)
    return result.test


def external_units(run: RunContext) -> PatientUnits:
    """Return what stands for a patient in the external test set, which has been read."""
    with open(run.folder.ingest / "external" / "manifest.csv", encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    if rows and "patient_source" not in rows[0]:
        return PatientUnits(noted=False)
    return PatientUnits.of(row["patient_source"] for row in rows)
