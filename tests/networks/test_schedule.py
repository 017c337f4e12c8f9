"""Programs beside each other: which task comes next, and what a program is told."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from medidistill.errors import ConfigError
from medidistill.networks import Batch, Program, Workers
from medidistill.networks.schedule import Schedule


@dataclass(frozen=True)
class Add:
    """A job."""

    amount: int

    def __call__(self, task: int) -> int:
        if task == 13:
            raise ConfigError("13: must be another number")
        return task + self.amount


def two_rounds(start: int, count: int, told: list[str] | None = None) -> Program[int]:
    """Add 1 to `count` numbers from `start` on, then 100 to the sum of them."""
    made = yield Batch(Add(1), range(start, start + count))
    (whole,) = yield Batch(Add(100), [sum(made)])
    if told is not None:
        told.append(f"{start} ended")
    return int(whole)


def finish(schedule: Schedule[int], count: int = 1000) -> list[tuple[int, int]]:
    """Do up to `count` tasks in the order in which they come; return them as (program, argument)."""
    order = []
    while len(order) < count and (task := schedule.next()) is not None:
        order.append((task.program, task.argument))
        schedule.finish(task, task.batch.asked.job(task.argument))
    return order


def test_results_keep_the_order_of_programs_and_of_tasks():
    schedule = Schedule([two_rounds(0, 2), two_rounds(10, 1)])
    assert finish(schedule) == [(0, 0), (0, 1), (0, 3), (1, 10), (1, 11)]
    assert schedule.results() == [103, 111]


def test_a_program_begins_while_the_last_task_of_another_is_under_way():
    schedule = Schedule([two_rounds(0, 1), two_rounds(10, 2)])
    first = schedule.next()
    second = schedule.next()
    assert (first.program, second.program) == (0, 1)
    schedule.finish(first, 1)
    again = schedule.next()
    assert (again.program, again.argument) == (0, 1)  # the second batch of the earlier program goes first
    schedule.put_back(second)
    third = schedule.next()
    assert (third.program, third.argument) == (1, 10)
    schedule.finish(third, 11)
    schedule.finish(again, 101)
    assert finish(schedule) == [(1, 11), (1, 23)]
    assert schedule.results() == [101, 123]


def test_programs_without_tasks_end_at_once():
    def idle(value: int) -> Program[int]:
        assert (yield Batch(Add(1), [])) == []
        return value

    def none() -> Program[int]:
        return 5
        yield

    schedule = Schedule([idle(3), none(), two_rounds(0, 1)])
    assert len(finish(schedule)) == 2
    assert schedule.results() == [3, 5, 101]
    assert Workers(1).run_programs([]) == []


def test_shares_and_tasks_done_are_told_for_each_batch():
    told: list[float] = []

    def program() -> Program[None]:
        yield Batch(Add(1), [1, 2, 3], told.append, told.append)

    schedule = Schedule([program()])
    first, second = schedule.next(), schedule.next()
    schedule.tell(first, 0.5)
    schedule.tell(second, 0.25)
    schedule.finish(first, 2)
    schedule.tell(second, 0.75)
    assert told == [0.5, 0.75, 1, 1.25, 1.75]  # done and share together when the first ends


@pytest.mark.parametrize("count", [1, 2])
def test_workers_run_programs_beside_each_other(count):
    ended: list[tuple[int, int]] = []
    with Workers(count) as workers:
        found = workers.run_programs(
            [two_rounds(10 * n, n) for n in (1, 3, 2)], lambda number, value: ended.append((number, value))
        )
    assert found == [111, 196, 143]
    assert sorted(ended) == [(0, 111), (1, 196), (2, 143)]


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_ends_all_programs_but_not_what_was_kept(count):
    ended: list[int] = []
    told: list[str] = []
    with Workers(count) as workers, pytest.raises(ConfigError, match="13: must be another number"):
        workers.run_programs(
            [two_rounds(1, 1, told), two_rounds(11, 3), two_rounds(20, 1)], lambda number, _: ended.append(number)
        )
    assert 0 in ended or count == 2
    assert 1 not in ended


def test_a_job_for_this_process_alone_is_done_here_between_the_others():
    import os

    def here() -> Program[int]:
        (found,) = yield Batch(lambda _: os.getpid(), [0], here=True)
        return int(found)

    def unpicklable() -> Program[int]:
        (found,) = yield Batch(lambda _: os.getpid(), [0])
        return int(found)

    with Workers(2) as workers:
        found = workers.run_programs([here(), two_rounds(0, 1), unpicklable(), two_rounds(5, 3)])
        assert found == [os.getpid(), 101, os.getpid(), 121]


def test_processes_have_work_while_this_one_does_what_they_cannot():
    order: list[str] = []

    def here() -> Program[None]:
        yield Batch(lambda task: order.append(f"here {task}"), [0, 1, 2], here=True)

    def elsewhere() -> Program[None]:
        yield Batch(Add(1), [1], lambda _: order.append("elsewhere"))

    with Workers(2) as workers:
        workers.run(Add(1), [1, 2])  # they are there
        workers.run_programs([here(), elsewhere()])
    assert sorted(order) == ["elsewhere", "here 0", "here 1", "here 2"]
    with Workers(1) as alone:
        order.clear()
        alone.run_programs([here(), elsewhere()])
    assert order == ["here 0", "here 1", "here 2", "elsewhere"]
