"""The command `medidistill`: parse, call, print. Results on stdout, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from medidistill.cli.parser import make_parser
from medidistill.errors import MissingExtraError

__all__ = ["main", "run"]

_STOPPED = (130, 143)
_FILES_FOR_PROCESSES = 500  # two processes read them in less time than one


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `medidistill.errors`)."""
    typed = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = make_parser().parse_args(typed)
    except MissingExtraError as error:  # of the core alone; its library needs no more, the command does
        print(f"medidistill: error: {error}", file=sys.stderr)
        return error.exit_code
    from medidistill.cli.private_output import fail, keep_library_messages

    try:
        with keep_library_messages(arguments):
            _import_ahead(arguments)
            # torch and related imports load only now: `--help` and usage errors answer at once
            from medidistill.cli.shared import run_command

            run_command(arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader of stdout (`| head`) has gone; nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 (the last resort: one line instead of a traceback)
        return fail(error, arguments, typed)
    return 0


def _import_ahead(arguments: Namespace) -> None:
    """Begin the imports of the processes that read images, where there are images enough for more than one of them."""
    if not getattr(arguments, "reads_images", False) or arguments.input is None:
        return
    from medidistill.child_processes import import_ahead
    from medidistill.machine import available_cores

    if available_cores() > 1 and _holds_files(arguments.input, _FILES_FOR_PROCESSES):
        import_ahead("medidistill.ingest.loading", "medidistill.networks")


def _holds_files(folder: Path, count: int) -> bool:
    """Whether there are at least `count` files in a folder and those below it; links to folders are not followed."""
    found = 0
    for _, _, files in os.walk(folder):
        found += len(files)
        if found >= count:
            return True
    return False


def _end_server(*, at_once: bool) -> None:
    """End the server of child processes, where this command has loaded what starts one."""
    if "medidistill.child_processes" in sys.modules:
        from medidistill.child_processes import end_server

        end_server(at_once=at_once)


def run() -> None:
    """Run the command of this process and end it with its exit code.

    A process that was stopped leaves at once: what it did is on disk, and taking down torch and related imports takes
    seconds of the ten that a stop may last.
    """
    code = main()
    _end_server(at_once=code in _STOPPED)
    if code in _STOPPED:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
