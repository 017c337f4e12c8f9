"""Processes that train networks, each with one thread of torch.

A small network does not divide among many cores, but networks do; and threads that wait for each other lose most of
their time where a core has other work (docs/performance.md). A network that a worker trains does not depend on how many
workers there are.

They come from `medidistill.child_processes` and stay for the next job, with what torch has compiled for them.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from medidistill.child_processes import Surroundings, begin_child, child_context
from medidistill.errors import ResourceError
from medidistill.networks.allocator import raise_malloc_thresholds

__all__ = ["Workers", "tell_share"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_SECONDS_TO_END = 5.0


def _ignore(_: float) -> None:
    return


_TELL: ContextVar[Callable[[float], None]] = ContextVar("tell", default=_ignore)


def tell_share(share: float) -> None:
    """Say, inside a job of `Workers`, which share of the task is done, 0 to 1."""
    _TELL.get()(share)


class Workers:
    """Up to `count` processes, started when there is work for them.

    Where processes cannot do a job, in a script without a `__main__` guard or with a job that cannot be pickled, this
    process does it. With a `count` of 1 it always does, with as many threads as it has.

    Args:
        count: processes, >= 1.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = max(1, count)
        self._processes: list[_Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(
        self,
        job: Callable[[_T], _R],
        tasks: Sequence[_T],
        on_done: Callable[[int], None] | None = None,
        on_share: Callable[[float], None] | None = None,
    ) -> list[_R]:
        """Call `job` with every task; return the results in the order of the tasks.

        Args:
            job: what is done; pickled once for each process, its tensors included.
            tasks: one argument each, small.
            on_done: called in this process with the number of tasks done; may raise to stop.
            on_share: called likewise with the tasks done and the shares of others that `tell_share` told.

        Raises:
            ResourceError: a process ended before its task was done.
            Exception: what a call raised. The other tasks are ended at once, with their processes.
        """
        found: list[_R] | None = None
        packed = _packed(job) if self.count > 1 else None
        if packed is not None and tasks:
            try:
                found = self._in_processes(packed, tasks, on_done or _ignore, on_share or _ignore)
            except BaseException:
                self.terminate()
                raise
        return self._here(job, tasks, on_done or _ignore, on_share or _ignore) if found is None else found

    def close(self) -> None:
        """End the processes; they have nothing to do."""
        for one in self._processes:
            one.connection.close()
        for one in self._processes:
            one.process.join(_SECONDS_TO_END)
        self.terminate()

    def terminate(self) -> None:
        """End the processes at once, whatever they are doing."""
        for one in self._processes:
            one.process.terminate()
        for one in self._processes:
            one.process.join(_SECONDS_TO_END)
            one.process.kill()  # it does not listen
            one.process.join()
            one.connection.close()
        self._processes.clear()

    def _here(
        self,
        job: Callable[[_T], _R],
        tasks: Sequence[_T],
        on_done: Callable[[int], None],
        on_share: Callable[[float], None],
    ) -> list[_R]:
        found: list[_R] = []
        before = _TELL.set(lambda share: on_share(len(found) + share))
        try:
            for task in tasks:
                found.append(job(task))
                on_done(len(found))
        finally:
            _TELL.reset(before)
        return found

    def _in_processes(
        self,
        packed: bytes,
        tasks: Sequence[_T],
        on_done: Callable[[int], None],
        on_share: Callable[[float], None],
    ) -> list[_R] | None:
        """Return the results; None where no process can do the job."""
        self._start(min(self.count, len(tasks)))
        for one in self._processes:
            one.send(packed)
        busy = {one.connection: one for one in self._processes}
        ready: set[Connection] = set()
        waiting, found, shares = list(enumerate(tasks))[::-1], dict[int, _R](), dict[Connection, float]()
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                one = busy.pop(connection)
                reply = one.receive()
                match reply:
                    case _Ended():
                        self._processes.remove(one)
                        one.process.join()
                        if connection in ready:
                            raise ResourceError(
                                "a process ended before its work was done, most often for lack of memory; use fewer "
                                "(threads, or --workers of an audit), or go on: finished work stays"
                            )
                        continue
                    case _Unusable():
                        continue
                    case _Failed(error):
                        raise error
                    case _Share(share):
                        shares[connection] = share
                        on_share(len(found) + sum(shares.values()))
                        busy[connection] = one
                        continue
                    case _Done(place, result):
                        shares.pop(connection, None)
                        found[place] = result
                        on_done(len(found))
                ready.add(connection)
                if waiting:
                    one.send(pickle.dumps(waiting.pop()))
                    busy[connection] = one
        if not self._processes:
            self.count = 1  # none can start here
        return [found[place] for place in range(len(tasks))] if ready else None

    def _start(self, count: int) -> None:
        context = child_context("medidistill.networks")
        while len(self._processes) < count:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, Surroundings.here()), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            self._processes.append(_Process(process, ours))


@dataclass(frozen=True)
class _Ready:
    """The job was understood."""


@dataclass(frozen=True)
class _Unusable:
    """The job is of code that the process cannot import."""


@dataclass(frozen=True)
class _Ended:
    """The process is gone."""


@dataclass(frozen=True)
class _Share:
    """The task goes on."""

    share: float


@dataclass(frozen=True)
class _Done:
    place: int
    result: Any


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@dataclass(frozen=True)
class _Process:
    process: BaseProcess
    connection: Connection

    def send(self, content: bytes) -> None:
        """Send a job or a task. A process that is gone says so when it is asked for a reply."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(content)

    def receive(self) -> _Ready | _Unusable | _Ended | _Share | _Done | _Failed:
        """Return its reply."""
        try:
            reply: _Ready | _Unusable | _Share | _Done | _Failed = pickle.loads(self.connection.recv_bytes())  # noqa: S301
        except (EOFError, ConnectionResetError):
            return _Ended()
        return reply


@dataclass(frozen=True)
class _Job:
    call: Callable[[Any], Any]


def _packed(job: Callable[[Any], Any]) -> bytes | None:
    """Return a job as bytes, None where it cannot be pickled.

    By plain pickle: what multiprocessing makes of tensors is shared memory, which containers often keep small.
    """
    try:
        return pickle.dumps(_Job(job))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _serve(connection: Connection, surroundings: Surroundings) -> None:
    """Do what comes through `connection` until it closes."""
    begin_child(surroundings)
    # an exit that releases what Python holds by name in the system, such as semaphores
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    torch.set_num_threads(1)
    raise_malloc_thresholds()
    _TELL.set(lambda share: connection.send_bytes(pickle.dumps(_Share(share))))
    job: Callable[[Any], Any] | None = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            job, reply = _answer(connection.recv_bytes(), job)
            connection.send_bytes(pickle.dumps(reply))


def _answer(
    content: bytes, job: Callable[[Any], Any] | None
) -> tuple[Callable[[Any], Any] | None, _Ready | _Unusable | _Done | _Failed]:
    """Return the job from now on, and what is said to a new one or to a task of the one before."""
    try:
        asked = pickle.loads(content)  # noqa: S301 (from the process that started this one)
    except Exception:  # noqa: BLE001 (whatever an import raises)
        return None, _Unusable()
    if isinstance(asked, _Job):
        return asked.call, _Ready()
    assert job is not None
    place, task = asked
    try:
        return job, _Done(place, job(task))
    except Exception as error:  # noqa: BLE001 (raised again in the process that asked)
        error.add_note("".join(traceback.format_exception(error)))
        return job, _Failed(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """Return the error, or one that says the same where it does not survive pickling."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # noqa: BLE001 (whatever its own methods raise)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
