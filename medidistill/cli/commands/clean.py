"""`medidistill clean`: remove patients' pixels from a run."""

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
        "clean",
        "remove patients' pixels from a run",
        "Removes the prepared pixels, caches and patient tables of a run, and says what it removed. Distilled sets, "
        "comparison, report and bundle stay. With --all the experts, checkpoints and predictions go too: they hold no "
        "image, but were computed from patients' images. The files are unlinked, not overwritten: on disks that need "
        "more, encrypt the file system.",
        "medidistill clean runs/first",
    )
    parser.add_argument("output", type=Path, metavar="OUT", help="the run folder")
    parser.add_argument("--all", action="store_true", help="also experts, checkpoints and predictions")
    parser.set_defaults(handler=_clean, private=IN_RUN)


def _clean(arguments: Namespace, stop: Any) -> None:
    from medidistill.pipeline import RunFolder, clean

    removed = clean(RunFolder.open(arguments.output), everything=arguments.all)
    for one in removed:
        print(f"removed {one.name} ({one.bytes / 1e6:.1f} MB): {one.what}")
    print(f"{sum(one.bytes for one in removed) / 1e6:.1f} MB removed from {arguments.output}")
