"""A second test set from elsewhere: read with the same transforms, never split, never trained on.

It shares neither a file nor a known patient with what this run learned from.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.config import IngestConfig, digest
from medidistill.distilled_set import LabelledImages
from medidistill.errors import IngestError, QuarantineError, ResourceError, as_known
from medidistill.files import read_json, write_json
from medidistill.patient_units import PatientSource, PatientUnits
from medidistill.pipeline.prepared import PreparedData, load_split, private_folder, save_split
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.runfolder.withholding import withhold_names
from medidistill.pipeline.work import RunContext

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["external_set", "external_units"]

_LEARNED_FROM = ("train", "val")  # experts and sets learn from the one, every choice and threshold is made on the other
_KNOWN_BY = (PatientSource.TABLE, PatientSource.HEADER)  # a study or a file is never that of another collection
_SET_ASIDE = "set_aside"  # key in `source.json`


@dataclasses.dataclass(frozen=True)
class _ExternalUnits(PatientUnits):
    """What stands for a patient in a test set from elsewhere.

    Args:
        set_aside: images that are not scored, as this run has learned from their patients.
    """

    set_aside: int = 0

    def sentences(self, *, counts: bool = True) -> list[str]:
        """Return what a reader of results must know, images that were set aside among it."""
        told = super().sentences(counts=counts)
        if self.set_aside:
            some = f"{self.set_aside} images" if counts else "Images"
            told.append(
                f"{some} of the external test set were set aside: their Patient IDs are those of patients in this "
                "run's training or validation split."
            )
        return told


def external_set(run: RunContext, data: PreparedData) -> LabelledImages | None:
    """Return the images of `evaluate.external`, None where it is empty. They are read once and kept with the others.

    Images of a patient in this run's training or validation split are set aside, where both collections name their
    patients by a table or by headers.

    Raises:
        IngestError: the folder, its labels or its classes are not usable, it holds an image of this run's own
            collection, or without the images of this run's patients a class has none. What names files or patients
            of the folder is kept apart.
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
    if file.is_file() and note.is_file():
        noted = read_json(note)
        # sets of earlier versions, without a count, may hold patients of this run
        if (noted.get("source"), noted.get("inputs")) == (str(source), inputs) and _SET_ASIDE in noted:
            return load_split(file)[0]
    say(run.progress, f"evaluate: reading the external test set {source}")
    result = _read(source, config, folder, run.progress)
    own = _rows(run.folder.ingest / "manifest.csv")
    digests = {row["sha256"] for row in own}
    shared = sum(value in digests for value in result.manifest["sha256"])
    if shared:
        raise IngestError(
            f"evaluate.external={source}: {shared} of {len(result.test)} images are files of this run's own "
            "collection; a test set from elsewhere must not share images with it"
        )
    found, result = len(result.test), _without_patients(result, own, source)
    aside = found - len(result.test)
    if aside:
        say(
            run.progress,
            f"evaluate: {aside} of {found} images of the external test set are set aside: their patients are in this "
            "run's training or validation split",
        )
    save_split(file, result.test, {"digest": result.digest})
    result.write_tables(folder)
    write_json(note, {"source": str(source), "inputs": inputs, _SET_ASIDE: aside}, mode=0o600)
    return result.test


def _read(source: Path, config: IngestConfig, folder: Path, progress: bool) -> IngestResult:
    """Read the folder. What an error repeats of its names is kept apart: nights and intakes know their inbox alone."""
    from medidistill.ingest import ingest  # MONAI takes seconds to load

    try:
        return ingest(source, config, whole=True, folder=folder, progress=progress)
    except Exception as error:
        known = as_known(error)
        if not isinstance(known, IngestError | QuarantineError | ResourceError):
            raise
        where, text = f"evaluate.external={source}", str(known).removeprefix(f"{source}: ")
        shown, count = withhold_names(text, [source], [str(source), str(folder), *config.classes])
        private = [*([str(known)] if count else []), *known.private]
        raise type(known)(f"{where}: {shown}", private=private) from error


def _without_patients(result: IngestResult, own: Sequence[Mapping[str, str]], source: Path) -> IngestResult:
    """Set the images aside whose patients this run has learned from."""
    from medidistill.ingest.manifest import Quarantined

    learned = {row["patient_id"] for row in own if row.get("split") in _LEARNED_FROM and _names_patient(row)}
    rows = result.manifest.to_dict("records")
    kept = [i for i, row in enumerate(rows) if not (_names_patient(row) and row["patient_id"] in learned)]
    aside = len(rows) - len(kept)
    if not aside:
        return result
    test = result.test.select(kept)
    without = [name for name, count in test.counts().items() if not count]
    if without:
        raise IngestError(
            f"evaluate.external={source}: {aside} of {len(rows)} images have the Patient IDs of patients in this run's "
            f"training or validation split{'' if not kept else f', and class {without[0]!r} has no others'}; name a "
            "test set of other patients, or, where two hospitals gave the same numbers to different patients, put a "
            "prefix before those of one of them"
        )
    gone = set(range(len(rows))) - set(kept)
    reason = "its patient is in the training or validation split of this run"
    quarantine = [*result.quarantine, *(Quarantined(rows[i]["key"], reason) for i in sorted(gone))]
    return dataclasses.replace(
        result,
        test=test,
        manifest=result.manifest.iloc[kept].reset_index(drop=True),
        quarantine=sorted(quarantine, key=lambda entry: entry.key),
    )


def _names_patient(row: Mapping[Any, Any]) -> bool:
    return row.get("patient_source") in _KNOWN_BY


def _rows(manifest: Path) -> list[dict[str, str]]:
    with open(manifest, encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def external_units(run: RunContext) -> PatientUnits:
    """Return what stands for a patient in the external test set, which has been read."""
    folder = run.folder.ingest / "external"
    rows = _rows(folder / "manifest.csv")
    aside = int(read_json(folder / "source.json").get(_SET_ASIDE, 0))
    if rows and "patient_source" not in rows[0]:
        return _ExternalUnits(noted=False, set_aside=aside)
    known = PatientUnits.of(row["patient_source"] for row in rows)
    return _ExternalUnits(known.table, known.header, known.study, known.nothing, set_aside=aside)
