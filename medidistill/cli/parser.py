"""What the command line accepts, and the help that teaches it."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import textwrap
from typing import NoReturn

import medidistill
from medidistill.cli.commands import COMMANDS
from medidistill.errors import ConfigError, did_you_mean

__all__ = ["make_parser"]

_EXIT_CODES = """\
exit codes: 0 done; 2 wrong setting or argument; 3 input missing or inconsistent; 4 refused by the
privacy gate; 5 disk, memory or permission; 6 too many files quarantined; 7 the optimisation diverged;
130, 143 stopped, resumable."""


class _Parser(argparse.ArgumentParser):
    """Complains in one line, as every other error of medidistill does."""

    def error(self, message: str) -> NoReturn:
        """Print the message, its remedy, and end with the exit code of a wrong argument."""
        found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        guess = did_you_mean(found[1], re.findall(r"[\w-]+", found[2])) if found else ""
        print(f"medidistill: error: {message}{guess}; see `{self.prog} --help`", file=sys.stderr)
        sys.exit(ConfigError.exit_code)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `medidistill`; `arguments.command` names the sub-command."""
    parser = _Parser(
        prog="medidistill",
        description=textwrap.fill(
            "Distill chest X-rays into a few synthetic images, and measure what they are worth. "
            "Research use, not for diagnosis.",
            96,
        ),
        allow_abbrev=False,
        epilog="example, no data needed:\n  medidistill demo\n\n" + _EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"medidistill {medidistill.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    for name in COMMANDS:
        importlib.import_module(f"medidistill.cli.commands.{name}").add(commands)
    return parser
