"""The command `medidistill`: parse, call, print. Results on stdout, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence

from medidistill.cli.parser import make_parser
from medidistill.errors import as_known

__all__ = ["main", "run"]

_STOPPED = (130, 143)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `medidistill.errors`)."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        # torch and its kin load only now: `--help` and usage errors answer at once
        from medidistill.cli.commands import run_command

        run_command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # the reader of stdout (`| head`) has gone; nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("stopped by SIGINT", 130)
    except Exception as error:  # noqa: BLE001 (the last resort: one line instead of a traceback)
        if arguments.debug:
            traceback.print_exc()
        known = as_known(error)
        if known is None:
            return _fail(f"internal error: {type(error).__name__}: {error} (--debug shows where; please report it)", 1)
        return known.exit_code if known.quiet else _fail(str(known), known.exit_code)
    return 0


def run() -> None:
    """Run the command of this process and end it with its exit code.

    A process that was stopped leaves at once: what it did is on disk, and taking down torch and its kin takes
    seconds of the ten that a stop may last.
    """
    code = main()
    if code in _STOPPED:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    print(f"medidistill: error: {' '.join(message.split())}", file=sys.stderr)
    return code
