"""`medidistill ingest`: read, split and prepare X-rays."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_again, add_command, add_config, add_output, add_settings
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import check_input, config_of, record_of, resume_hint

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "ingest",
        "read, split and prepare X-rays",
        "Reads a folder of DICOM, PNG or JPEG files with a CSV of labels (or a sub-folder for each class), splits by "
        "patient, and starts a run folder. Files that cannot be used are quarantined with their reason in "
        "ingest/quarantine.csv. The folder ingest/ holds patients' pixels: mode 0700, never part of a bundle.",
        "medidistill ingest --input xrays --output runs/first --config quick",
    )
    parser.add_argument("--input", type=Path, metavar="DIR", help="folder of X-rays; not needed with --resume")
    add_output(parser)
    add_config(parser)
    add_again(parser)
    add_settings(parser)
    parser.set_defaults(handler=_ingest, resume_hint=resume_hint, private=IN_RUN, reads_images=True)


def _ingest(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.pipeline import RunFolder, working
    from medidistill.pipeline.planning.named_files import check_named_files, check_source
    from medidistill.pipeline.stages.ingest import ingest, source_of

    check_input(arguments)
    config = config_of(arguments)
    there = RunFolder(arguments.output)
    check_source(arguments.input, there, resume=arguments.resume)
    check_named_files(config, there if arguments.resume else None)
    again = {"resume": arguments.resume, "force": arguments.force}
    folder = RunFolder.create(arguments.output, config, **again, source=arguments.input)
    source_of(folder, arguments.input)
    with working(folder, stop=stop, progress=not arguments.quiet, command=record_of(arguments)) as work:
        ingest(work, arguments.input)
        facts = work.record.stages["ingest"]
        for split, counts in facts["images"].items():
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            print(f"{split}: {sum(counts.values())} images of {facts['patients'][split]} patients ({listed})")
        print(f"quarantined: {facts['quarantined']}")
        for note in facts.get("notes", ()):
            print(f"note: {note}")
