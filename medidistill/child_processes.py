"""Child processes that start at once: forked from a server that has imported what they need.

A spawned process imports everything anew, which takes eight seconds where MONAI is among it. A process that is forked
from this one would start at once, but inherit the locks and thread pools of torch in a state that can hang. So a server
of `multiprocessing` (Linux) imports it once, computes nothing, and forks: the first child waits for the imports, the
others start in milliseconds. `import_ahead` begins the imports before they are needed, beside those of this process.
There is one server in a process, also for those that others start by `multiprocessing`; it leaves Ctrl-C to its parent.

A child inherits the environment of the server, not of the process that asks for it, which hands over its own. Elsewhere
processes are spawned. Either kind would outlive a parent that is killed; `begin_child` ends it then.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, get_context, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

__all__ = ["begin_child", "child_context", "end_server", "import_ahead", "is_ahead"]

_SECONDS_TO_END = 5.0
# Python 3.11.0 lets any user of the machine talk to the server (CVE-2022-42919)
_FORKS = sys.platform == "linux" and sys.version_info >= (3, 11, 1)
_AHEAD: list[str] = []  # the modules that `import_ahead` named


def child_context(*modules: str) -> ForkServerContext | SpawnContext:
    """Return how to start processes.

    Args:
        modules: what all of them import; imported by the server, if it has not begun.
    """
    return get_context("forkserver") if _FORKS and _is_served(modules) else get_context("spawn")


def import_ahead(*modules: str) -> None:
    """Start the server and let it import `modules`, for processes that will be needed soon; returns at once."""
    if _FORKS and not _AHEAD and _is_served(modules):
        _AHEAD.extend(modules)


def _is_served(modules: Sequence[str]) -> bool:
    """Start the server unless it runs; return whether that went well."""
    resource_tracker.ensure_running()  # it unblocks signals, whatever they were
    # the server inherits the mask: Ctrl-C is for the process that it serves, also while it imports
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    safe_path = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"  # nothing is imported from the working directory
    try:
        if not _AHEAD:
            get_context("forkserver").set_forkserver_preload(list(modules))
        forkserver.ensure_running()
    except OSError:  # its socket needs a folder for temporary files whose name is not too long
        return False
    finally:
        if safe_path is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = safe_path
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return True


def end_server(*, at_once: bool = False) -> None:
    """End the server, and remove its socket; for a process that is about to leave.

    A server that is still importing would hold this process's stdout and stderr open until it is done.

    Args:
        at_once: the process leaves by `os._exit`, which removes no folder.
    """
    served: Any = getattr(forkserver, "_forkserver", None)
    number = getattr(served, "_forkserver_pid", None)
    if number is not None:
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
            served._stop()
    this_process: Any = multiprocessing.current_process()
    folder = this_process._config.get("tempdir")  # of the socket; also where the socket's name was too long for it
    if at_once and folder is not None:
        with contextlib.suppress(OSError):
            Path(folder).rmdir()


def is_ahead() -> bool:
    """Whether `import_ahead` began the imports before."""
    return bool(_AHEAD)


def begin_child(environment: Mapping[str, str]) -> None:
    """Set up the process that a child is: call it first.

    It writes for its owner alone, leaves Ctrl-C to its parent, and ends with it. Libraries say nothing in it: stderr is
    not private, and a message may hold the name of a file.

    Args:
        environment: of its parent, `dict(os.environ)` there; the server's may be older.
    """
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_END)
        os._exit(1)
