"""The package as a library: cheap to import, nothing global changed, types that a strict checker accepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import medidistill

SNIPPET = """\
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

import medidistill

images = np.zeros((60, 16, 16), dtype=np.uint8)
result: medidistill.Result = medidistill.distill(images, labels=[0, 1] * 30, ipc=1, groups=list(range(60)))
bundle: medidistill.Bundle = result.set
network: nn.Module = bundle.train(steps=3)
probabilities: torch.Tensor = bundle.predict(network, images)
loader: DataLoader[tuple[torch.Tensor, torch.Tensor]] = bundle.dataloader(4)
for batch, targets in loader:
    assert batch.shape[0] == len(targets)
moved: medidistill.Bundle = bundle.to("cpu")
where: Path = result.export("bundle")
score: float = float(result.table["balanced_accuracy"].max())
if result.verdict is not None:
    colour: str = result.verdict.colour.value
again: medidistill.Bundle = medidistill.load(where)
config = medidistill.register_network(lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(256, num_classes)))
reveal_type(result.set)
reveal_type(medidistill.distill)
"""


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    return done.stdout


def test_import_takes_less_than_a_tenth_of_a_second_of_a_processor_and_loads_nothing_else():
    code = (
        "import sys, time\nbefore = set(sys.modules)\nstart = time.process_time()\nimport medidistill\n"
        "spent = time.process_time() - start\n"
        "new = {one.partition('.')[0] for one in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "import json; print(json.dumps([spent, sorted(new)]))"
    )
    found = [json.loads(in_a_new_process(code)) for _ in range(3)]
    assert [one[1] for one in found] == [["medidistill"]] * 3
    assert min(one[0] for one in found) < 0.1


@pytest.mark.parametrize("used", ["load, medidistill.train", pytest.param("distill", marks=pytest.mark.slow)])
def test_import_changes_no_global_state(used):
    # what other libraries put into the environment when they are first used is theirs (gdcm, inductor)
    code = (
        "import json, logging, os, signal, sys, warnings, torch\n"
        "def state():\n"
        "    return [torch.get_num_threads(), torch.get_rng_state().sum().item(), len(logging.root.handlers),\n"
        "            logging.root.level, str(signal.getsignal(2)), os.getcwd(),\n"
        "            torch.are_deterministic_algorithms_enabled(), str(torch.get_default_dtype())]\n"
        "before, around = state(), [dict(os.environ), list(warnings.filters)]\n"
        "import medidistill\n"
        "same = around == [dict(os.environ), list(warnings.filters)]\n"
        f"medidistill.{used}\n"
        "print(json.dumps([same, [a == b for a, b in zip(before, state())]]))"
    )
    same, unchanged = json.loads(in_a_new_process(code))
    assert same
    assert all(unchanged), unchanged


def test_every_public_name_is_there_and_documented():
    assert sorted(medidistill.__all__) == medidistill.__all__
    for name in medidistill.__all__:
        assert getattr(medidistill, name).__doc__, name
    assert {"distill", "Result", "load"} <= set(dir(medidistill))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_users_program_passes_a_strict_type_check(root: Path, tmp_path: Path):
    (tmp_path / "program.py").write_text(SNIPPET)
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "program.py"]
    environment = {**os.environ, "MYPYPATH": str(root)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=850, check=False
    )
    assert done.returncode == 0, done.stdout
    assert 'Revealed type is "medidistill.export.reading.Bundle"' in done.stdout
    assert "-> medidistill.api.result.Result" in done.stdout
