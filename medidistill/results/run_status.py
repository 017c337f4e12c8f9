"""How a run stands, `status.json` and what `medidistill status --json` prints.

Dictionaries that are checked by type alone, not dataclasses: a status is changed in place many times a second, and read
by commands that load no library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from medidistill.jsontypes import JsonObject  # files of their own, shown as they are

__all__ = ["RunStatus"]


class RunStatus(TypedDict, total=False):
    """The status of a run; a key is missing where nothing is known yet.

    Args:
        format: version of the file.
        state: see `medidistill.pipeline.runfolder.journal.State`.
        command: sub-command at work.
        pid: of its process.
        started: ISO time.
        updated: ISO time.
        stages: all stages, in order.
        finished: stages that are done.
        stage: in work; empty where none is.
        step: units done of the piece in work.
        total: units in all; 0 where that is not known.
        unit: what is counted.
        piece: the part of the stage.
        figures: numbers to show, for example the loss.
        eta_seconds: left in the stage; None where unknown.
        elapsed_seconds: of the stage.
        error: why it failed, or was not released.
        exit_code: once it has ended.
        released: whether the bundle passed the privacy gate; None without a bundle.
        release_check: see `medidistill.pipeline.release.release_check`; None before ingest.
        verdict: see `medidistill.results.verdict`; None before the comparison.
    """

    format: int
    state: str
    command: str
    pid: int
    started: str
    updated: str
    stages: list[str]
    finished: list[str]
    stage: str
    step: int
    total: int
    unit: str
    piece: str
    figures: Mapping[str, float]
    eta_seconds: float | None
    elapsed_seconds: float
    error: str
    exit_code: int | None
    released: bool | None
    release_check: JsonObject | None
    verdict: JsonObject | None
