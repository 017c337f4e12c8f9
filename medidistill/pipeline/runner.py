"""The runner: a whole run, and the way in to a single stage of one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from medidistill.config import RunConfig, as_dict
from medidistill.distillation import Ranks
from medidistill.errors import ConfigError, MedidistillError
from medidistill.evaluate import Comparison
from medidistill.files import private_umask
from medidistill.networks import Workers
from medidistill.pipeline.comparison.arms import delivery, methods
from medidistill.pipeline.config_io.config_file import load_config
from medidistill.pipeline.planning.machine import set_up
from medidistill.pipeline.planning.memory import check
from medidistill.pipeline.planning.named_files import check_named_files, check_source
from medidistill.pipeline.planning.planning import Plan, make_plan
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runfolder.sinks import Sink
from medidistill.pipeline.stages import position, stage_names, stages_of
from medidistill.pipeline.stages.experts import experts
from medidistill.pipeline.stages.ingest import source_of
from medidistill.pipeline.stopping import GracefulShutdown
from medidistill.pipeline.work import RunContext, provenance_of
from medidistill.record import RunRecord

__all__ = ["plan", "run", "train_shard", "working"]


@contextlib.contextmanager
def working(
    folder: RunFolder,
    *,
    stop: GracefulShutdown | None = None,
    progress: bool = True,
    command: str,
    sinks: tuple[Sink, ...] = (),
    ranks: Ranks | None = None,
    settings: Sequence[str] = (),
    source: Path | None = None,
    spawns: bool = True,
) -> Iterator[RunContext]:
    """Hold the lock of `folder` and set this process up for work with its configuration.

    The folder is closed to everybody but its owner, at the beginning and at the end; see `RunFolder`.

    Args:
        folder: an existing run folder.
        stop: where requests to stop arrive.
        progress: draw bars on stderr.
        command: `medidistill` and the sub-command at work, by a space or a dot, for the status and for a new record.
        sinks: where else the progress goes.
        ranks: the processes that do this work together, each in a block of its own. The first one holds the lock,
            writes and tells how it goes; where one fails, all do.
        settings: `KEY=VALUE` of this machine (threads, device, ...), stronger than the run's and not kept.
        source: folder of real images, for the ingest; None: the one that the run was started with.
        spawns: train small networks in processes of their own. Each imports the main module again, so that this is
            for programs whose main module does nothing on import, and not for a user's script.
    """
    ranks = ranks or Ranks()
    config = load_config(folder.config_file, settings)
    methods(config)
    device = set_up(config)
    with private_umask(), folder.locked() if ranks.writes else contextlib.nullcontext():
        if ranks.writes:
            folder.sweep()
            folder.close()
        old = folder.record_file.exists()
        record = RunRecord.load(folder.record_file) if old else RunRecord(command=command)
        provenance_of(folder, record)  # one that is damaged or lost ends the command before anything is changed
        record.config = as_dict(config)
        stop = stop or GracefulShutdown()
        name = "".join(command.replace(".", " ", 1).split()[1:2])
        journal = Journal(folder, name, stage_names(config), sinks, silent=not ranks.writes)
        journal.begin(tuple(record.stages))
        try:
            shown = progress and ranks.writes
            with ranks.propagate_errors(), Workers() as processes:
                workers = processes if spawns else None
                yield RunContext(folder, config, record, stop, journal, shown, ranks, device, source, workers)
            if ranks.writes:
                folder.close()  # a library that copies a file may copy its mode
        except BaseException as error:
            stop.disarm()
            with contextlib.suppress(MedidistillError):
                if ranks.writes:
                    folder.close()
            told = stop.error() if isinstance(error, KeyboardInterrupt) else error
            journal.end(told, released=_released(folder, config, record))
            raise
        journal.end(None, released=_released(folder, config, record))


def _released(folder: RunFolder, config: RunConfig, record: RunRecord) -> bool | None:
    """Whether the bundle of a run passed the gate and is of the method that it delivers now; None without a bundle."""
    if not folder.bundle.is_dir():
        return None
    exported = record.stages.get("export", {})
    try:
        return bool(exported.get("released")) and exported.get("method") == delivery(config, folder).method
    except MedidistillError:
        return False  # a cell of the comparison is damaged


def run(
    config: RunConfig,
    source: Path | None,
    output: Path,
    *,
    resume: bool = False,
    force: bool = False,
    from_stage: str | None = None,
    until: str | None = None,
    progress: bool = True,
    stop: GracefulShutdown | None = None,
    command: str = "",
    sinks: tuple[Sink, ...] = (),
) -> Comparison | None:
    """Do all stages of `medidistill.pipeline.stages` in order.

    Args:
        config: the resolved configuration.
        source: folder of real images; None with `resume`: the one the run was started with.
        output: the run folder, see `RunFolder.create`.
        resume: continue; stages whose digest matches are kept.
        force: delete the run that `output` holds and start again.
        from_stage: with `resume`: do this stage and those after it, up to `until`, anew, even where they are finished.
        until: end after this stage.
        progress: draw bars on stderr.
        stop: where requests to stop arrive.
        command: how the run was started, for the record.
        sinks: where else the progress goes, see `medidistill.pipeline.runfolder.sinks`.

    Returns:
        The comparison, None where `until` ends before it; everything else is in `output`.

    Raises:
        PrivacyGateError: a release is wanted that the gate would refuse whatever the audit finds; raised after ingest,
            unless `privacy.release_check` is off.
        MedidistillError: each class with its exit code; finished stages stay on disk.
    """
    stages = stages_of(config)
    first, end = _share(stage_names(config), from_stage, until)
    if from_stage and not resume:
        raise ConfigError(f"--from {from_stage}: needs --resume, it continues a run that is there")
    there = RunFolder(output)
    check_source(source, there, resume=resume)
    check_named_files(config, there if resume else None)
    if config.memory_check and not resume:  # as far as it is known before the images are read
        device = set_up(config)
        for need in (need for stage in stages for need in stage.needs(config, 0, 2)):
            check(need, device)
    folder = RunFolder.create(output, config, resume=resume, force=force, source=source)
    source = source_of(folder, source)
    with working(folder, stop=stop, progress=progress, command=command, sinks=sinks, source=source) as work:
        results = []
        for number, stage in enumerate(stages[:end]):
            if number >= first:  # at its turn: where a stage before it fails, what is there stays
                work.discard(stage)
            results.append(stage.run(work))
    return next((result for result in results if result is not None), None)


def _share(names: tuple[str, ...], from_stage: str | None, until: str | None) -> tuple[int, int]:
    """Return the index of the first stage that is done anew, and that behind the last one that is done at all."""
    first = position(names, from_stage, "--from") if from_stage else len(names)
    end = position(names, until, "--until", last=True) + 1 if until else len(names)
    if from_stage and first >= end:
        raise ConfigError(
            f"--from {from_stage} --until {until}: {from_stage} comes after {until}, so that nothing would be done; "
            f"the order is {', '.join(names)}; name a later --until, or leave it out"
        )
    return first, end


def plan(
    config: RunConfig, source: Path | None, output: Path, *, from_stage: str | None = None, until: str | None = None
) -> Plan:
    """Return what `run` would do with these arguments, and what it would take; writes nothing into `output`.

    Raises:
        MedidistillError: the input or the configuration is not usable.
    """
    names, folder = stage_names(config), RunFolder(Path(output))
    first, end = _share(names, from_stage, until)
    check_source(source, folder, resume=folder.holds_run())
    check_named_files(config, folder)
    done = set(RunRecord.load(folder.record_file).stages if folder.record_file.is_file() else ()) - {*names[first:end]}
    actions = {name: "done" if name in done else "to do" if name in names[:end] else "left out" for name in names}
    return make_plan(config, source_of(folder, source), actions)


def train_shard(
    folder: RunFolder,
    shard: tuple[int, int],
    *,
    stop: GracefulShutdown | None = None,
    progress: bool = True,
    settings: Sequence[str] = (),
) -> None:
    """Train one share of the experts, beside other processes with other shares of the same run.

    Args:
        folder: a run whose ingest has finished.
        shard: (i, n): the experts whose number is i modulo n.
        stop: where requests to stop arrive.
        progress: draw a bar on stderr.
        settings: `KEY=VALUE` of this machine, see `working`.
    """
    config = load_config(folder.config_file, settings)
    device = set_up(config)
    with folder.locked(shared=True):
        record = RunRecord.load(folder.record_file) if folder.record_file.exists() else RunRecord()
        journal = Journal(folder, silent=True)
        experts(RunContext(folder, config, record, stop or GracefulShutdown(), journal, progress, device=device), shard)
