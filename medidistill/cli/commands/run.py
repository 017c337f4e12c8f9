"""`medidistill run`: all stages from one configuration."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import (
    add_again,
    add_command,
    add_config,
    add_machine,
    add_output,
    add_release_check,
    add_settings,
)
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import check_input, config_of, resume_hint, run_all_stages
from medidistill.pipeline.stages import STAGES

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "run",
        "all stages from one configuration",
        "Reads X-rays, trains experts, distills, compares with real images of the same number, and writes a bundle and "
        "a report. Every stage keeps what it finished: after a stop, `--resume` goes on.",
        "medidistill run --config quick --input xrays --output runs/first --set distill.ipc=10\n"
        "  medidistill run --output runs/first --resume",
    )
    add_config(parser)
    parser.add_argument("--input", type=Path, metavar="DIR", help="folder of X-rays; not needed with --resume")
    add_output(parser)
    add_again(parser)
    add_settings(parser)
    add_machine(parser)
    add_release_check(parser)
    stage = f"{', '.join(tuple(STAGES)[:-1])} or {tuple(STAGES)[-1]}"
    parser.add_argument("--from", dest="from_stage", metavar="STAGE", help=f"with --resume: do anew from {stage}")
    parser.add_argument("--until", metavar="STAGE", help=f"end after this stage: {stage}")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing: say what would be done, and about how long, how much disk and memory it takes",
    )
    parser.add_argument(
        "--tensorboard", type=Path, metavar="DIR", help="curves for TensorBoard (needs the extra track)"
    )
    parser.add_argument("--prometheus", type=Path, metavar="FILE.prom", help="metrics for a node exporter")
    parser.add_argument("--mlflow", metavar="URI", help="figures for an MLflow server (needs mlflow-skinny)")
    parser.set_defaults(handler=_run, resume_hint=resume_hint, private=IN_RUN, reads_images=True)


def _run(arguments: Namespace, stop: GracefulShutdown) -> None:
    check_input(arguments)
    if arguments.dry_run:
        from medidistill.pipeline import plan

        config, share = config_of(arguments), {"from_stage": arguments.from_stage, "until": arguments.until}
        print(plan(config, arguments.input, arguments.output, **share))
        return
    run_all_stages(arguments, stop, config_of(arguments), arguments.input, arguments.output)
