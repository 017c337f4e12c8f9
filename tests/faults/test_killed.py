"""kill -9, SIGTERM and SIGINT at random moments: the run goes on to the same bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter

import pytest

from .workplace import note, stage_of, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]
KILLS = int(os.environ.get("MEDIDISTILL_FAULT_KILLS", "100"))
SIGNALS = int(os.environ.get("MEDIDISTILL_FAULT_SIGNALS", "20"))


def test_killed_at_random_moments(workplace, tmp_path):
    moments, stages, done = random.Random(0), Counter(), 0
    while done < KILLS:
        out = tmp_path / f"out-{done}"
        child = workplace.start(out)
        time.sleep(moments.uniform(0, workplace.seconds))
        os.kill(child, signal.SIGKILL)
        if wait(child) == 0:
            shutil.rmtree(out)
            continue  # it was faster than the signal: no kill
        stages[stage_of(out)] += 1
        done += 1
        log = tmp_path / "log"
        assert workplace.finish(out, log=log) == 0, log.read_text()
        workplace.check(out)
        shutil.rmtree(out)
        note("kill -9", {stage_of(out): 0, "in all": 1})
    note("kill -9", dict(stages))


def test_killed_again_and_again(workplace, tmp_path):
    """The same run is killed until it gets through."""
    moments, out, kills = random.Random(1), tmp_path / "out", 0
    while True:
        child = workplace.start(out)
        if kills < 20:
            time.sleep(moments.uniform(0, workplace.seconds / 3))
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
    moments, stages, slowest = random.Random(int(number)), Counter(), 0.0
    while sum(stages.values()) < SIGNALS // 2:
        out = tmp_path / f"out-{moments.random()}"
        child = workplace.start(out)
        # before the handlers are there the process simply ends, and nothing was begun
        while not (out / "status.json").exists():
            time.sleep(0.001)
        time.sleep(moments.uniform(0, workplace.seconds))
        began = time.monotonic()
        os.kill(child, number)
        ended = wait(child)
        if ended == 0:
            continue
        slowest = max(slowest, time.monotonic() - began)
        assert ended == code
        assert slowest < 10
        status = json.loads((out / "status.json").read_text())
        assert (status["state"], status["exit_code"]) == ("stopped", code)
        stages[stage_of(out)] += 1
        assert workplace.finish(out) == 0
        workplace.check(out)
        shutil.rmtree(out)
    note(signal.Signals(number).name, {**stages, "in all": sum(stages.values())})
