"""The command `medidistill`: parse, call, print. Results on stdout, progress and errors on stderr."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence

from medidistill.cli.parser import make_parser
from medidistill.errors import MedidistillError, ResourceError

__all__ = ["main"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        known = _known(error)
        if known is None:
            return _fail(f"internal error: {type(error).__name__}: {error} (--debug shows where; please report it)", 1)
        return _fail(str(known), known.exit_code)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"medidistill: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _known(error: Exception) -> MedidistillError | None:
    """Return the error of ours that `error` stands for, or None for a defect."""
    if isinstance(error, MedidistillError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        remedy = "; free space or choose another --output, then run again" if error.errno in _FULL else ""
        return ResourceError(f"{error.filename or 'file system'}: {error.strerror or error}{remedy}")
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or out_of_memory:
        return ResourceError("out of memory; lower ingest.image_size, network.width or the batch sizes")
    return None
