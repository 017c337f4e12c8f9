"""`medidistill report`: write the report."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_output
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import open_run

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "report",
        "write the report",
        "Writes report.html: one page with the table, its intervals, the distilled images and the curves.",
        "medidistill report --output runs/first",
    )
    add_output(parser)
    parser.set_defaults(handler=_report, private=IN_RUN)


def _report(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.pipeline.stages.report import report

    with open_run(arguments, stop) as run:
        print(report(run))
