"""What goes to support holds no patient value, wherever one is planted."""

from __future__ import annotations

import json
import socket
import zipfile

import pytest

from medidistill.cli import main
from medidistill.config import RunConfig
from medidistill.errors import ConfigError, IngestError
from medidistill.files import write_json, write_text
from medidistill.pipeline.config_io.config_file import dump_config, load_config
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runfolder.support import make_support_package
from medidistill.record import RunRecord

PLANTED = "PHANTOM^PLANTED"


@pytest.fixture
def run(tmp_path):
    """A failed run with the planted value in every place that takes free text."""
    settings = [
        f'name="{PLANTED}"',
        f'notice="{PLANTED}"',
        f'ingest.labels="{PLANTED}.csv"',
        f'ingest.classes=["{PLANTED}", b]',
        f'evaluate.external="/wards/{PLANTED}"',
        f'evaluate.bundles=["/wards/{PLANTED}"]',
        f'privacy.recipient="{PLANTED}"',
        f'privacy.ledger="/wards/{PLANTED}.json"',
    ]
    folder = RunFolder.create(tmp_path / PLANTED / "out", load_config(None, settings))
    record = RunRecord(command=f"medidistill run --input {PLANTED}")
    record.stage("ingest", inputs="0123", images={"train": {PLANTED: 3, "b": 4}}, patients={"train": 2}, note=PLANTED)
    record.config = {"name": PLANTED}
    record.save(folder.record_file)
    write_text(folder.ingest / f"{PLANTED}.csv", PLANTED)
    write_text(folder.path / "evaluate" / "comparison.md", PLANTED)
    write_text(folder.path / f"{PLANTED}.safetensors", PLANTED)
    write_json(
        folder.path / "distill" / "iadd" / "history.json", {"status": "x", "entries": [{"loss": 1.0}], "events": []}
    )
    told = {"sentence": PLANTED, "figures": {"counts": {PLANTED: 3}}, "warnings": [PLANTED], "chosen_by": PLANTED}
    write_json(folder.verdict, {"format": 1, "colour": "red", **told})
    check = {"wanted": True, "profile": "quick", "policy": PLANTED, "summary": [PLANTED]}
    write_json(folder.release_check, {**check, "unresolvable": [{"rule": "canaries", "available": PLANTED}]})
    arm = "bundle-PLANTED-north"  # called by the folder of a bundle from elsewhere
    write_json(folder.evaluate / "cells" / f"{arm}.convnet.json", {})
    journal = Journal(folder, "run", ("ingest", "experts"))
    journal.begin(())
    journal.stage_started("ingest")
    journal.at(1, 1, "network", piece=f"{arm} convnet")
    journal.end(IngestError(f"{PLANTED}.dcm: unreadable"))
    return folder


def _read(target):
    with zipfile.ZipFile(target) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_no_planted_value_and_no_host_is_inside(run, tmp_path):
    target = tmp_path / "support.zip"
    make_support_package(run, target)
    parts = _read(target)
    assert {name.rpartition("/")[2] for name in parts} >= {"record.json", "status.json", "events.jsonl", "curves.json"}
    for name, text in parts.items():
        assert "PLANTED" not in name + text, name
        assert str(tmp_path) not in text, name
        assert socket.gethostname() not in text, name
    assert target.stat().st_mode & 0o077 == 0


def test_what_helps_is_inside(run, tmp_path):
    make_support_package(run, tmp_path / "support.zip")
    parts = {name.rpartition("/")[2]: text for name, text in _read(tmp_path / "support.zip").items()}
    assert json.loads(parts["status.json"])["state"] == "failed"
    assert json.loads(parts["status.json"])["verdict"] == {"colour": "red"}
    assert json.loads(parts["status.json"])["release_check"]["unresolvable"] == ["canaries"]
    assert json.loads(parts["record.json"])["images"] == {"train": [3, 4]}
    settings = json.loads(parts["configuration.json"])
    assert settings["distill"]["ipc"] == RunConfig().distill.ipc
    assert settings["distill"]["init"] == RunConfig().distill.init
    assert settings["evaluate"]["arms"] == list(RunConfig().evaluate.arms)
    assert settings["privacy"]["ledger"] == f"({len(f'/wards/{PLANTED}.json')} withheld)"
    assert json.loads(parts["curves.json"])["iadd"]["entries"] == [{"loss": 1.0}]
    assert "torch" in json.loads(parts["environment.json"])["versions"]


def test_damaged_parts_do_not_keep_the_rest_back(run, tmp_path):
    run.status_file.write_text("{")
    run.record_file.write_text("[")
    make_support_package(run, tmp_path / "support.zip")
    parts = {name.rpartition("/")[2]: text for name, text in _read(tmp_path / "support.zip").items()}
    assert json.loads(parts["status.json"]) == {"unreadable": "IngestError"}


def test_the_command_writes_it_and_overwrites_nothing(run, tmp_path, capsys):
    target = tmp_path / "support.zip"
    assert main(["support", str(run.path), "--output", str(target)]) == 0
    assert "status.json" in capsys.readouterr().out
    assert main(["support", str(run.path), "--output", str(target)]) == 2
    assert "exists; name a new file" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="holds no medidistill run"):
        make_support_package(RunFolder(tmp_path), tmp_path / "other.zip")


def test_the_configuration_is_not_touched(run):
    assert run.config_file.read_text() == dump_config(load_config(run.config_file))
