"""Each ready-made pipeline as an operator starts it: the scripts themselves, the real command, real DICOM."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

from medidistill.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

CONFIG = """\
name: tried by an operator
seed: 3
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 4, epochs: 3, batch_size: 16}
distill:
  {ipc: 1, outer_steps: 10, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 5, checkpoint_every: 5}
evaluate:
  {arms: [random, mtt, iadd], networks: 2, full_epochs: 2, bootstrap: 100,
   small: {steps: 5}, adaptive: {steps: 5, batch_size: 16}}
"""


def phantoms(folder, seed=0):
    """Return the folder with the films of one hospital in it."""
    options = ["--patients-per-class", "8", "--images-per-patient", "1", "--size", "64", "--seed", str(seed)]
    assert main(["phantom", str(folder), *options, "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return phantoms(tmp_path_factory.mktemp("films"))


@pytest.fixture
def operator(root, tmp_path):
    """Return a function that runs a script of the pipelines with variables of its own."""
    config = tmp_path / "site.yaml"
    config.write_text(CONFIG)

    def run(script, *arguments, wait=True, **variables):
        environment = {
            **os.environ,
            "MEDIDISTILL": f"{sys.executable} -m medidistill",
            "MEDIDISTILL_CONFIG": str(config),
            **{f"MEDIDISTILL_{name.upper()}": str(value) for name, value in variables.items()},
        }
        process = subprocess.Popen(
            [root / "pipelines" / script, *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not wait:
            return process
        said, _ = process.communicate()
        return process.returncode, said

    run.config = config
    return run


def test_nightly(films, operator, tmp_path):
    runs = tmp_path / "runs"
    # a wrong label table: the night fails, and what goes to support is there
    (tmp_path / "empty").mkdir()
    code, _ = operator("nightly/nightly.sh", inbox=tmp_path / "empty", runs=tmp_path / "failed")
    assert code == 3
    assert len(list((tmp_path / "failed").glob("*.support.zip"))) == 1
    code, said = operator("nightly/nightly.sh", inbox=films, runs=runs)
    assert code == 0, said
    (run,) = (path for path in runs.iterdir() if path.is_dir())
    assert (run / "bundle" / "SHA256SUMS").is_file()
    assert (run / "report.html").is_file()
    assert not (run / "ingest").exists()
    assert operator("nightly/nightly.sh", inbox=films, runs=runs) == (0, "no new files in the inbox; nothing to do\n")


def test_pacs_intake(films, operator, tmp_path):
    pytest.importorskip("pynetdicom")
    from pynetdicom import AE
    from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    datasets = [pydicom.dcmread(path) for path in sorted(films.rglob("*.dcm"))]
    names = {path.relative_to(films).as_posix(): pydicom.dcmread(path) for path in sorted(films.rglob("*.dcm"))}
    rows = [line.split(",") for line in (films / "labels.csv").read_text().splitlines()]
    place, label = rows[0].index("path"), rows[0].index("label")
    table = [f"{names[row[place]].SOPInstanceUID},{row[label]}" for row in rows[1:]]
    (tmp_path / "labels.csv").write_text("\n".join(["sop_instance_uid,label", *table]) + "\n")
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32).hex().encode())
    key.chmod(0o600)
    folders = {name: tmp_path / name for name in ("spool", "clean", "runs")}
    options = f"--count {len(datasets)} --port {port}"
    process = operator(
        "pacs/intake.sh", wait=False, key=key, labels=tmp_path / "labels.csv", receive=options, **folders
    )
    entity = AE(ae_title="PACS")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation)
    while not (link := entity.associate("127.0.0.1", port, ae_title="MEDIDISTILL")).is_established:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.5)
    assert {link.send_c_store(one).Status for one in datasets} == {0}
    link.release()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    (run,) = folders["runs"].iterdir()
    assert (run / "bundle" / "SHA256SUMS").is_file()
    # the run read the de-identified copies: no name of a patient is in any of its files
    patients = {str(one.PatientName).encode() for one in datasets} | {str(one.PatientID).encode() for one in datasets}
    for path in run.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [name for name in patients if name in content], path


def test_several_hospitals(operator, tmp_path):
    for seed, site in enumerate(("north", "south")):
        films = phantoms(tmp_path / f"films-{site}", seed)
        code, said = operator("multi_hospital/site.sh", films, tmp_path / site, operator.config)
        assert code == 0, said
        assert not (tmp_path / site / "ingest").exists()
    code, said = operator(
        "multi_hospital/merge.sh", tmp_path / "merged", tmp_path / "north" / "bundle", tmp_path / "south" / "bundle"
    )
    assert code == 0, said
    assert main(["verify", str(tmp_path / "merged"), "--quiet"]) == 0


def test_slurm_on_the_local_executor(films, operator, tmp_path):
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    out = tmp_path / "out"
    command = [sys.executable, Path(__file__).parents[2] / "pipelines" / "slurm" / "submit.py", "--cluster", "local"]
    command += ["--config", operator.config, "--input", films, "--output", out, "--shards", "2"]
    command += ["--cpus", "1", "--memory-gb", "2", "--minutes", "30", "--logs", tmp_path / "logs"]
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stages = json.loads((out / "record.json").read_text())["stages"]
    assert list(stages)[-1] == "report"
    # the same command again finds everything done
    assert subprocess.run(list(map(str, command)), check=False, capture_output=True).returncode == 0
