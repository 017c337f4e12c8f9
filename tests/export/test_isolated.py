"""Training from a bundle in a process that can import torch, safetensors and numpy, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from medidistill.config import NetworkConfig, TrainingConfig
from medidistill.distilled_set import Normalisation
from medidistill.evaluate import Arm, compare, run_arm
from medidistill.seeding import stream

from .bundle_example import CLASSES, card_code, make_set, striped, write

# what torch itself cannot be imported without
ALLOWED = {"torch", "safetensors", "numpy", "typing_extensions", "sympy", "mpmath", "filelock", "jinja2", "markupsafe"}
ALLOWED |= {"networkx", "fsspec", "functorch", "torchgen", "triton", "nvidia", "packaging", "numpy.libs", "cuda"}
GUARD = f"""
import importlib.machinery, sys

class Only:
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        outside = spec is not None and "site-packages" in str(spec.origin or spec.submodule_search_locations)
        return None if outside and name.split(".")[0] not in {ALLOWED!r} else spec

sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter, Only()]
"""


def run(code: str, folder: Path, *options: str, path: str = "") -> None:
    command = [sys.executable, *options, "-c", GUARD + code]
    subprocess.run(command, cwd=folder, check=True, timeout=280, env=os.environ | {"PYTHONPATH": path})


@pytest.mark.slow
def test_the_printed_code_reaches_the_recorded_accuracy(tmp_path: Path) -> None:
    distilled = make_set(
        network=NetworkConfig(width=8), training=TrainingConfig(steps=150, batch_size=9, lr=0.1, schedule="step")
    )
    real, labels = striped(90, seed=1)
    # noise enough that no network is perfect: the recorded interval must have a width
    real = (real + 0.9 * torch.randn(real.shape, generator=stream(2))).clamp(0, 1)
    arm = run_arm(
        Arm("iadd", distilled.images, distilled.targets, (distilled.training,)),
        network=distilled.network,
        val_images=distilled.images,
        val_labels=distilled.labels,
        test_images=Normalisation().apply(real),
        num_classes=3,
        networks=4,
        seed=0,
    )
    comparison = compare([arm], labels, [str(i) for i in range(90)], CLASSES, bootstrap=200)
    folder = write(tmp_path / "bundle", distilled, comparison=comparison)
    np.savez(tmp_path / "real.npz", x=real.numpy(), y=labels.numpy())
    check = f"""
import numpy, torch
real = numpy.load({str(tmp_path / "real.npz")!r})
found = predict(torch.from_numpy(real["x"])).argmax(1).numpy()
accuracy = numpy.mean([(found[real["y"] == k] == k).mean() for k in range(3)])
kept = recipe["evaluation"]["rows"][0]["balanced_accuracy"]
assert 0.4 < kept["low"] < kept["high"] < 1, kept
assert kept["low"] <= accuracy <= kept["high"], (accuracy, kept)
"""
    run("import torch; torch.manual_seed(0)\n" + card_code(folder) + check, folder, "-I")


def test_load_and_train_need_no_more_either(written: Path, root: Path) -> None:
    code = """
import medidistill, torch
bundle = medidistill.load(".")
network = bundle.train()
assert bundle.predict(network, torch.rand(2, 1, 16, 16)).shape == (2, 3)
assert bundle.facts["name"] == "Phantom Run 1"
"""
    run(code, written, path=str(root))


def test_the_guard_guards(written: Path) -> None:
    refused = """
for name in ("PIL", "scipy", "pydicom", "jsonschema", "highdicom"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert error.name == name
    else:
        raise SystemExit(f"{name} could be imported")
"""
    run(refused, written)
