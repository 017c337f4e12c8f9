"""What several sub-commands do. They call the pipeline and print; nothing is computed here.

What they need is imported when they are called: torch takes seconds, and `status` must not wait for it.
"""

from __future__ import annotations

import contextlib
import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medidistill.cli.options import machine_settings
from medidistill.errors import ConfigError

if TYPE_CHECKING:
    from medidistill.config import PhantomConfig, RunConfig
    from medidistill.pipeline import GracefulShutdown, RunFolder
    from medidistill.pipeline.runfolder.sinks import Sink
    from medidistill.pipeline.work import RunContext

__all__ = [
    "check_input",
    "config_of",
    "make_phantoms",
    "open_run",
    "print_verdict",
    "record_of",
    "resume_hint",
    "run_all_stages",
    "run_command",
    "settings_of",
]


def run_command(arguments: Namespace) -> None:
    """Do what the parsed arguments ask for. Raises `MedidistillError`."""
    from medidistill.pipeline.stopping import GracefulShutdown

    _check_ranks(arguments)
    with GracefulShutdown(_hint(arguments)).install_handlers() as stop:
        arguments.handler(arguments, stop)


def _check_ranks(arguments: Namespace) -> None:
    count = os.environ.get("WORLD_SIZE", "1")
    shares = getattr(arguments, "shares_ranks", False) and getattr(arguments, "shard", None) is None
    if count != "1" and "RANK" in os.environ and not shares:
        command = arguments.command + (" --shard" if getattr(arguments, "shard", None) else "")
        raise ConfigError(
            f"{command}: started as {count} processes (WORLD_SIZE), which only experts and distill can share; "
            "start it once, without torchrun"
        )


def _hint(arguments: Namespace) -> str:
    """Return how a stopped command is continued, from `resume_hint` of its parser: a text, or what makes one."""
    hint = getattr(arguments, "resume_hint", "continue with the same command")
    return str(hint(arguments) if callable(hint) else hint)


def resume_hint(arguments: Namespace) -> str:
    """Return the hint of the commands that start a run."""
    return f"continue with: medidistill {arguments.command} --output {arguments.output} --resume"


def record_of(arguments: Namespace) -> str:
    """Return the command for the record, without paths: they may name patients or machines."""
    parts = ["medidistill", arguments.command]
    if getattr(arguments, "config", None):
        parts.append(f"--config {Path(arguments.config).name}")
    return " ".join([*parts, "--input INPUT --output OUTPUT", *(f"--set {item}" for item in arguments.overrides)])


def config_of(arguments: Namespace) -> RunConfig:
    """Return the configuration that the arguments ask for; with `--resume` and no `--config`, that of the run."""
    from medidistill.pipeline import RunFolder, load_config

    folder = RunFolder(arguments.output)
    if arguments.resume and arguments.config is None and folder.holds_run():
        return load_config(folder.config_file, settings_of(arguments))
    return load_config(arguments.config, settings_of(arguments))


def settings_of(arguments: Namespace) -> list[str]:
    """Return the single settings that are stronger than the file: the environment's, then the options'."""
    from medidistill.pipeline import environment_settings

    return [*environment_settings(os.environ), *machine_settings(arguments), *getattr(arguments, "overrides", ())]


def check_input(arguments: Namespace) -> None:
    """Raise `ConfigError` where a run has no images yet and none are named."""
    from medidistill.pipeline import RunFolder

    if arguments.input is None and arguments.resume:
        RunFolder.open(arguments.output, option="--output")  # or it says that there is no run
    elif arguments.input is None:
        raise ConfigError("--input is missing: name the folder of X-rays")


def make_phantoms(folder: Path, config: PhantomConfig, arguments: Namespace) -> Path:
    """Write phantom studies; return where their labels lie."""
    from medidistill.ingest import generate_phantom  # MONAI takes seconds to load

    return generate_phantom(folder, config, progress=not arguments.quiet)


def run_all_stages(
    arguments: Namespace, stop: GracefulShutdown, config: RunConfig, source: Path | None, output: Path
) -> None:
    """Run what the arguments ask for and print what came of it."""
    from medidistill.pipeline import RunFolder, run

    comparison = run(
        config,
        source,
        output,
        resume=arguments.resume,
        force=arguments.force,
        from_stage=getattr(arguments, "from_stage", None),
        until=getattr(arguments, "until", None),
        progress=not arguments.quiet,
        stop=stop,
        command=record_of(arguments),
        sinks=_sinks(arguments),
    )
    if comparison is None:
        print(f"finished until {arguments.until}; continue with: medidistill run --output {output} --resume")
        return
    if config.notice:
        print(f"{config.notice}\n")
    print(comparison.to_markdown())
    print_verdict(RunFolder(output))
    done = RunFolder(output)
    print(f"\nbundle: {done.bundle}\nsummary: {done.summary}\nreport: {done.report}")


def print_verdict(folder: RunFolder) -> None:
    """Print the verdict of a run, where it has one."""
    from medidistill.files import read_json
    from medidistill.pipeline.runfolder.status import verdict_lines

    lines = verdict_lines(read_json(folder.verdict)) if folder.verdict.is_file() else []
    if lines:
        print("\n" + "\n".join(["verdict:", *lines]))


def _sinks(arguments: Namespace) -> tuple[Sink, ...]:
    from medidistill.pipeline import make_sinks

    names = ("prometheus", "tensorboard", "mlflow")
    return make_sinks(**{name: getattr(arguments, name, None) for name in names}, name=arguments.command)


@contextlib.contextmanager
def open_run(arguments: Namespace, stop: GracefulShutdown, *, ranks: bool = False) -> Iterator[RunContext]:
    """Open the run at `--output` for one stage.

    Args:
        arguments: of the command.
        stop: where requests to stop arrive.
        ranks: join the processes that torchrun started; one's error ends all.
    """
    from medidistill.distillation import Ranks, join_ranks
    from medidistill.pipeline import RunFolder, working

    joined = join_ranks() if ranks else Ranks()
    with joined.propagate_errors():
        folder = RunFolder.open(arguments.output, option="--output")
        with working(
            folder,
            stop=stop,
            progress=not arguments.quiet,
            command=f"medidistill {arguments.command}",
            ranks=joined,
            settings=machine_settings(arguments),
        ) as run:
            yield run
