"""A run in work: its folder, configuration and record, and what of it is finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medidistill.config import RunConfig
from medidistill.distillation import Ranks
from medidistill.distilled_set import LabelledImages
from medidistill.errors import ConfigError, IngestError
from medidistill.files import sha256_file
from medidistill.machine import available_cores
from medidistill.networks import Workers
from medidistill.patient_units import PatientUnits
from medidistill.pipeline.planning.memory import Need, available, check
from medidistill.pipeline.prepared import PreparedData
from medidistill.pipeline.runfolder.cleaning import check_not_cleaned
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.runfolder.progress import Bar, say
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.stage import Stage
from medidistill.pipeline.stopping import GracefulShutdown
from medidistill.privacy import Event, ProvenanceLog, cohort
from medidistill.record import RunRecord

__all__ = ["RunContext", "provenance_of"]

_MIN_WORK_FOR_PROCESSES = 5e9  # activations: 20 to 30 seconds of one core, where starting two processes takes six
_LIBRARIES = 0.6e9  # bytes that torch takes in a process


def provenance_of(folder: RunFolder, record: RunRecord) -> ProvenanceLog:
    """Return what a run has used so far.

    Raises:
        IngestError: the file is damaged, of a newer version, or missing although stages of the run are finished.
    """
    if record.stages and not folder.provenance.is_file():
        raise IngestError(
            f"{folder.provenance}: missing, so that nobody knows which patients' images this run has used, and how; "
            "restore it from a backup, or run into another folder (--output)"
        )
    return ProvenanceLog.load(folder.provenance)


@dataclass
class RunContext:
    """One run in work.

    Args:
        folder: where it writes.
        config: its resolved configuration.
        record: what it has done so far.
        stop: how it is asked to stop.
        journal: where it says how it stands.
        progress: draw bars and say what is done on stderr.
        ranks: the processes that share this work; the first one alone writes into the folder.
        device: where networks are trained.
        source: folder of real images, for the ingest; None: the one that the run was started with.
        workers: processes that train small networks; None: this one trains all of them.
    """

    folder: RunFolder
    config: RunConfig
    record: RunRecord
    stop: GracefulShutdown
    journal: Journal
    progress: bool = True
    ranks: Ranks = field(default_factory=Ranks)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    source: Path | None = None
    workers: Workers | None = None

    def workers_for(self, activations: float, need: Need) -> Workers | None:
        """Return the processes that train the networks of a stage, None where this one does.

        It does where the work is shorter than the start of processes takes, on a GPU, beside other ranks, and where
        memory holds no two processes. This does not depend on how much of the work is done already, so that a run that
        goes on comes to the same bytes as one that was not stopped.

        Args:
            activations: steps x batch x width x rows x columns of all the stage's networks.
            need: memory of one process.
        """
        here = self.device.type != "cpu" or self.ranks.count > 1
        if self.workers is None or here or activations < _MIN_WORK_FOR_PROCESSES:
            return None
        cores = self.config.threads or available_cores()
        count = min(cores, int(available(self.device) / (need.bytes + _LIBRARIES)))
        if count < 2:
            return None
        self.workers.count = count
        return self.workers

    def bar(self, title: str, total: int, unit: str, part: tuple[int, int] | None = None) -> Bar:
        """Return a progress bar that also tells the journal; see `Bar`."""
        return Bar(title, total, unit, self.progress, self.journal, part)

    def require_memory(self, need: Need) -> None:
        """Raise `ResourceError` where the memory of this machine will not hold what a stage needs."""
        if self.config.memory_check:
            check(need, self.device)

    def data(self) -> PreparedData:
        """Return the prepared images. Raises `ConfigError` when `ingest` has not finished, or `clean` removed them."""
        self.require("ingest", "medidistill ingest")
        check_not_cleaned(self.folder, self.record.stages)
        return PreparedData.read(self.folder.ingest)

    def record_data_access(
        self,
        kind: str,
        inputs: str,
        mechanism: str = "none",
        parameters: Mapping[str, float] | None = None,
        origin: str = "",
        **splits: LabelledImages,
    ) -> None:
        """Write into the provenance that images are about to be used, before they are.

        Args:
            kind: of event, see `medidistill.privacy.events`.
            inputs: digest of the work; the same work again is no new event.
            mechanism: that protects the patients.
            parameters: of the mechanism.
            origin: "patients" or "phantom"; empty: as the ingest noted it.
            splits: the images, by name of their split.
        """
        if not self.ranks.writes:
            return
        manifest = provenance_of(self.folder, self.record)
        origin = origin or str(self.record.stages.get("ingest", {}).get("origin", "patients"))
        for split, images in splits.items():
            number, name = cohort(images.patient_ids)
            manifest.add(Event(kind, split, number, name, mechanism, parameters or {}, origin, inputs))
        manifest.save(self.folder.provenance)

    @property
    def patient_units(self) -> PatientUnits:
        """What stands for a patient in the images of this run."""
        return PatientUnits.from_facts(self.record.stages.get("ingest", {}))

    def require(self, stage: str, command: str) -> str:
        """Return the digest of a finished stage, or say which command comes first."""
        if stage not in self.record.stages:
            raise ConfigError(f"{self.folder.path}: stage {stage} has not finished; run `{command}` first")
        return str(self.record.stages[stage]["inputs"])

    def is_up_to_date(self, stage: str, inputs: str, *outputs: Path) -> bool:
        """Whether `stage` was done with the same inputs and its files are there, unchanged; if not, it begins now."""
        if self.ranks.broadcast_bool(lambda: self._is_whole(stage, inputs, outputs)):
            say(self.progress, f"{stage}: finished before, kept")
            self.journal.stage_finished(stage, kept=True)
        else:
            self.mark_started(stage)
            return False
        return True

    def _is_whole(self, stage: str, inputs: str, outputs: Iterable[Path]) -> bool:
        if self.record.stages.get(stage, {}).get("inputs") != inputs or not all(path.exists() for path in outputs):
            return False
        changed = self.first_modified_output(stage)
        if changed:
            say(self.progress, f"{stage}: {changed} is not what was written (checksum differs); done again")
            self.journal.event("file_changed", stage=stage, file=changed)
        return not changed

    def first_modified_output(self, stage: str) -> str:
        """Return the first file of `stage` that is missing or is not what was written; empty where all are."""
        written: dict[str, str] = self.record.stages.get(stage, {}).get("written", {})
        for name, digest in written.items():
            path = self.folder.path / name
            if not path.is_file() or sha256_file(path) != digest:
                return name
        return ""

    def mark_started(self, stage: str) -> None:
        """Note that `stage` is in work: from now on the record does not take its old files for finished ones."""
        self.journal.stage_started(stage)
        if self.record.stages.pop(stage, None) is not None and self.ranks.writes:
            self.record.save(self.folder.record_file)

    def discard(self, stage: Stage) -> None:
        """Forget `stage` and remove what it left."""
        if self.record.stages.pop(stage.name, None) is not None:
            self.record.save(self.folder.record_file)
        self.journal.stage_discarded(stage.name)
        stage.discard(self.folder)

    def mark_finished(self, stage: str, inputs: str, written: Iterable[Path] = (), **facts: Any) -> None:
        """Write into the record that `stage` has finished.

        Args:
            stage: its name.
            inputs: digest of what went in.
            written: files that `finished` compares later; for those without a checksum of their own.
            facts: figures, JSON types.
        """
        if self.ranks.writes and (files := sorted(written)):
            facts["written"] = {path.relative_to(self.folder.path).as_posix(): sha256_file(path) for path in files}
        self.record.stage(stage, inputs=inputs, **facts)
        # a stage that was done again keeps its place: what lists the stages says the same as without the detour
        place = {name: number for number, name in enumerate(self.journal.stages)}
        self.record.stages = dict(sorted(self.record.stages.items(), key=lambda one: place.get(one[0], len(place))))
        if self.ranks.writes:
            self.record.save(self.folder.record_file)
        self.journal.stage_finished(stage)
        self.stop.check()
