"""`medidistill status`: how a run stands."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "status",
        "how a run stands",
        "Shows whether a run is at work, which stage it is in, about how long that stage will take, what has finished "
        "and why it ended. Reads only; names no patient and no file of the input. The exit code says whether the "
        "question could be answered, not how the run went.",
        "medidistill status runs/first\n  medidistill status runs/first --json",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="the run folder")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.set_defaults(handler=_status)


def _status(arguments: Namespace, stop: Any) -> None:
    import json

    from medidistill.pipeline import describe, read_status

    status = read_status(arguments.output)
    print(json.dumps(status, indent=2, sort_keys=True) if arguments.json else describe(status, arguments.output))
