"""Processes that train networks, each with one thread of torch.

A small network does not divide among many cores, but networks do; and threads that wait for each other lose most of
their time where a core has other work (docs/performance.md). A network that a worker trains does not depend on how many
workers there are.

They come from `medidistill.child_processes` and stay for the next job, with what torch has compiled for them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self, TypeVar

import torch

from medidistill.child_processes import begin_child, child_context
from medidistill.errors import ResourceError
from medidistill.networks.allocator import raise_malloc_thresholds
from medidistill.networks.schedule import Batch, OpenBatch, Program, Schedule, Task, ignore

__all__ = ["Workers", "tell_share"]

_T = TypeVar("_T")
_R = TypeVar("_R")
_SECONDS_TO_END = 5.0


_TELL: ContextVar[Callable[[float], None]] = ContextVar("tell", default=ignore)


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
        """Call `job` with every task; return the results in the order of the tasks. See `Batch` and `run_programs`."""
        (found,) = self.run_programs([_single(Batch(job, tasks, on_done or ignore, on_share or ignore))])
        return found

    def run_programs(
        self, programs: Sequence[Program[_R]], on_result: Callable[[int, _R], None] | None = None
    ) -> list[_R]:
        """Run programs; return what they return, in their order.

        A program begins where a process would have nothing to do otherwise: no process waits for the last task of
        another's batch. Tasks of earlier programs go first.

        Args:
            programs: each yields batches of tasks and is sent their results.
            on_result: called with the number of a program and its result as soon as it ends; may raise to stop.

        Raises:
            ResourceError: a process ended before its task was done.
            Exception: what a task, a program or a callback raised. Tasks under way are ended at once, with their
                processes.
        """
        schedule = Schedule(programs, on_result)
        try:
            self._work(schedule)
        except BaseException:
            self.terminate()
            raise
        finally:
            for program in programs:
                program.close()
            for one in self._processes:
                one.batch = one.task = None  # jobs hold images
        return schedule.results()

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

    def _work(self, schedule: Schedule[Any]) -> None:
        busy: dict[Connection, _Process] = {}
        while True:
            here = self._hand_out(schedule, busy)
            if here is not None:
                schedule.finish(here, _done_here(here, schedule))
            elif not busy:
                return
            for connection in wait(list(busy), None if here is None else 0):
                assert isinstance(connection, Connection)
                if self._hear(busy[connection], schedule):
                    del busy[connection]

    def _hand_out(self, schedule: Schedule[Any], busy: dict[Connection, _Process]) -> Task | None:
        """Give every process a task that has none; return one that is to be done here, if there is any."""
        here: list[Task] = []
        given: list[tuple[_Process, Task]] = []
        while not here if self.count == 1 else len(busy) < self.count:
            task = schedule.next()
            if task is None:
                break
            if self.count == 1 or _packed(task.batch) is None:
                here.append(task)
                if task.program != here[0].program:
                    break  # no more programs are begun for the sake of processes that have nothing to do
                continue
            one = self._free(task, busy)
            if one is None:
                schedule.put_back(task)
                continue
            busy[one.connection] = one
            given.append((one, task))
        for one, task in given:  # when all have started: a large job is taken by a process that has
            one.give(task)
        for task in here[1:]:
            schedule.put_back(task)
        return here[0] if here else None

    def _free(self, task: Task, busy: dict[Connection, _Process]) -> _Process | None:
        """Return a process for a task, rather one that knows its job; None where none can be started."""
        idle = [one for one in self._processes if one.connection not in busy]
        known = next((one for one in idle if one.batch is task.batch), None)
        if known is not None or idle:
            return known or idle[0]
        try:
            return self._start()
        except (OSError, EOFError):  # there is no memory, or no number, for another process
            self.count = max(1, len(self._processes))
            return None

    def _hear(self, one: _Process, schedule: Schedule[Any]) -> bool:
        """Take a reply of a process at work; return whether it has nothing to do now, or is gone."""
        task, reply = one.task, one.receive()
        assert task is not None
        one.answered = one.answered or not isinstance(reply, _Ended)
        match reply:
            case _Ready():
                one.began = True
                one.send(pickle.dumps(task.argument))
                return False
            case _Share(share):
                schedule.tell(task, share)
                return False
            case _Done(result):
                schedule.finish(task, result)
            case _Failed(error):
                raise error
            case _Unusable():
                one.batch, task.batch.here = None, True
                schedule.put_back(task)
            case _Ended():
                self._processes.remove(one)
                one.process.join()
                if one.began:
                    raise ResourceError(
                        "a process ended before its work was done, most often for lack of memory; use fewer "
                        "(threads, or --workers of an audit), or go on: finished work stays"
                    )
                if not one.answered:
                    self.count = max(1, len(self._processes))  # no more can start here
                schedule.put_back(task)
        return True

    def _start(self) -> _Process:
        context = child_context("medidistill.networks")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, dict(os.environ)), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._processes.append(_Process(process, ours))
        return self._processes[-1]


def _single(batch: Batch) -> Program[list[Any]]:
    return (yield batch)


def _done_here(task: Task, schedule: Schedule[Any]) -> Any:
    before = _TELL.set(lambda share: schedule.tell(task, share))
    try:
        return task.batch.asked.job(task.argument)
    finally:
        _TELL.reset(before)


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
    result: Any


@dataclass(frozen=True)
class _Failed:
    error: BaseException


@dataclass
class _Process:
    process: BaseProcess
    connection: Connection
    batch: OpenBatch | None = None  # whose job it knows
    task: Task | None = None  # that it has, or had last
    began: bool = False  # it has understood the job
    answered: bool = False  # it was heard of, ever

    def give(self, task: Task) -> None:
        """Send a task; where its job is new, that first, and the task when the process is ready."""
        self.task = task
        if self.batch is task.batch:
            self.send(pickle.dumps(task.argument))
        else:
            job = _packed(task.batch)
            assert job is not None
            self.batch, self.began = task.batch, False
            self.send(job)

    def send(self, content: bytes) -> None:
        """Send a job or a task. A process that is gone says so when it is asked for a reply."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(content)

    def receive(self) -> _Ready | _Unusable | _Ended | _Share | _Done | _Failed:
        """Return its reply."""
        try:
            reply: _Ready | _Unusable | _Share | _Done | _Failed = pickle.loads(self.connection.recv_bytes())  # noqa: S301
        except (EOFError, OSError):
            return _Ended()
        return reply


@dataclass(frozen=True)
class _Job:
    call: Callable[[Any], Any]


def _packed(batch: OpenBatch) -> bytes | None:
    """Return a batch's job as bytes, None where only this process can do it.

    By plain pickle: what multiprocessing makes of tensors is shared memory, which containers often keep small.
    """
    if batch.packed is None and not batch.here:
        try:
            batch.packed = pickle.dumps(_Job(batch.asked.job))
        except (pickle.PicklingError, AttributeError, TypeError):
            batch.here = True
    return None if batch.here else batch.packed


def _serve(connection: Connection, environment: Mapping[str, str]) -> None:
    """Do what comes through `connection` until it closes."""
    begin_child(environment)
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
    try:
        return job, _Done(job(asked))
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
