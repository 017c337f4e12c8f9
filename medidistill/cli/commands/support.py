"""`medidistill support`: one archive for whoever helps from outside."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command
from medidistill.cli.private_output import IN_RUN

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "support",
        "pack what helps to find a fault, without patient values",
        "Writes one zip file about a run: versions, hardware, settings without free text, status, events, digests, "
        "file sizes, curves. Images, tables, predictions, class names, file names, paths, host and user stay out.",
        "medidistill support runs/first --output support.zip",
    )
    parser.add_argument("run", type=Path, metavar="OUT", help="the run folder")
    parser.add_argument("--output", type=Path, default=Path("support.zip"), metavar="FILE", help="default: support.zip")
    parser.set_defaults(handler=_support, private=IN_RUN)


def _support(arguments: Namespace, stop: Any) -> None:
    from medidistill.pipeline import RunFolder, make_support_package

    names = make_support_package(RunFolder.open(arguments.run), arguments.output)
    print(f"{arguments.output}: {', '.join(names)}")
