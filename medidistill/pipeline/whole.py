"""A whole run, and the way in to a single stage of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from medidistill.config import RunConfig, as_dict
from medidistill.errors import PrivacyGateError
from medidistill.evaluate import Comparison
from medidistill.networks import raise_malloc_thresholds
from medidistill.pipeline import auditing, comparing, delivery, stages
from medidistill.pipeline.arms import methods
from medidistill.pipeline.config_file import load_config
from medidistill.pipeline.journal import Journal
from medidistill.pipeline.run_folder import RunFolder
from medidistill.pipeline.stopping import Stop
from medidistill.pipeline.work import Run
from medidistill.record import RunRecord

__all__ = ["run", "stage_names", "working"]


@contextlib.contextmanager
def working(folder: RunFolder, *, stop: Stop | None = None, progress: bool = True, command: str = "") -> Iterator[Run]:
    """Hold the lock of `folder` and set this process up for work with its configuration.

    Args:
        folder: an existing run folder.
        stop: where requests to stop arrive.
        progress: draw bars on stderr.
        command: `medidistill` and the sub-command at work, for the status and for a new record.
    """
    config = load_config(folder.config_file)
    methods(config)
    raise_malloc_thresholds()
    if config.threads:
        torch.set_num_threads(config.threads)
    with folder.locked():
        old = folder.record_file.exists()
        record = RunRecord.load(folder.record_file) if old else RunRecord(command=command)
        record.config = as_dict(config)
        stop = stop or Stop()
        journal = Journal(folder, "".join(command.split()[1:2]), stage_names(config))
        journal.begin(tuple(record.stages))
        try:
            yield Run(folder, config, record, stop, journal, progress)
        except BaseException as error:
            journal.end(stop.error() if isinstance(error, KeyboardInterrupt) else error)
            raise
        journal.end(None)


def stage_names(config: RunConfig) -> tuple[str, ...]:
    """Return the stages of a whole run in order, as the record names them."""
    return ("ingest", "experts", *(f"distill/{method}" for method in methods(config)), "evaluate", "export", "report")


def run(
    config: RunConfig,
    source: Path | None,
    output: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
    stop: Stop | None = None,
    command: str = "",
) -> Comparison:
    """Do all stages: ingest, experts, distill, evaluate, export, report.

    Args:
        config: the resolved configuration.
        source: folder of real images; None with `resume`: the one the run was started with.
        output: the run folder, see `RunFolder.create`.
        resume: continue; stages whose digest matches are kept.
        force: delete the run that `output` holds and start again.
        progress: draw bars on stderr.
        stop: where requests to stop arrive.
        command: how the run was started, for the record.

    Returns:
        The comparison; everything else is in `output`.

    Raises:
        MedidistillError: each class with its exit code; finished stages stay on disk.
    """
    methods(config)
    folder = RunFolder.create(output, config, resume=resume, force=force)
    stages.source_of(folder, source)
    with working(folder, stop=stop, progress=progress, command=command) as work:
        stages.ingest(work, source)
        stages.experts(work)
        for method in methods(config):
            stages.distill(work, method)
        comparison = comparing.evaluate(work)
        if config.privacy.audit != "none":
            auditing.audit(work, config.privacy.audit)
        try:
            delivery.export(work, wanted=config.privacy.audit != "none" or config.privacy.policy == "phantom")
        except PrivacyGateError:
            delivery.report(work)  # what was measured stays readable
            raise
        delivery.report(work)
    return comparison
