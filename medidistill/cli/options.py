"""Options that several sub-commands share."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

__all__ = ["add_again", "add_command", "add_config", "add_output", "add_settings"]


def add_command(commands: Any, name: str, title: str, text: str, example: str) -> argparse.ArgumentParser:
    """Return the parser of a new sub-command, with its title, text and example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=title,
        description=textwrap.fill(text, 96),
        epilog=f"Example:\n  {example}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file, or a ready-made one: demo, quick, standard, paper (default: all defaults)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--output`, the run folder."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the run folder")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one setting, for example distill.ipc=10; may be repeated",
    )


def add_again(parser: argparse.ArgumentParser) -> None:
    """Add `--resume` and `--force`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="continue the run that the output folder holds")
    group.add_argument("--force", action="store_true", help="delete the run that the output folder holds, start again")
