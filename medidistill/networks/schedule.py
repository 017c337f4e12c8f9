"""Which task comes next, where programs that ask for one batch of tasks after another run beside each other."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

__all__ = ["Batch", "OpenBatch", "Program", "Schedule", "Task", "ignore"]

_R = TypeVar("_R")


def ignore(_: float) -> None:
    """Do nothing with what is told."""


@dataclass(frozen=True)
class Batch:
    """Tasks of one job.

    Args:
        job: what is done; pickled once for each process, its tensors included.
        tasks: one argument each, small.
        on_done: called in this process with the number of tasks done; may raise to stop.
        on_share: called likewise, and in between, with the tasks done and the shares of others that their jobs told.
        here: only this process can do it.
    """

    job: Callable[[Any], Any]
    tasks: Sequence[Any]
    on_done: Callable[[int], None] = ignore
    on_share: Callable[[float], None] = ignore
    here: bool = False


# yields batches, is sent the results of each in the order of its tasks, and returns what came of it
Program = Generator[Batch, list[Any], _R]


class OpenBatch:
    """A batch under way: results and shares by place, whether only this process can do it, and its job as bytes.

    Args:
        asked: the batch.
    """

    def __init__(self, asked: Batch) -> None:
        self.asked = asked
        self.here = asked.here
        self.found: dict[int, Any] = {}
        self.shares: dict[int, float] = {}
        self.packed: bytes | None = None

    def done(self) -> None:
        """Forget the job's bytes."""
        self.packed = None


@dataclass(frozen=True, order=True)
class Task:
    """One task; earlier programs come first.

    Args:
        program: number of the program.
        place: of the task in its batch.
        batch: that batch.
    """

    program: int
    place: int
    batch: OpenBatch = field(compare=False)

    @property
    def argument(self) -> Any:
        """What the job is called with."""
        return self.batch.asked.tasks[self.place]


class Schedule(Generic[_R]):
    """The tasks of programs: waiting, under way and done.

    Args:
        programs: in the order in which they begin.
        on_result: called with the number of a program and what it returned as soon as it ends.
    """

    def __init__(self, programs: Sequence[Program[_R]], on_result: Callable[[int, _R], None] | None = None) -> None:
        self._programs, self._on_result = programs, on_result
        self._waiting: list[Task] = []
        self._begun = 0
        self._results: dict[int, _R] = {}

    def next(self) -> Task | None:
        """Return the next task; begin further programs while none waits. None: all are under way or done."""
        while not self._waiting and self._begun < len(self._programs):
            self._begun += 1
            self._advance(self._begun - 1, None)
        return heapq.heappop(self._waiting) if self._waiting else None

    def put_back(self, task: Task) -> None:
        """Let a task that was not done wait again."""
        heapq.heappush(self._waiting, task)

    def finish(self, task: Task, result: Any) -> None:
        """Take a result; with the last one of a batch its program goes on."""
        batch, count = task.batch, len(task.batch.asked.tasks)
        batch.shares.pop(task.place, None)
        batch.found[task.place] = result
        batch.asked.on_done(len(batch.found))
        batch.asked.on_share(len(batch.found) + sum(batch.shares.values()))
        if len(batch.found) == count:
            batch.done()
            self._advance(task.program, [batch.found[place] for place in range(count)])

    def tell(self, task: Task, share: float) -> None:
        """Take which share of a task is done."""
        batch = task.batch
        batch.shares[task.place] = share
        batch.asked.on_share(len(batch.found) + sum(batch.shares.values()))

    def results(self) -> list[_R]:
        """Return what the programs returned, in their order; all have ended."""
        return [self._results[number] for number in range(len(self._programs))]

    def _advance(self, number: int, results: list[Any] | None) -> None:
        program = self._programs[number]
        try:
            batch = next(program) if results is None else program.send(results)
            while not batch.tasks:
                batch = program.send([])
        except StopIteration as end:
            self._results[number] = end.value
            if self._on_result is not None:
                self._on_result(number, end.value)
            return
        opened = OpenBatch(batch)
        for place in range(len(batch.tasks)):
            heapq.heappush(self._waiting, Task(number, place, opened))
