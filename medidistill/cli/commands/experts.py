"""`medidistill experts`: train the experts on the real images."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_machine, add_output, machine_settings
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import open_run
from medidistill.errors import ConfigError

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "experts",
        "train the experts on the real images",
        "Trains networks on the training split and keeps one snapshot an epoch: the trajectories that distillation "
        "matches. Finished experts are kept when it is run again.",
        "medidistill experts --output runs/first",
    )
    add_output(parser)
    add_machine(parser)
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="train every N-th expert from number I, beside other processes on the same folder",
    )
    parser.set_defaults(handler=_experts, private=IN_RUN, shares_ranks=True)


def _experts(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.pipeline import RunFolder, train_shard
    from medidistill.pipeline.stages.experts import experts

    if arguments.shard is not None:
        folder = RunFolder.open(arguments.output, option="--output")
        settings = machine_settings(arguments)
        train_shard(folder, _shard(arguments.shard), stop=stop, progress=not arguments.quiet, settings=settings)
        return
    with open_run(arguments, stop, ranks=True) as run:
        experts(run)
        if run.ranks.writes:
            print(run.folder.experts)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ConfigError(f"--shard {text}: must be I/N with 0 <= I < N, for example 0/4")
    return int(found[1]), int(found[2])
