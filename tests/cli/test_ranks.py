"""`torchrun -m medidistill distill`: real processes that share the segments of one run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medidistill.cli import main
from medidistill.distilled_set import DistilledSet
from medidistill.pipeline import released_statistics
from tests.cli.conftest import CONFIG, draw_pictures
from tests.killing import start, wait

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("rank_program.py")


def torchrun(*arguments: object, restarts: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose experts are trained, with two segments an outer step."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "tiny.yaml").write_text(CONFIG)
    begin = ["--config", str(folder / "tiny.yaml"), "--set", "distill.segments=2", "--set", "distill.outer_steps=120"]
    begin += ["--input", str(draw_pictures(folder / "pictures")), "--output", str(folder / "out"), "--quiet"]
    assert main(["run", *begin, "--until", "experts"]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def alone(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, distilled by one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    shutil.copytree(begun, out)
    assert main(["distill", "--method", "mtt", "--output", str(out), "--quiet"]) == 0
    return out


def distilled(folder: Path) -> bytes:
    return (folder / "distill" / "mtt" / "distilled.safetensors").read_bytes()


def by_torchrun(arguments: list[str], folder: Path) -> str:
    """Run a command in two processes as `torchrun` starts them; return what it said."""
    said, complained = (process := torchrun("-m", "medidistill", *arguments)).communicate(timeout=240)
    assert process.returncode == 0, complained[-2000:]
    return said


def by_forks(arguments: list[str], folder: Path) -> str:
    """Run a command in two forked children, told of one another as `torchrun` tells them; return what both said."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(one.getsockname()[1]), "WORLD_SIZE": "2"}

    def told(rank: int) -> Callable[[], None]:
        return lambda: os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE="2")

    logs = [folder / f"log-{rank}" for rank in range(2)]
    children = [start([*arguments, "--quiet"], log, prepare=told(rank)) for rank, log in enumerate(logs)]
    assert [wait(child) for child in children] == [0, 0], [log.read_text() for log in logs]
    return "".join(log.read_text() for log in logs)


@pytest.mark.parametrize("share", [by_forks, pytest.param(by_torchrun, marks=pytest.mark.slow)])
def test_two_processes_make_one_run_and_the_first_alone_speaks(
    begun: Path, alone: Path, tmp_path: Path, share: Callable[[list[str], Path], str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    (out / "events.jsonl").unlink()
    said = share(["distill", "--method", "mtt", "--output", str(out)], tmp_path)
    assert distilled(out) == distilled(alone)
    assert said.splitlines() == [str(out / "distill" / "mtt")]
    events = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert events.count("run_started") == events.count("stage_started") == events.count("run_completed") == 1
    assert json.loads((out / "status.json").read_text())["state"] == "completed"
    stages = [json.loads((folder / "record.json").read_text())["stages"]["distill/mtt"] for folder in (out, alone)]
    assert stages[0]["inputs"] == stages[1]["inputs"]
    touched = [json.loads((folder / "provenance.json").read_text())["events"] for folder in (out, alone)]
    assert [event["kind"] for event in touched[0]] == [event["kind"] for event in touched[1]]


def test_two_processes_release_noised_statistics_once(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, drawn = tmp_path / "out", tmp_path / "drawn"
    private = CONFIG.replace("deliver: iadd\n", "").replace("{count: 2,", "{dp: {enabled: true, noise_multiplier: 6},")
    (tmp_path / "private.yaml").write_text(private.replace("{num_networks", "{arms: [random, dp_stats], num_networks"))
    begin = ["--config", str(tmp_path / "private.yaml"), "--input", str(begun.parent / "pictures")]
    assert main(["run", *begin, "--output", str(out), "--until", "ingest", "--quiet"]) == 0
    generator = released_statistics.secret_generator

    def noted() -> torch.Generator:
        with drawn.open("a") as file:
            file.write("noise\n")
        return generator()

    monkeypatch.setattr(released_statistics, "secret_generator", noted)
    by_forks(["distill", "--method", "dp_stats", "--output", str(out)], tmp_path)
    assert drawn.read_text() == "noise\n"
    events = [event["kind"] for event in json.loads((out / "provenance.json").read_text())["events"]]
    assert events.count("feature_statistics") == 1
    made = out / "distill" / "dp_stats" / "distilled.safetensors"
    first = DistilledSet.load(made).images
    made.unlink()
    assert main(["distill", "--method", "dp_stats", "--output", str(out), "--quiet"]) == 0
    assert torch.equal(DistilledSet.load(made).images, first)  # of the statistics that were kept
    assert drawn.read_text() == "noise\n"


@pytest.mark.slow
def test_what_one_rank_meets_ends_both_with_its_code(begun: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(begun, tmp_path / name)
    damaged = tmp_path / "second" / "experts" / "expert-0001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    codes = tmp_path / "codes"
    codes.mkdir()
    process = torchrun(PROGRAM, codes, tmp_path / "first", tmp_path / "second")
    _, complained = process.communicate(timeout=240)
    assert process.returncode != 0
    assert {file.name: file.read_text() for file in codes.iterdir()} == {"0": "3", "1": "3"}, complained[-2000:]
    status = json.loads((tmp_path / "first" / "status.json").read_text())
    assert (status["state"], status["exit_code"]) == ("failed", 3)
    assert complained.count("medidistill: error: rank 1:") == 1


@pytest.mark.slow
def test_a_killed_rank_starts_again_and_the_run_ends_as_it_would_have(begun: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(begun, out)
    process = torchrun("-m", "medidistill", "distill", "--method", "mtt", "--output", out, restarts=1)
    checkpoint, until = out / "distill" / "mtt" / "checkpoint.safetensors", time.monotonic() + 200
    while not checkpoint.is_file() and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(child_of(process.pid, rank=1), signal.SIGKILL)
    _, complained = process.communicate(timeout=240)
    assert process.returncode == 0, complained[-2000:]
    assert "exitcode: -9" in complained  # it did die
    assert distilled(out) == distilled(alone)


def child_of(parent: int, rank: int) -> int:
    """Return the process number of a rank that the launcher `parent` started."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            above = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if above == parent and f"RANK={rank}\0" in "\0" + (place / "environ").read_text().replace("_RANK=", "_R="):
                return int(place.name)
        except OSError:
            continue
    raise AssertionError(f"rank {rank} is not there")


@pytest.mark.parametrize("arguments", [["run"], ["experts", "--shard", "0/2"]])
def test_what_cannot_be_shared_is_refused(arguments: list[str], monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert "only experts and distill can share" in capsys.readouterr().err
