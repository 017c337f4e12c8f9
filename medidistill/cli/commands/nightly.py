"""`medidistill nightly`: the run of a night, for cron and systemd."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_machine, add_settings
from medidistill.cli.private_output import Private

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "nightly",
        "the run of a night: new files in, a run folder out",
        "Begins a run on the inbox where it holds files that no finished run has read, goes on with the run of an "
        "earlier night that was stopped, or does nothing. Files that arrive or change while a run is at work, or "
        "stopped, are read by the next one. After a run has finished, patients' pixels are removed from its folder; "
        "after a failure a support package without patient values lies beside it. Two at once are one.",
        "medidistill nightly --inbox /data/inbox --runs /data/runs --config standard",
    )
    parser.add_argument("--inbox", type=Path, required=True, metavar="DIR", help="folder of X-rays with labels.csv")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="receives one run folder a night")
    parser.add_argument(
        "--config", default="standard", metavar="FILE", help="YAML file, or a ready-made one (default: standard)"
    )
    add_settings(parser)
    add_machine(parser)
    parser.add_argument("--prometheus", type=Path, metavar="FILE.prom", help="metrics for a node exporter")
    parser.set_defaults(handler=_nightly, private=Private(_errors), resume_hint="the next night goes on with it")


def _errors(arguments: Namespace) -> Path:
    from medidistill.pipeline.runfolder.redaction import DETAILS
    from medidistill.pipeline.unattended.nightly_notes import FOLDER

    return Path(arguments.runs / FOLDER / DETAILS)


def _nightly(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.cli.shared import settings_of
    from medidistill.errors import MedidistillError
    from medidistill.pipeline import load_config, make_sinks
    from medidistill.pipeline.unattended.nightly import run_night

    config = load_config(arguments.config, settings_of(arguments))
    night = run_night(
        arguments.inbox,
        arguments.runs,
        config,
        progress=not arguments.quiet,
        stop=stop,
        command=f"medidistill nightly --config {Path(arguments.config).name} --inbox INPUT --runs OUTPUT",
        sinks=make_sinks(prometheus=arguments.prometheus),
    )
    if night.exit_code:
        error = MedidistillError(night.text)
        error.exit_code = night.exit_code
        raise error
    print(night.text)
