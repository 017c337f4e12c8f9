"""The processing module as an orchestrator starts it: folders, task.json, the real command."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pydicom
import pytest

from medidistill.cli import main

CONFIG = """\
name: tried by a module
seed: 3
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 3, batch_size: 16}
distill: {ipc: 1, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 2}
evaluate:
  {arms: [random, iadd], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5}}
"""


@pytest.fixture(scope="module")
def module(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("module", root / "pipelines" / "mercure" / "module.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["module"] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return {"MERCURE_IN_DIR": str(tmp_path / "in"), "MERCURE_OUT_DIR": str(tmp_path / "out")}


def film(path: Path, content: bytes) -> None:
    path.write_bytes(b"\0" * 128 + b"DICM" + content)


def task(folders: dict[str, str], process: Any) -> None:
    (Path(folders["MERCURE_IN_DIR"]) / "task.json").write_text(json.dumps({"info": {}, "process": process}))


def test_each_film_is_collected_once_without_the_names_it_came_with(
    module: ModuleType, folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(folders["MERCURE_IN_DIR"])
    film(source / "1.2.3#4.5.6.dcm", b"one")
    film(source / "1.2.3#4.5.7.dcm", b"two")
    (source / "1.2.3#4.5.6.tags").write_text('{"PatientName": "PHANTOM^0001"}')
    task(folders, {"settings": {"spool": str(tmp_path / "spool")}})
    assert module.main(folders) == 0
    film(source / "again.dcm", b"one")
    film(source / "third.dcm", b"three")
    assert module.main(folders) == 0
    assert capsys.readouterr().out.split("\n")[:2] == ["collected 2 new films", "collected 1 new films"]
    kept = sorted((tmp_path / "spool").iterdir())
    assert len(kept) == 3
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert not [path for path in kept if "4.5" in path.name or path.suffix != ".dcm"]
    assert not list(Path(folders["MERCURE_OUT_DIR"]).iterdir())


@pytest.mark.parametrize(
    ("environment", "process", "said"),
    [
        ({"MERCURE_OUT_DIR": ""}, {}, "no folders: needs MERCURE_IN_DIR and MERCURE_OUT_DIR or HOLOSCAN_INPUT_PATH"),
        ({"MERCURE_OUT_DIR": "/nowhere"}, {}, "/nowhere: no such folder; mount it"),
        ({}, {"settings": {"action": "dance"}}, "action='dance': must be one of collect, distill, run"),
        ({}, {"settings": {"medidistill": {"spol": "x"}}}, "unknown setting 'spol'"),
        ({}, {"settings": {}}, "setting 'spool' is missing; action 'collect' needs it"),
        ({}, [{"settings": {"action": "distill", "spool": "x"}}], "setting 'work' is missing"),
        ({}, [{"settings": {"action": "distil", "spool": "x"}}], "setting 'work' is missing; action 'distill'"),
        ({}, "text", "task.json: cannot be read"),
    ],
)
def test_a_wrong_setting_is_named(
    module: ModuleType,
    folders: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    environment: dict[str, str],
    process: Any,
    said: str,
) -> None:
    task(folders, process)
    assert module.main(folders | environment) == 2
    assert said in capsys.readouterr().err


def test_variables_are_stronger_than_the_task_and_other_modules_settings_are_left_alone(
    module: ModuleType, folders: dict[str, str]
) -> None:
    task(folders, [{"settings": {"threshold": 3}}, {"settings": {"spool": "/a", "config": "quick"}}])
    found = module.read_task(folders | {"MEDIDISTILL_SPOOL": "/b"})
    assert dict(found.settings) == {"action": "collect", "config": "quick", "spool": "/b"}
    package = {"HOLOSCAN_INPUT_PATH": folders["MERCURE_IN_DIR"], "HOLOSCAN_OUTPUT_PATH": folders["MERCURE_OUT_DIR"]}
    (Path(folders["MERCURE_IN_DIR"]) / "task.json").unlink()
    assert module.read_task(package).settings["action"] == "run"


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("orchestrator", ["mercure", "monai"])
def test_from_the_films_to_synthetic_images(root: Path, tmp_path: Path, orchestrator: str) -> None:
    source, target, work = (tmp_path / name for name in ("in", "out", "work"))
    films = tmp_path / "films"
    assert main(["phantom", str(films), "--patients-per-class", "8", "--size", "64", "--quiet"]) == 0
    rows = [line.split(",") for line in (films / "labels.csv").read_text().splitlines()]
    place, label = rows[0].index("path"), rows[0].index("label")
    uids = {row[place]: pydicom.dcmread(films / row[place], stop_before_pixels=True).SOPInstanceUID for row in rows[1:]}
    table = tmp_path / "labels.csv"
    lines = [f"{uids[row[place]]},{row[label]}" for row in rows[1:]]
    table.write_text("\n".join(["sop_instance_uid,label", *lines]) + "\n")
    key = tmp_path / "key"
    key.write_text(os.urandom(32).hex())
    key.chmod(0o600)
    config = tmp_path / "site.yaml"
    # what the program drew passes the gate of the phantom policy only while it says of itself that it is synthetic
    config.write_text(CONFIG + "privacy: {policy: phantom}\n")
    source.mkdir()
    target.mkdir()
    for number, path in enumerate(sorted(films.rglob("*.dcm"))):
        shutil.copy(path, source / f"{number}.dcm")
    names = {
        "mercure": ("MERCURE_IN_DIR", "MERCURE_OUT_DIR"),
        "monai": ("HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"),
    }[orchestrator]
    environment = {**os.environ, "PYTHONPATH": str(root), **dict(zip(names, map(str, (source, target)), strict=True))}
    settings = {"spool": tmp_path / "spool", "work": work, "key": key, "labels": table, "config": config}
    environment |= {f"MEDIDISTILL_{name.upper()}": str(value) for name, value in settings.items()}

    def start(**more: str) -> int:
        command = [sys.executable, root / "pipelines" / "mercure" / "module.py"]
        return subprocess.run(command, env=environment | more, check=False).returncode

    if orchestrator == "mercure":
        assert start() == 0  # a study at a time
        assert not list(target.iterdir())
        assert start(MEDIDISTILL_ACTION="distill") == 0
    else:
        assert start() == 0
    synthetic = [pydicom.dcmread(path) for path in target.iterdir()]
    assert len(synthetic) == 3
    assert {image.SyntheticData for image in synthetic} == {"YES"}
    (run,) = [path for path in work.iterdir() if path.is_dir()]
    assert not (run / "run" / "ingest").exists()
    # the same task again finds everything done and hands on the same objects
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    assert start(**({"MEDIDISTILL_ACTION": "distill"} if orchestrator == "mercure" else {})) == 0
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
