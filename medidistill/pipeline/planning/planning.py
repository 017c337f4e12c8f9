"""What a run would do, how long it would take and how much it would need, before it does it.

Nothing is written into the output. Each stage estimates itself from a `Survey` of the input and of this machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medidistill.config import RunConfig
from medidistill.jsontypes import JsonObject  # JSON types for a terminal
from medidistill.machine import peak_memory
from medidistill.pipeline.planning.survey import survey_of
from medidistill.pipeline.release.release_check import ReleaseCheck, check_release
from medidistill.pipeline.runfolder.status import duration
from medidistill.pipeline.stages import stages_of

__all__ = ["Plan", "PlannedStage", "make_plan"]

_MIB = 2**20


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan: what would be done, the estimated time in seconds and size on disk in bytes."""

    name: str
    action: str
    seconds: float
    disk: int


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Args:
        images: usable images found, by label.
        set_aside: files that would be quarantined before any is decoded.
        stages: in order.
        memory: estimated peak of the process, bytes.
        release: what the counts say about a release, before any file is decoded or set aside.
    """

    images: dict[str, int]
    set_aside: int
    stages: tuple[PlannedStage, ...]
    memory: int
    release: ReleaseCheck

    def as_dict(self) -> JsonObject:
        """Return JSON types."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {count}" for name, count in self.images.items())
        lines = [f"input   {sum(self.images.values())} images ({listed}), {self.set_aside} set aside", ""]
        wide = max(14, *(len(one.name) for one in self.stages)) + 2
        lines.append(f"{'stage':<{wide}}{'action':<12}{'time about':<14}disk about")
        for one in self.stages:
            shown = duration(one.seconds) if one.action == "to do" else "-"
            lines.append(f"{one.name:<{wide}}{one.action:<12}{shown:<14}{one.disk / _MIB:.1f} MiB")
        left = sum(one.seconds for one in self.stages if one.action == "to do")
        disk = sum(one.disk for one in self.stages)
        lines += [
            "",
            f"in all  about {duration(left)}, {disk / _MIB:.0f} MiB on disk, {self.memory / _MIB:.0f} MiB of memory",
        ]
        if self.release.wanted or self.release.unresolvable:
            lines += ["", *self.release.lines(), ""]
        return "\n".join(
            [*lines, "nothing was written; times are measured on a few steps on this machine, as it is busy now"]
        )


def make_plan(config: RunConfig, source: Path, actions: Mapping[str, str]) -> Plan:
    """Estimate a run over the images in `source`.

    Args:
        config: the run.
        source: folder of X-rays; its labels are read and a few images are decoded.
        actions: what will be done with each stage, by name: `to do`, `done` or `left out`.

    Raises:
        IngestError: the input is not usable.
        ConfigError: settings that the probe's experts refuse.
    """
    survey = survey_of(config, source)
    release = check_release(config, survey.splits)
    stages, needs = [], [0.0]
    for stage in stages_of(config):
        found = stage.estimate(survey)
        stages.append(PlannedStage(stage.name, actions[stage.name], round(found.seconds, 1), int(found.disk)))
        needs += [need.bytes for need in stage.needs(config, survey.images, survey.classes)]
    counts = dict(sorted(survey.counts.items()))
    return Plan(counts, survey.set_aside, tuple(stages), peak_memory() + round(max(needs)), release)
