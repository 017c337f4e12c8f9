"""`medidistill status`: how a run or an intake stands."""

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
        "status",
        "how a run or an intake stands",
        "Shows whether a run is at work, which stage it is in, about how long that stage will take, what has finished "
        "and why it ended; of an intake how many studies wait and how far each batch is. Reads only; names no patient "
        "and no file of the input. The exit code says whether the question could be answered, not how the run went.",
        "medidistill status runs/first\n  medidistill status runs/first --json\n  medidistill status /data/intake",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="the run folder, or the folder of an intake")
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    parser.set_defaults(handler=_status, private=IN_RUN)


def _status(arguments: Namespace, stop: Any) -> None:
    import dataclasses
    import json

    from medidistill.pipeline.runfolder.status import describe, read_status
    from medidistill.pipeline.unattended.intake_folder import IntakeFolder
    from medidistill.pipeline.unattended.intake_status import describe_intake, read_intake_status

    path = arguments.output
    if IntakeFolder(path).is_intake():
        intake = read_intake_status(path)
        plain, text = dataclasses.asdict(intake), describe_intake(intake, path)
    else:
        status = read_status(path)
        plain, text = dict(status), describe(status, path)
    print(json.dumps(plain, indent=2, sort_keys=True) if arguments.json else text)
