"""Ingest: read the images, split them by patient, prepare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medidistill.config import digest
from medidistill.errors import ConfigError
from medidistill.files import translate_os_errors
from medidistill.networks import freed_memory_returned
from medidistill.patient_units import FACT
from medidistill.pipeline.planning.survey import Survey
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.release.release_check import check_after_ingest
from medidistill.pipeline.runfolder.cleaning import check_not_cleaned
from medidistill.pipeline.runfolder.progress import say
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Estimate, Stage
from medidistill.pipeline.work import RunContext
from medidistill.record import RunRecord

if TYPE_CHECKING:
    from medidistill.ingest import IngestResult

__all__ = ["Ingest", "ingest", "ingest_images", "source_of"]


class Ingest(Stage):
    """Reads real X-rays into the three splits."""

    kind = "ingest"
    title = "Read the X-rays"

    def inputs(self, run: RunContext) -> str:
        """Return the digest of how images are read; the images themselves are named by what comes out."""
        return digest("ingest", run.config.ingest)

    def outputs(self, run: RunContext) -> tuple[Path, ...]:
        """Return the prepared training split."""
        return (run.folder.ingest / "train.safetensors",)

    def run(self, run: RunContext) -> None:
        """Read the images; a release that the gate would refuse whatever the audit finds ends the run here."""
        ingest(run, run.source)
        if run.config.privacy.release_check and not run.record.stages.get("export", {}).get("released"):
            check_after_ingest(run).refuse()

    def estimate(self, survey: Survey) -> Estimate:
        """Return the time of reading, and the size of the prepared images."""
        return Estimate(survey.reading * survey.images, survey.images * survey.config.ingest.image_size**2 * 4)

    def discard(self, folder: RunFolder) -> None:
        """Remove the prepared splits; the note of their source stays."""
        for file in sorted(folder.ingest.glob("*.safetensors")):
            with translate_os_errors(file):
                file.unlink()


def source_of(folder: RunFolder, source: Path | None) -> Path:
    """Return the folder of images of a run: the one it was started with. Raises `ConfigError` for another."""
    before = folder.noted_source()
    if source is None and before is None:
        if folder.record_file.is_file():
            check_not_cleaned(folder, RunRecord.load(folder.record_file).stages)
        raise ConfigError(f"{folder.path}: nothing was read yet; name the images with --input")
    if source is not None and before is not None and source.resolve() != before:
        raise ConfigError(f"--input {source}: this run was started with {before}; use that, or another --output")
    return source.resolve() if source is not None else Path(before or "")


def ingest(run: RunContext, source: Path | None) -> None:
    """Read, split and prepare the images of `source`; `None` continues with the source of the first call."""
    stage = Ingest()
    inputs = stage.inputs(run)
    source = source_of(run.folder, source)
    if not run.is_up_to_date(stage.name, inputs, *stage.outputs(run)):
        _read(run, source, inputs)
    check = check_after_ingest(run)
    if check.wanted or check.unresolvable:
        for line in check.lines():
            say(run.progress, line)


def ingest_images(run: RunContext, result: IngestResult) -> None:
    """Take images that are in memory already as the ingest of a run, in place of a folder.

    Raises:
        ConfigError: the run was begun with other images.
    """
    stage = Ingest()
    inputs = stage.inputs(run)
    if run.is_up_to_date(stage.name, inputs, *stage.outputs(run)):
        if run.data().digest != result.digest:
            raise ConfigError(f"{run.folder.path}: this run was begun with other images; name another folder")
        return
    _keep(run, result, inputs)


def _read(run: RunContext, source: Path, inputs: str) -> None:
    folder = run.folder.ingest
    say(run.progress, f"ingest: reading {source}")
    # MONAI takes seconds to load, and a run that resumes later stages has no use for it
    from medidistill.ingest import ingest as read_images

    run.folder.note_source(source)
    with freed_memory_returned():  # pictures come and go, what is noted of each stays
        result = read_images(
            source, run.config.ingest, folder=folder, workers=run.config.threads, progress=run.progress
        )
    _keep(run, result, inputs)


def _keep(run: RunContext, result: IngestResult, inputs: str) -> None:
    """Keep images that were read, and note the stage as finished."""
    folder = run.folder.ingest
    data = PreparedData.write(result, folder)
    counts = {split: getattr(data, split).counts() for split in ("train", "val", "test")}
    patients = {split: len(set(getattr(data, split).patient_ids)) for split in ("train", "val", "test")}
    aside = {"quarantined": len(result.quarantine), "warned": len(result.warned), "excluded": len(result.excluded)}
    facts = {"images": counts, "patients": patients, **aside, FACT: result.patients.as_facts(), "notes": result.notes}
    for note in result.notes:
        say(run.progress, f"ingest: {note}")
    origin = "phantom" if result.synthetic else "patients"
    tables = [path for path in folder.iterdir() if path.suffix in (".csv", ".html")]
    # before the stage counts as finished: a run that ends between the two would never note who was read
    run.record_data_access("read", inputs, origin=origin, train=data.train, val=data.val, test=data.test)
    if run.config.ingest.normalisation == "zca":
        run.record_data_access("fit_normalisation", inputs, origin=origin, train=data.train)
    run.mark_finished("ingest", inputs, tables, data=data.digest, origin=origin, **facts)
