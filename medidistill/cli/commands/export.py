"""`medidistill export`: write the bundle, and with `--release` ask the privacy gate first."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_output
from medidistill.cli.private_output import IN_RUN

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "export",
        "write the bundle; --release asks the privacy gate",
        "Writes the distilled set with its recipe, pictures, checksums and a card. Without --release the bundle says "
        "that it is not released and is for use inside. With --release the policy of the run (privacy.policy) judges "
        "the audit; a failed rule ends with exit code 4, its figure and its remedy, and writes nothing. An override is "
        "logged and printed in the card. Distillation alone gives no privacy guarantee.",
        "medidistill audit runs/first --profile full\n  medidistill export --output runs/first --release",
    )
    add_output(parser)
    parser.add_argument("--release", action="store_true", help="the bundle is to leave: ask the privacy gate")
    parser.add_argument("--override", action="append", default=[], metavar="RULE", help="release in spite of this rule")
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; printed in the card")
    parser.add_argument("--by", default="", metavar="NAME", help="who answers for it; printed in the card")
    parser.set_defaults(handler=_export, private=IN_RUN)


def _export(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.errors import ConfigError
    from medidistill.pipeline import RunFolder, working
    from medidistill.pipeline.release.releasing import Override
    from medidistill.pipeline.stages.export import export

    if (arguments.override or arguments.reason or arguments.by) and not arguments.release:
        raise ConfigError("--override, --reason and --by: need --release; nothing is judged without it")
    overrides = [Override(rule, arguments.reason, arguments.by) for rule in arguments.override]
    folder, command = RunFolder.open(arguments.output, option="--output"), f"medidistill {arguments.command}"
    with working(folder, stop=stop, progress=not arguments.quiet, command=command) as work:
        print(export(work, wanted=arguments.release, overrides=overrides))
