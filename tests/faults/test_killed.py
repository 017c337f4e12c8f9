"""kill -9, SIGTERM and SIGINT at random moments of every stage: the run goes on to the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter

import pytest

from .workplace import START, note, stage_of, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
KILLS = int(os.environ.get("MEDIDISTILL_FAULT_KILLS", "100"))
SIGNALS = int(os.environ.get("MEDIDISTILL_FAULT_SIGNALS", "20"))
SEED = int(os.environ.get("MEDIDISTILL_FAULT_SEED", "0"))


def _hit(workplace, output, stage, moments, number):
    """Send a signal at a random moment of `stage`; returns the exit code, or None where the run was faster."""
    # the report is drawn for seconds and its page holds times: it is made where it is what gets hit
    child = workplace.start(output, None, None, "--until", "report" if stage == "report" else "export")
    if not workplace.reach(child, output, stage):
        wait(child)
        return None
    time.sleep(moments.uniform(0, workplace.seconds[stage]))
    began = time.monotonic()
    os.kill(child, number)
    code = wait(child)
    return None if code == 0 else (code, time.monotonic() - began)


def _go_on(workplace, output, stage, log):
    assert not (output / "run.yaml").exists() or (output / "run.yaml").read_text().endswith("\n")
    workplace.check_what_is_there(output)
    until = "report" if stage == "report" else "export"
    assert workplace.finish(output, None, log, "--until", until) == 0, log.read_text()
    workplace.check(output)


def _stages(workplace):
    return (START, *(stage for stage in workplace.seconds if stage != START))


def test_killed_at_random_moments(workplace, tmp_path):
    moments, done = random.Random(SEED), 0
    before_report = tmp_path / "before-report"
    assert workplace.finish(before_report) == 0
    while done < KILLS:
        out, stage = tmp_path / f"out-{done}", _stages(workplace)[done % len(_stages(workplace))]
        if stage == "report":
            shutil.copytree(before_report, out)
        ended = _hit(workplace, out, stage, moments, signal.SIGKILL)
        if ended is None:
            shutil.rmtree(out)
            continue  # it was faster than the signal: no kill
        assert ended[0] == -signal.SIGKILL
        reached = stage_of(out)
        done += 1
        _go_on(workplace, out, stage, tmp_path / "log")
        shutil.rmtree(out)
        note("kill -9", {reached: 1, "in all": 1})


def test_killed_again_and_again(workplace, tmp_path):
    """The same run is killed until it gets through."""
    moments, out, kills = random.Random(SEED + 1), tmp_path / "out", 0
    seconds = sum(workplace.seconds.values()) - workplace.seconds["report"]
    while True:
        child = workplace.start(out)
        if kills < 20:
            time.sleep(moments.uniform(0, seconds / 3))
            os.kill(child, signal.SIGKILL)
        code = wait(child)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    workplace.check(out)
    note("kill -9, the same run again and again", {"in all": kills})


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_within_ten_seconds(workplace, tmp_path, number, code):
    moments, hit, slowest = random.Random(SEED + number), Counter(), 0.0
    stages = _stages(workplace)[1:]  # before the handlers are there the process simply ends, and nothing was begun
    while hit.total() < SIGNALS // 2:
        out, stage = tmp_path / f"out-{moments.random()}", stages[hit.total() % len(stages)]
        ended = _hit(workplace, out, stage, moments, number)
        if ended is None:
            continue
        slowest = max(slowest, ended[1])
        assert ended[0] == code
        assert slowest < 10
        status = json.loads((out / "status.json").read_text())
        assert (status["state"], status["exit_code"]) == ("stopped", code)
        hit[stage_of(out)] += 1
        _go_on(workplace, out, stage, tmp_path / "log")
        shutil.rmtree(out)
    note(signal.Signals(number).name, {**hit, "in all": hit.total(), "slowest, ms": round(1000 * slowest)})
