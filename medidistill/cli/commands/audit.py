"""`medidistill audit`: attack the distilled set of a run, and say what came of it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, number
from medidistill.cli.private_output import IN_RUN

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "audit",
        "attack the distilled set and measure what it gives away",
        "Compares the distilled images with members and non-members, distills repeatedly without half of the "
        "patients (shadow runs) to see whether membership shows, plants canaries, and tries to recognise patients. "
        "Writes OUT/audit/audit.json, which the gate of `export --release` reads. Finished shadow runs are kept. "
        "`quick` caps the experts of a shadow run at three; `full` does what the run did, 64 times. A set that passes "
        "is not thereby anonymous.",
        "medidistill audit runs/first --profile full --estimate\n  medidistill audit runs/first --profile quick",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="the run folder")
    parser.add_argument("--profile", default="quick", metavar="NAME", help="quick or full (default: quick)")
    parser.add_argument(
        "--workers",
        type=number(int, 0, 4096),
        default=0,
        metavar="N",
        help="processes (default: --threads, or one a core)",
    )
    parser.add_argument("--estimate", action="store_true", help="do one shadow run, say how long the rest takes, stop")
    parser.set_defaults(handler=_audit, private=IN_RUN)


def _audit(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.errors import ConfigError
    from medidistill.pipeline import RunFolder, working
    from medidistill.pipeline.stages.audit import AuditEstimate, audit
    from medidistill.privacy import audit_text, profile_named

    profile_named(arguments.profile)
    if arguments.workers < 0:
        raise ConfigError(f"--workers {arguments.workers}: must be >= 0")
    folder = RunFolder.open(arguments.output)
    with working(folder, stop=stop, progress=not arguments.quiet, command=f"medidistill {arguments.command}") as work:
        document = audit(work, arguments.profile, workers=arguments.workers, estimate=arguments.estimate)
        if isinstance(document, AuditEstimate):
            print("\n".join(document.release_check))
            minutes = document.seconds / 60
            print(
                f"profile {arguments.profile}: {document.shadows} shadow runs, about {minutes:.1f} min on "
                f"{document.workers} cores for those that are left"
            )
            return
        print(audit_text(document))
        print(f"\naudit: {folder.audit / 'audit.json'}\nreport: {folder.audit / 'privacy-report.html'}")
