"""One heavy job at a time: tickets in a folder, first come first served, and the script that waits its turn.

A ticket is a file whose name begins with the time at which it was drawn. It is locked for as long as the work that
drew it lives, because that work inherits the open file; the kernel frees it, whatever ends the process. So a process
that was killed never blocks the queue, and no server is needed to hand it on.

`python queueing.py FOLDER TICKET MARK COMMAND ...` waits until no earlier ticket is locked, writes the file MARK and
becomes COMMAND.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["ahead", "drawn_ticket"]

_POLL_S = 0.5


@contextlib.contextmanager
def drawn_ticket(queue: Path, key: str) -> Iterator[IO[str]]:
    """Draw a ticket and hold it inside the block; a process that inherits the file holds it on.

    Args:
        queue: folder of the tickets.
        key: of the work.
    """
    queue.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{key}"
    hidden = queue / f".{name}"  # not a ticket before it is locked
    with open(hidden, "x", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(queue / name)
        yield file


def ahead(queue: Path, ticket: str) -> int:
    """Return how many earlier tickets are held; those that nobody holds any more are removed."""
    count = 0
    for path in sorted(queue.glob("[0-9]*")) if queue.is_dir() else []:
        if path.name >= ticket:
            break
        with contextlib.suppress(FileNotFoundError):
            if _is_held(path):
                count += 1
            else:
                path.unlink()
    return count


def _is_held(path: Path) -> bool:
    with open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def main(arguments: list[str]) -> None:
    """Wait, then become the command."""
    queue, ticket, mark, *command = arguments
    while ahead(Path(queue), ticket):
        time.sleep(_POLL_S)
    Path(mark).touch()
    os.execv(command[0], command)  # noqa: S606 (our own command, no shell)


if __name__ == "__main__":
    main(sys.argv[1:])
