"""Each ready-made pipeline as an operator starts it: the scripts themselves, the real command, real DICOM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
  {arms: [random, mtt, iadd], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5, batch_size: 16}}
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
    # an empty inbox: the night fails, and what goes to support is there
    (tmp_path / "empty").mkdir()
    code, _ = operator("nightly/nightly.sh", inbox=tmp_path / "empty", runs=tmp_path / "failed")
    assert code == 3
    assert len(list((tmp_path / "failed").glob("*.support.zip"))) == 1
    code, said = operator("nightly/nightly.sh", inbox=films, runs=runs)
    assert code == 0, said
    (run,) = (path for path in runs.iterdir() if path.is_dir() and not path.name.startswith("."))
    assert (run / "bundle" / "SHA256SUMS").is_file()
    assert (run / "report.html").is_file()
    assert not (run / "ingest").exists()
    assert operator("nightly/nightly.sh", inbox=films, runs=runs) == (0, "no new files in the inbox; nothing to do\n")


WORDS = {"normal": "Healthy", "lobar_pneumonia": "Bacterial", "bilateral_peripheral_opacities": "Covid"}


def test_several_hospitals_with_words_of_their_own(operator, tmp_path):
    """From X-rays to the merged bundle and its scores; one hospital calls every class by another name."""
    for seed, site in enumerate(("north", "south")):
        films = phantoms(tmp_path / f"films-{site}", seed)
        if site == "north":
            text = (films / "labels.csv").read_text()
            for plain, word in WORDS.items():
                text = text.replace(f",{plain},", f",{word},")
            (films / "labels.csv").write_text(text)
        code, said = operator("multi_hospital/site.sh", films, tmp_path / site, operator.config)
        assert code == 0, said
        assert not (tmp_path / site / "ingest").exists()
    bundles = [tmp_path / site / "bundle" for site in ("north", "south")]
    code, said = operator("multi_hospital/merge.sh", tmp_path / "merged", *bundles)
    assert (code, "--classes FILE" in said) == (2, True), said
    assert not (tmp_path / "merged").exists()
    translated = ", ".join(f"{word}: {plain}" for plain, word in WORDS.items())
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(f"classes: [{', '.join(sorted(WORDS))}]\nbundles:\n  north/bundle: {{{translated}}}\n")
    held_out = phantoms(tmp_path / "held-out", 5)
    code, said = operator("multi_hospital/merge.sh", tmp_path / "merged", *bundles, classes=mapping, evaluate=held_out)
    assert code == 0, said
    assert "| merged |" in said
    assert main(["verify", str(tmp_path / "merged"), "--quiet"]) == 0
    recipe = json.loads((tmp_path / "merged" / "recipe.json").read_text())
    assert len(recipe["evaluation"]["rows"]) == 3


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
