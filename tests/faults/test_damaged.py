"""One changed byte in any file of a finished run is found: made again or refused by name, no silent wrong result."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter

import pytest

from .workplace import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

UNREAD = {"history.json", "inputs.json"}
"""Of a finished distillation: the curves are made again with other times, the other is for one that goes on."""
FREE = {".lock", "events.jsonl", "status.json", "source.json", "run.yaml"}
"""Told apart in what follows: nothing rests on the first three, the last two say what is to be done."""


def _damage(path, how, dice):
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        place = dice.randrange(len(content))
        content[place] ^= 1 << dice.randrange(8)
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["bit", "cut"])
def test_every_file_of_a_finished_run(workplace, tmp_path, how):
    dice, found = random.Random(how), Counter()
    whole = workplace.root / "whole"
    for path in sorted(path for path in whole.rglob("*") if path.is_file() and path.name not in FREE):
        name = path.relative_to(whole).as_posix()
        if path.stat().st_size == 0 or name in ("report.html", "summary.pdf"):
            continue
        out, log = tmp_path / "out", tmp_path / "log"
        shutil.copytree(whole, out)
        _damage(out / name, how, dice)
        # an expert is read by what follows it
        again = ("--from", "distill", "--until", "distill") if name.startswith("experts/") else ()
        code = workplace.finish(out, None, log, *again)
        text = log.read_text()
        assert "Traceback" not in text, text
        assert "internal error" not in text, text
        if code == 0:
            # either nothing reads it again, or it was made again
            same = (out / name).read_bytes() == path.read_bytes()
            found["made again" if same or name.endswith("history.json") else "not read again"] += 1
            # a tensor file carries its checksum to whoever reads it
            assert same or path.name in UNREAD or path.suffix == ".safetensors", name
            others = {key: value for key, value in workplace.expected.items() if key != name}
            for other, content in others.items():
                assert (out / other).read_bytes() == content, (name, other)
        else:
            assert code == 3, (name, text)
            assert name in text, (name, text)
            found["refused by its name"] += 1
        shutil.rmtree(out)
        log.unlink()
    note(f"damaged file ({how})", {**found, "in all": found.total()})


@pytest.mark.parametrize("name", ["status.json", "events.jsonl"])
def test_damaged_status_and_events_do_not_matter_to_the_run(workplace, tmp_path, name, capfd):
    from medidistill.cli import main

    out = tmp_path / "out"
    shutil.copytree(workplace.root / "whole", out)
    (out / name).write_bytes(b'{"state": "comp')
    assert main(["status", str(out)]) == (3 if name == "status.json" else 0)
    assert (name in capfd.readouterr().err) == (name == "status.json")
    assert workplace.finish(out) == 0
    workplace.check(out)
    note("damaged status or events", {"in all": 1})


def test_damaged_configuration_is_refused(workplace, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log"
    shutil.copytree(workplace.root / "whole", out)
    text = (out / "run.yaml").read_text()
    for damaged in (text.replace("seed:", "sead:"), text[: len(text) // 2] + "{", text.replace("ipc: 1", "ipc: one")):
        (out / "run.yaml").write_text(damaged)
        assert workplace.finish(out, None, log) == 2, log.read_text()
        assert "run.yaml" in log.read_text()
        assert json.loads((out / "status.json").read_text())["state"] == "completed"
        log.unlink()
    note("damaged configuration", {"in all": 3})
