"""`medidistill evaluate`: compare what the sets are worth."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_machine, add_output
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import open_run, print_verdict

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "evaluate",
        "compare what the sets are worth",
        "Trains fresh networks on every arm of the comparison, makes each choice on validation, scores the test "
        "split once and notes that in record.json. Finished cells are kept when it is run again.",
        "medidistill evaluate --output runs/first",
    )
    add_output(parser)
    add_machine(parser)
    parser.set_defaults(handler=_evaluate, private=IN_RUN)


def _evaluate(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.pipeline.stages.evaluate import evaluate

    with open_run(arguments, stop) as run:
        print(evaluate(run).to_markdown())
        print_verdict(run.folder)
