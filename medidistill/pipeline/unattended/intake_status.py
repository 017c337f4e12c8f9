"""How an intake stands: counts, ages and states, and no name of a patient, a study or a file."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medidistill.ingest.pacs.study_spool import list_spool
from medidistill.pipeline.runfolder.status import duration
from medidistill.pipeline.unattended.intake_folder import Batch, BatchState, IntakeFolder

__all__ = ["IntakeStatus", "Spool", "describe_intake", "read_intake_status"]

FORMAT = 1


@dataclass(frozen=True)
class Spool:
    """What was received and is not in a batch yet.

    Args:
        studies: how many.
        objects: files.
        bytes: of them.
        arriving: studies that are being sent.
        settling: studies that wait for their end.
        settled: studies that are whole.
        longest_silence_seconds: since the last file of a study.
    """

    studies: int
    objects: int
    bytes: int
    arriving: int
    settling: int
    settled: int
    longest_silence_seconds: float


@dataclass(frozen=True)
class IntakeStatus:
    """How an intake stands.

    Args:
        listening: whether a process receives.
        processing: whether a process works on batches.
        spool: what is not in a batch yet.
        batches: oldest first.
        states: number of batches in each state.
        held_up: batches whose last attempt failed.
        identified_objects: kept files with identifiers, of the spool and all batches.
        clean_images: kept de-identified copies of all batches.
    """

    listening: bool
    processing: bool
    spool: Spool
    batches: tuple[Batch, ...]
    states: Mapping[str, int]
    held_up: int
    identified_objects: int
    clean_images: int
    kind: str = "intake"
    format: int = FORMAT


def read_intake_status(root: Path) -> IntakeStatus:
    """Return how the intake at `root` stands.

    Raises:
        ConfigError: no intake is there.
        IngestError: a state is damaged.
    """
    folder = IntakeFolder.open(root)
    studies, batches = list_spool(folder.root, folder.settle), folder.batches()
    found = Counter(str(study.state) for study in studies)
    spool = Spool(
        studies=len(studies),
        objects=sum(len(study.objects) for study in studies),
        bytes=sum(study.bytes for study in studies),
        arriving=found["arriving"],
        settling=found["settling"],
        settled=found["settled"],
        longest_silence_seconds=round(max((study.silent for study in studies), default=0.0), 1),
    )
    return IntakeStatus(
        listening=folder.at_work("receiver"),
        processing=folder.at_work("processor"),
        spool=spool,
        batches=tuple(batches),
        states={str(state): sum(batch.state is state for batch in batches) for state in BatchState},
        held_up=sum(bool(batch.exit_code) for batch in batches),
        identified_objects=spool.objects + sum(batch.objects for batch in batches if not batch.identified_purged),
        clean_images=sum(batch.images or 0 for batch in batches if not batch.clean_purged),
    )


def describe_intake(status: IntakeStatus, root: Path) -> str:
    """Return the status of an intake as a few lines for a terminal."""
    spool = status.spool
    lines = [
        ("intake", str(root)),
        ("listening", "yes" if status.listening else "no"),
        ("processing", "yes" if status.processing else "no"),
        (
            "received",
            f"{spool.studies} studies, {spool.objects} objects, {spool.bytes / 1e6:.1f} MB: "
            f"{spool.arriving} arriving, {spool.settling} settling, {spool.settled} settled",
        ),
    ]
    if spool.studies:
        lines.append(("silent for", f"up to {duration(spool.longest_silence_seconds)}"))
    lines += [("batch", _describe(batch)) for batch in status.batches]
    lines.append(("kept", f"{status.identified_objects} identified objects, {status.clean_images} clean images"))
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def _describe(batch: Batch) -> str:
    words = [f"{batch.name}: {batch.state}", f"{batch.studies} studies", f"{batch.objects} objects"]
    if batch.images is not None:
        words.append(f"{batch.images} de-identified, {batch.quarantined} quarantined, {batch.labelled} labelled")
    if batch.released is not None:
        words.append("released" if batch.released else "not released")
    purged = [name for name in ("identified", "clean") if getattr(batch, f"{name}_purged")]
    words += [f"purged: {', '.join(purged)}"] if purged else []
    if batch.exit_code:
        words.append(f"held up (exit code {batch.exit_code}): {batch.error}")
    elif batch.delivered:
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(batch.delivered)
        words.append(f"delivered {duration(max(age.total_seconds(), 0.0))} ago")
    return "; ".join(words)
