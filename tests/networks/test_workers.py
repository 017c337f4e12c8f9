"""Processes that train networks: what they return, and how they end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from tqdm import tqdm

from medidistill.errors import ConfigError, ResourceError
from medidistill.networks import Workers, tell_share

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Multiply:
    """A job with a tensor of its own."""

    by: torch.Tensor

    def __call__(self, task: int) -> tuple[int, int, float]:
        if task < 0:
            raise ConfigError(f"task={task}: must be >= 0")
        if task == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 77:
            time.sleep(600)
        return os.getpid(), torch.get_num_threads(), float(self.by.sum() * task)


@dataclass(frozen=True)
class Barred:
    """A job that draws a bar, for which tqdm takes a semaphore of the system."""

    def __call__(self, seconds: int) -> None:
        with tqdm(total=1, disable=False):
            time.sleep(seconds)


@dataclass(frozen=True)
class Halves:
    """A job that says when it is half done."""

    def __call__(self, task: int) -> int:
        tell_share(0.5)
        return task


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2) as made:
        yield made


def test_results_come_in_the_order_of_the_tasks_from_processes_of_one_thread(workers: Workers) -> None:
    told: list[int] = []
    found = workers.run(Multiply(torch.ones(3)), [5, 4, 3, 2, 1], told.append)
    assert [value for _, _, value in found] == [15.0, 12.0, 9.0, 6.0, 3.0]
    assert {threads for _, threads, _ in found} == {1}
    assert os.getpid() not in {process for process, _, _ in found}
    assert told == [1, 2, 3, 4, 5]


def test_shares_of_tasks_are_told_from_processes_and_from_here(workers: Workers) -> None:
    for where in (workers, Workers(1)):
        told: list[float] = []
        assert where.run(Halves(), [1, 2, 3], None, told.append) == [1, 2, 3]
        assert len(told) == 6  # each half, and each end
        assert told == sorted(told)
        assert (told[0], told[-1]) == (0.5, 3)
    Halves()(1)  # outside of any worker nobody listens


def test_the_processes_stay_for_the_next_job(workers: Workers) -> None:
    first = workers.run(Multiply(torch.ones(1)), range(8))
    again = workers.run(Multiply(torch.ones(2)), range(8))
    assert {process for process, _, _ in first} | {process for process, _, _ in again} <= {
        child.pid for child in multiprocessing.active_children()
    }
    assert [value for _, _, value in again] == [2.0 * task for task in range(8)]


def test_a_job_that_cannot_be_pickled_is_done_here(workers: Workers) -> None:
    assert workers.run(lambda task: (os.getpid(), task), [1, 2]) == [(os.getpid(), 1), (os.getpid(), 2)]


def test_one_process_is_this_one() -> None:
    with Workers(1) as here:
        assert [process for process, _, _ in here.run(Multiply(torch.ones(1)), [1, 2])] == [os.getpid()] * 2
    assert Workers(0).count == 1


def test_no_tasks_start_no_process() -> None:
    before = set(multiprocessing.active_children())
    with Workers(2) as idle:
        assert idle.run(Multiply(torch.ones(1)), []) == []
        assert set(multiprocessing.active_children()) == before


def test_an_error_of_a_task_is_raised_with_its_traceback_and_ends_the_others() -> None:
    with Workers(2) as mine:
        began = time.perf_counter()
        with pytest.raises(ConfigError, match=r"task=-1: must be >= 0") as caught:
            mine.run(Multiply(torch.ones(1)), [77, -1])
        assert "in __call__" in "".join(caught.value.__notes__)
        assert time.perf_counter() - began < 300  # the other task would have slept for ten minutes
        assert [value for _, _, value in mine.run(Multiply(torch.ones(1)), [1])] == [1.0]


def test_a_callback_that_raises_ends_the_tasks() -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    before = set(multiprocessing.active_children())
    with Workers(2) as mine, pytest.raises(KeyboardInterrupt):
        mine.run(Multiply(torch.ones(1)), [1, 77], stop)
    assert set(multiprocessing.active_children()) == before


def test_a_process_that_is_killed_is_an_error_of_resources() -> None:
    with Workers(2) as mine, pytest.raises(ResourceError, match="ended before its work was done"):
        mine.run(Multiply(torch.ones(1)), [1, 99])


def test_a_class_that_processes_cannot_import_is_called_here(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    module = types.ModuleType("known_here_alone")
    module.Multiply = Multiply  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "known_here_alone", module)
    monkeypatch.setattr(Multiply, "__module__", "known_here_alone")
    assert [process for process, _, _ in workers.run(Multiply(torch.ones(1)), [1, 2])] == [os.getpid()] * 2


def test_processes_that_are_ended_leave_nothing_to_be_cleaned_up(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import torch\n"
        "from tqdm import tqdm\n"
        "from tests.networks.test_workers import Barred\n"
        "from medidistill.networks import Workers\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers(2)\n"
        "    def stop(done):\n"
        "        raise KeyboardInterrupt\n"
        "    try:\n"
        "        workers.run(Barred(), [0, 0, 60, 60], stop)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "leaked" not in done.stderr


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal\n"
        "import torch\n"
        "from tests.networks.test_workers import Multiply\n"
        "from medidistill.networks import Workers\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers(2)\n"
        "    print(*{process for process, _, _ in workers.run(Multiply(torch.ones(1)), range(20))}, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == -signal.SIGKILL, done.stderr
    started = [int(process) for process in done.stdout.split()]
    assert started
    _, alive = psutil.wait_procs([psutil.Process(one) for one in started if psutil.pid_exists(one)], timeout=30)
    assert alive == []


def test_a_process_that_dies_while_it_has_nothing_to_do_costs_nothing() -> None:
    with Workers(2) as mine:
        before = {process for process, _, _ in mine.run(Multiply(torch.ones(1)), range(8))}
        os.kill(next(iter(before)), signal.SIGKILL)
        found = mine.run(Multiply(torch.ones(2)), range(8))
        assert [value for _, _, value in found] == [2.0 * task for task in range(8)]
        assert os.getpid() not in {process for process, _, _ in found}


def test_where_no_process_can_be_started_tasks_are_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Workers) -> None:
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(Workers, "_start", refused)
    with Workers(3) as mine:
        assert {process for process, _, _ in mine.run(Multiply(torch.ones(1)), range(4))} == {os.getpid()}


def test_images_of_a_job_are_let_go_when_it_is_done() -> None:
    with Workers(2) as mine:
        job = Multiply(torch.ones(1))
        gone = weakref.ref(job.by)
        mine.run(job, range(4))
        del job
        gc.collect()
        assert gone() is None
