"""The ready-made pipelines on the engines that they are for, from the first task to the bundle.

SLURM runs from the distribution's packages (`apt-get install slurmctld slurmd slurm-client munge`), Airflow from an
environment of its own (`pip install apache-airflow`), named by MEDIDISTILL_AIRFLOW or found on the PATH: its
dependencies do not go together with ours. Where an engine is absent its tests skip and say so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medidistill.cli import main

from .slurm_node import MISSING, cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

AIRFLOW = os.environ.get("MEDIDISTILL_AIRFLOW") or shutil.which("airflow")
CONFIG = """\
name: tried on an engine
seed: 3
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 4, epochs: 3, batch_size: 16}
distill: {ipc: 1, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 2}
evaluate:
  {arms: [random, iadd], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5}}
"""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films") / "films"
    assert main(["phantom", str(folder), "--patients-per-class", "8", "--size", "64", "--quiet"]) == 0
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(CONFIG)
    return file


def stages_of(run: Path) -> list[str]:
    return list(json.loads((run / "record.json").read_text())["stages"])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    if MISSING:
        pytest.skip(f"SLURM is not installed here: {', '.join(MISSING)}")
    if os.geteuid():
        pytest.skip("the daemons of SLURM are started as root")
    with cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_slurm_runs_every_stage_as_jobs(
    root: Path, slurm: dict[str, str], films: Path, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, root / "pipelines" / "slurm" / "submit.py", "--partition", "cpu", "--shards", "2"]
    command += ["--cpus", "1", "--memory-gb", "1", "--minutes", "60", "--logs", tmp_path / "logs"]
    missing = [*command, "--config", config, "--input", tmp_path / "none", "--output", tmp_path / "failed"]
    done = subprocess.run(list(map(str, missing)), env=slurm, check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr  # the exit code of the first job
    whole = [*command, "--config", config, "--input", films, "--output", out]
    done = subprocess.run(list(map(str, whole)), env=slurm, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert stages_of(out)[-1] == "report"
    assert main(["verify", str(out / "bundle"), "--quiet"]) == 0
    shown = subprocess.run(["scontrol", "show", "jobs", "--oneliner"], env=slurm, check=True, capture_output=True)
    jobs = shown.stdout.decode().splitlines()
    # one job that fails inside, then ingest, two shares of the experts, and the rest
    assert len(jobs) == 5, jobs
    assert all("JobState=COMPLETED" in job and "Partition=cpu" in job for job in jobs), jobs


def jobs_of(environment: dict[str, str]) -> list[dict[str, str]]:
    shown = subprocess.run(["scontrol", "show", "jobs", "--oneliner"], env=environment, check=True, capture_output=True)
    lines = [line.split() for line in shown.stdout.decode().splitlines() if line.startswith("JobId=")]
    return [dict(word.split("=", 1) for word in line if "=" in word) for line in lines]


def test_a_slurm_job_that_is_warned_is_queued_again_and_goes_on(
    root: Path, slurm: dict[str, str], films: Path, tmp_path: Path
) -> None:
    """The signal that SLURM sends before it preempts a job: what the job had finished is not done twice."""
    out, config = tmp_path / "out", tmp_path / "site.yaml"
    config.write_text(CONFIG.replace("outer_steps: 4", "outer_steps: 300, checkpoint_every: 5"))
    before = {job["JobId"] for job in jobs_of(slurm)}
    command = [sys.executable, root / "pipelines" / "slurm" / "submit.py", "--partition", "cpu", "--shards", "1"]
    command += ["--cpus", "1", "--memory-gb", "1", "--minutes", "60", "--logs", tmp_path / "logs", "--retries", "0"]
    command += ["--config", config, "--input", films, "--output", out]
    log = tmp_path / "log"
    with open(log, "w") as file:
        script = subprocess.Popen(list(map(str, command)), env=slurm, stdout=file, stderr=file)
    try:
        while not (out / "distill" / "iadd" / "checkpoint.safetensors").is_file():
            assert script.poll() is None, log.read_text()
            time.sleep(0.2)
        (running,) = [job for job in jobs_of(slurm) if job["JobState"] == "RUNNING" and job["JobId"] not in before]
        step = json.loads((out / "status.json").read_text())["step"]
        subprocess.run(["scancel", "--signal=USR2", running["JobId"]], env=slurm, check=True)
        assert script.wait(1200) == 0, log.read_text()
    finally:
        script.kill()
    (again,) = [job for job in jobs_of(slurm) if job["JobId"] == running["JobId"]]
    assert (again["JobState"], again["Restarts"]) == ("COMPLETED", "1")
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert "run_stopped" in {event["event"] for event in events}, {event["event"] for event in events}
    assert step > 0
    assert stages_of(out)[-1] == "report"
    assert main(["verify", str(out / "bundle"), "--quiet"]) == 0


@pytest.fixture
def airflow(root: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of an Airflow whose DAG folder is ours and whose `medidistill` is this one."""
    if not AIRFLOW:
        pytest.skip("Airflow is not installed: name its command by MEDIDISTILL_AIRFLOW")
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "medidistill"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m medidistill "$@"\n')
    script.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "pipelines" / "airflow"),
        "AIRFLOW_VAR_MEDIDISTILL_RUNS": str(tmp_path / "runs"),
    }
    subprocess.run([AIRFLOW, "db", "migrate"], env=environment, check=True, capture_output=True)
    return environment


def test_airflow_runs_the_dag_to_the_bundle(airflow: dict[str, str], films: Path, config: Path, tmp_path: Path) -> None:
    environment = airflow | {"AIRFLOW_VAR_MEDIDISTILL_INPUT": str(films), "AIRFLOW_VAR_MEDIDISTILL_CONFIG": str(config)}
    command = [AIRFLOW, "dags", "test", "medidistill", "2026-01-02"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = tmp_path / "runs" / "20260102"
    assert {"ingest", "experts", "distill/iadd", "evaluate", "export", "report"} <= set(stages_of(run))
    assert main(["verify", str(run / "bundle"), "--quiet"]) == 0
    assert not (run / "ingest").exists()  # the last task removes patients' pixels


def test_airflow_tries_again_only_what_another_try_can_change(
    airflow: dict[str, str], films: Path, config: Path, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    script = tmp_path / "bin" / "medidistill"
    real = script.read_text().replace("#!/bin/sh\n", "")
    script.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{real}')
    variables = {"AIRFLOW_VAR_MEDIDISTILL_INPUT": str(tmp_path / "none"), "AIRFLOW_VAR_MEDIDISTILL_CONFIG": str(config)}
    command = [AIRFLOW, "dags", "test", "medidistill", "2026-01-02"]
    done = subprocess.run(command, env=airflow | variables, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "exit code 3. No retry can help" in done.stdout + done.stderr
    assert len(calls.read_text().splitlines()) == 1
    script.write_text("#!/bin/sh\nexit 143\n")
    waiting = subprocess.Popen(
        [*command[:-1], "2026-01-03"],
        env=airflow | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert waiting.stdout is not None
    try:
        states = (re.search("new_state=(up_for_retry|failed)", line) for line in waiting.stdout)
        assert next(found[1] for found in states if found) == "up_for_retry"
    finally:
        waiting.kill()
        waiting.wait()
