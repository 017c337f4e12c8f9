"""The ready-made pipelines on the engines that they are for, from the first task to the bundle.

SLURM runs from the distribution's packages (`apt-get install slurmctld slurmd slurm-client munge`), Airflow from an
environment of its own (`pip install apache-airflow`), named by MEDIDISTILL_AIRFLOW or found on the PATH: its
dependencies do not go together with ours. Where an engine is absent its tests skip and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
evaluate: {arms: [random, iadd], networks: 2, full_epochs: 2, bootstrap: 100, small: {steps: 5}}
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
