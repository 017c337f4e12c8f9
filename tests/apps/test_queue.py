"""Heavy jobs take turns, without a server: the order, a killed one, one that is taken out."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytestmark = pytest.mark.timeout(600)

WORK = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"


@pytest.fixture
def line(root, tmp_path, monkeypatch):
    """Return a function that queues a job which writes a file when its turn has come."""
    from view_models import jobs

    (tmp_path / "medidistill.py").write_text(WORK)
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    made = []

    def queue(name):
        job = jobs.start(tmp_path / name, [str(tmp_path / f"{name}.begun")], queue=tmp_path / "queue")
        made.append(job)
        return job

    yield queue
    for job in reversed(made):
        job.stop()
    wait(lambda: not any(job.is_running() for job in made))


def wait(condition, seconds=120.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)


def test_jobs_begin_in_order_and_one_at_a_time(line, tmp_path):
    first, second, third = line("a"), line("b"), line("c")
    wait(lambda: (tmp_path / "a.begun").exists())
    assert [job.ahead() for job in (first, second, third)] == [0, 1, 2]
    assert all(job.is_running() for job in (first, second, third))
    time.sleep(1.5)
    assert not (tmp_path / "b.begun").exists()
    first.stop()
    wait(lambda: (tmp_path / "b.begun").exists())
    assert (second.ahead(), third.ahead()) == (0, 1)
    assert not (tmp_path / "c.begun").exists()


def test_killed_job_does_not_block_the_queue(line, tmp_path):
    first, _ = line("a"), line("b")
    wait(lambda: (tmp_path / "a.begun").exists())
    os.killpg(first._note["group"], signal.SIGKILL)
    wait(lambda: (tmp_path / "b.begun").exists())


def test_job_taken_out_of_the_queue_lets_the_next_one_pass(line, tmp_path):
    _, second, third = line("a"), line("b"), line("c")
    wait(lambda: (tmp_path / "a.begun").exists())
    second.stop()
    wait(lambda: not second.is_running())
    assert second.exit_code == 143
    assert third.ahead() == 1
    assert not (tmp_path / "b.begun").exists()


def test_waiting_run_says_so(line, root, tmp_path, open_page, text_of):
    from view_models import jobs
    from view_models.places import Places
    from view_models.runs import _job, run_state

    places = Places.of()
    line("a")
    (root / "next").mkdir()
    job = jobs.start(_job(places, root / "next"), [str(tmp_path / "x")], queue=tmp_path / "queue")
    (job.folder / "run").write_text("next")
    try:
        state = run_state(places, root / "next")
        assert (state.state, state.ahead, state.is_busy) == ("queued", 1, True)
        test = open_page("distill")
        assert "Waiting: 1 job before it" in text_of(test)
        test.button("stop_run").click().run()
        wait(lambda: not job.is_running())
        assert run_state(places, root / "next").state == "stopped"
    finally:
        job.stop()


def test_rest_of_the_run_is_this_stage_and_the_later_ones(root):
    from view_models.runs import _whole_left

    estimate = {"ingest": 10.0, "experts": 100.0, "evaluate": 50.0, "report": 1.0}
    status = {"stages": list(estimate), "stage": "experts", "finished": ["ingest"], "eta_seconds": 40.0}
    assert _whole_left(estimate, status, 0.5) == 40 + 50 + 1
    assert _whole_left(estimate, status | {"eta_seconds": None}, 0.25) == 75 + 50 + 1
    assert _whole_left({}, status, 0.5) is None
    assert _whole_left(estimate, status | {"stage": "elsewhere"}, 0.5) is None
