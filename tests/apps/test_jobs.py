"""Work in a process of its own: it outlives who started it, is found by its folder, stops, fails and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medidistill.errors import ConfigError
from medidistill.pipeline import RunFolder

pytestmark = pytest.mark.timeout(1800)  # a busy machine is no failure


@pytest.fixture
def jobs(root):
    from view_models import jobs

    return jobs


@pytest.fixture
def runs(root):
    from view_models import runs
    from view_models.places import Places

    yield runs, Places.of()
    for path in runs.find_runs(Places.of()):  # nothing works on after a test that failed
        runs.stop_run(Places.of(), path)


def wait(condition, seconds=1500.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.1)


def fake(jobs, monkeypatch, tmp_path, code):
    """Start a job that runs `code` instead of the command line, which takes seconds to load."""
    script = tmp_path / "medidistill.py"
    script.write_text(code)
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    return jobs.start(tmp_path / "job", ["run"])


def test_job_outlives_the_process_that_started_it(jobs, tmp_path):
    (tmp_path / "medidistill.py").write_text("import time; print('at work', flush=True); time.sleep(60)")
    apps, folder = Path(jobs.__file__).parent.parent, tmp_path / "job"
    code = (
        "import os\n"
        "from pathlib import Path; from view_models.jobs import start\n"
        f"os.chdir({str(tmp_path)!r}); start(Path({str(folder)!r}), ['run'])"
    )
    where = os.pathsep.join([str(apps), *filter(None, [os.environ.get("PYTHONPATH")])])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240, env={**os.environ, "PYTHONPATH": where})
    job = jobs.Job(tmp_path / "job")
    wait(lambda: job.lines() == ["at work"])
    assert job.is_running()
    job.stop()
    wait(lambda: not job.is_running())
    assert job.exit_code == 143


def test_second_start_is_refused_while_the_first_works(jobs, monkeypatch, tmp_path):
    job = fake(jobs, monkeypatch, tmp_path, "import time; time.sleep(60)")
    with pytest.raises(ConfigError, match="at work already"):
        jobs.start(tmp_path / "job", ["run"])
    job.stop()
    wait(lambda: not job.is_running())


def test_stop_reaches_the_work_and_its_code_is_kept(jobs, monkeypatch, tmp_path):
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n    print('medidistill: error: stopped by SIGTERM', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(60)"
    )
    job = fake(jobs, monkeypatch, tmp_path, code)
    wait(lambda: job.lines() == ["ready"])
    job.stop()
    wait(lambda: not job.is_running())
    assert (job.exit_code, job.error()) == (143, "stopped by SIGTERM")


def test_a_stop_at_once_is_not_lost(jobs, monkeypatch, tmp_path):
    for _ in range(20):
        job = fake(jobs, monkeypatch, tmp_path, "import time; time.sleep(600)")
        job.stop()
        wait(lambda job=job: not job.is_running(), 30)


def test_error_is_the_last_line_that_the_command_said(jobs, monkeypatch, tmp_path):
    code = "import sys; print('bar 1\\rbar 2'); print('medidistill: error: ipc=0: must be >= 1'); sys.exit(2)"
    job = fake(jobs, monkeypatch, tmp_path, code)
    wait(lambda: not job.is_running())
    assert job.lines() == ["bar 2", "medidistill: error: ipc=0: must be >= 1"]
    assert job.error() == "ipc=0: must be >= 1"


def test_killed_work_says_so(jobs, monkeypatch, tmp_path):
    job = fake(jobs, monkeypatch, tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    wait(lambda: not job.is_running())
    assert "lack of memory" in job.error()


def test_power_cut_leaves_a_job_that_is_seen_as_ended(jobs, monkeypatch, tmp_path):
    job = fake(jobs, monkeypatch, tmp_path, "import time; time.sleep(60)")
    group = int(json.loads((tmp_path / "job" / "job.json").read_text())["group"])
    os.killpg(group, signal.SIGKILL)
    wait(lambda: not job.is_running())
    assert "terminated unexpectedly" in job.error()


def test_wrong_settings_are_refused_before_anything_starts(runs, made):
    view, places = runs
    with pytest.raises(ConfigError, match="ipc"):
        view.start_run(places, "x", str(made.config), made.phantoms, ["distill.ipc=0"])
    assert not places.jobs.exists()


def test_run_is_started_stopped_and_resumed(runs, made, open_page, text_of):
    view, places = runs
    settings = ["distill.outer_steps=100000", "distill.validate_every=0"]
    path = view.start_run(places, "Second look", str(made.config), made.phantoms, settings)
    assert path == places.runs / "second-look"
    assert view.find_runs(places) == [path]
    assert view.run_state(places, path).state == "running"
    wait(lambda: (path / "distill" / "mtt" / "checkpoint.safetensors").is_file())
    # another browser, which started nothing, sees the same
    test = open_page("distill")
    assert "The work goes on when you leave this page" in text_of(test)
    assert test.button("stop_run")
    view.stop_run(places, path)
    wait(lambda: view.run_state(places, path).state != "running")
    assert view.run_state(places, path).state == "stopped"
    test = open_page("distill")
    assert "The run was stopped" in text_of(test)
    assert test.button("resume_run").label == "Go on"
    view.resume_run(places, path)
    assert view.run_state(places, path).state == "running"
    with pytest.raises(ConfigError, match="at work already"):
        view.resume_run(places, path)
    view.stop_run(places, path)
    wait(lambda: view.run_state(places, path).state == "stopped")


def test_an_audit_that_is_stopped_as_it_begins_leaves_the_run_finished(runs, finished):
    view, places = runs
    view.start_audit(places, finished, "quick")

    def begun() -> bool:
        status = json.loads((finished / "status.json").read_text())
        return status["command"] == "audit" and status["state"] == "running"

    wait(begun)
    view.stop_run(places, finished)
    wait(lambda: view.run_state(places, finished).state != "running")
    assert json.loads((finished / "status.json").read_text())["state"] == "completed"
    assert view.run_state(places, finished).state == "completed"
    assert '"command_failed"' in (finished / "events.jsonl").read_text()


@pytest.mark.slow
def test_bundle_that_the_gate_lets_pass_is_released(runs, finished, open_page, text_of):
    view, places = runs
    rules = finished / "run.yaml"
    rules.write_text(rules.read_text().replace("policy: default", "policy: phantom"))
    test = open_page("export")
    assert "Not released" in test.error[0].value
    assert list(test.table[0].value["rule"]) == ["phantom"]
    test.button("release").click().run()
    assert not test.exception
    wait(lambda: view.run_state(places, finished).state != "running")
    shown = text_of(open_page("export"))
    assert "Released under policy" in shown
    assert "no rule about patients was applied" in shown
    assert "Not released" not in shown


@pytest.mark.slow
def test_run_that_failed_shows_its_error(runs, made, open_page, text_of, tmp_path):
    view, places = runs
    empty = tmp_path / "no-xrays"
    empty.mkdir()
    path = view.start_run(places, "bad", str(made.config), empty)
    wait(lambda: view.run_state(places, path).state == "failed")
    assert "empty" in view.run_state(places, path).error
    shown = text_of(open_page("distill"))
    assert "The run ended with an error." in shown
    assert "empty" in shown


def test_foreign_folders_and_links_are_no_runs(runs, finished, tmp_path):
    view, places = runs
    (places.runs / "other").mkdir()
    (places.runs / "other" / "run.yaml").write_text("somebody: else\n")
    (tmp_path / "elsewhere").mkdir()
    finished.rename(tmp_path / "elsewhere" / "run")
    (places.runs / "link").symlink_to(tmp_path / "elsewhere")
    assert view.find_runs(places) == []
    assert RunFolder(places.runs / "link" / "run").holds_run()
