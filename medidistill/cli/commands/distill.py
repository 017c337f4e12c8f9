"""`medidistill distill`: learn the synthetic images."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_machine, add_output
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import open_run
from medidistill.config import METHODS

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "distill",
        "learn the synthetic images",
        "Learns a few synthetic images whose training follows the experts. `iadd` weights the network's parameters by "
        "importance; `mtt` is the same with all weights one; the other methods are listed in docs/methods.md. Goes on "
        "from its checkpoint when it is run again.",
        "medidistill distill --output runs/first --method iadd",
    )
    add_output(parser)
    add_machine(parser)
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        metavar="NAME",
        help=f"one of {', '.join(METHODS)} (default: those that run.yaml compares)",
    )
    parser.set_defaults(handler=_distill, private=IN_RUN, shares_ranks=True)


def _distill(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.pipeline import methods
    from medidistill.pipeline.stages.distill import distill

    with open_run(arguments, stop, ranks=True) as run:
        for method in (arguments.method,) if arguments.method else methods(run.config):
            distill(run, method)
            if run.ranks.writes:
                print(run.folder.distill(method))
