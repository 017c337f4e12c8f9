"""What an intake keeps, for how long, when a study counts as settled, and who may be at work in it."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("pynetdicom")

from medidistill.cli import main
from medidistill.export import verify
from medidistill.ingest.pacs.study_spool import Arrival, StudySpool, list_spool, taking
from medidistill.pipeline.unattended.intake_folder import IntakeFolder

from ..faults.workplace import note

pytestmark = pytest.mark.usefixtures("processed", "blank_figures")


@pytest.mark.parametrize("days", [0.0, 1.0])
def test_images_are_removed_by_age(delivered, films, days):
    hospital = delivered
    assert hospital.status()["identified_objects"] == len(films)
    assert hospital.process("--keep-identified", "0", "--keep-clean", str(days))[0] == 0
    (batch,) = hospital.batches()
    assert not (batch / "identified").exists()
    assert (batch / "clean").exists() == (days > 0)
    status = hospital.status()
    assert (status["identified_objects"], status["clean_images"]) == (0, len(films) if days else 0)
    assert verify(batch / "run" / "bundle") == []
    if days:  # a day passes
        note = json.loads((batch / "batch.json").read_text())
        (batch / "batch.json").write_text(json.dumps({**note, "delivered": "2020-01-01T00:00:00+00:00"}))
        assert hospital.process()[0] == 0
        assert not (batch / "clean").exists()


def test_a_clock_that_was_set_back_removes_nothing_early_and_changes_no_order(delivered, films):
    hospital = delivered
    (batch,) = hospital.batches()
    state = json.loads((batch / "batch.json").read_text())
    ahead = {"name": "2999-01-01T000000", "delivered": "2999-01-01T00:00:00+00:00"}
    (batch / "batch.json").write_text(json.dumps({**state, **ahead}))
    batch.rename(batch.with_name("2999-01-01T000000"))
    hospital.receive(films[:2])
    hospital.key.unlink()
    assert hospital.process("--keep-identified", "1", "--keep-clean", "1")[0] == 2
    assert [one["state"] for one in hospital.status()["batches"]] == ["delivered", "settled"]
    assert hospital.status()["batches"][0]["name"] == "2999-01-01T000000"
    assert hospital.status()["batches"][0]["identified_purged"] == ""
    note("clock set back an hour", {"intake": 1, "in all": 1})


@pytest.mark.parametrize("boot", ["this", "another"])
def test_silence_is_measured_on_the_running_system_and_not_by_the_clock(hospital, films, monkeypatch, boot):
    hospital.receive(films[:1])
    (note,) = (hospital.intake / "arrivals").iterdir()
    (found,) = list_spool(hospital.intake, 1e9)
    assert found.silent < 60
    monkeypatch.setattr(time, "time", lambda: 4e9)  # a clock that jumps settles nothing
    assert list_spool(hospital.intake, 60)[0].state is Arrival.SETTLING
    if boot == "another":  # since then the machine was started anew: silent for as long as it runs, at least
        content = json.loads(note.read_text())
        note.write_text(json.dumps({**content, "boot": "another", "at": 1e12}))
        running = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert list_spool(hospital.intake, 0)[0].silent == pytest.approx(running, abs=5)


def test_a_study_put_there_by_hand_begins_its_silence_when_it_is_seen(hospital, films):
    hospital.receive(films[:1])
    (note,) = (hospital.intake / "arrivals").iterdir()
    note.unlink()
    with taking(hospital.intake):
        assert note.exists()
    assert list_spool(hospital.intake, 60)[0].state is Arrival.SETTLING


def test_what_is_no_dicom_is_received_alone_and_kept_out_later(hospital):
    spool = StudySpool(IntakeFolder.create(hospital.intake).root)
    spool.add("1.2.3", b"nonsense")
    spool.add("1.2.4", b"more nonsense")
    assert hospital.status()["spool"]["studies"] == 2


def test_one_receiver_and_one_processor_at_a_time(hospital, capsys):
    folder = IntakeFolder.create(hospital.intake)
    with folder.locked("receiver"):
        assert hospital.status()["listening"]
        assert main(["intake", "listen", str(hospital.intake), "--port", "0"]) == 2
        assert "another process listens" in capsys.readouterr().err
    with folder.locked("processor"):
        assert hospital.status()["processing"]
        assert main(hospital.arguments()) == 0
        assert "another process is at work" in capsys.readouterr().out
        assert main(["intake", "purge", str(hospital.intake), "x"]) == 5


def test_purge_removes_the_images_of_one_batch(hospital, films, capsys):
    hospital.receive()
    hospital.key.unlink()
    assert hospital.process()[0] == 2
    (batch,) = hospital.batches()
    assert main(["intake", "purge", str(hospital.intake), "nothing"]) == 2
    assert f"no such batch; known: {batch.name}" in capsys.readouterr().err
    assert main(["intake", "purge", str(hospital.intake), batch.name]) == 0
    assert not hospital.received()
    assert hospital.process()[0] == 0
    assert hospital.status()["identified_objects"] == 0


@pytest.mark.parametrize("place", ["", "file", "folder"])
def test_a_folder_that_is_no_intake_is_left_alone(tmp_path, capsys, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("x")
    path = tmp_path / (place or "absent")
    if place:
        assert main(["intake", "listen", str(path), "--port", "0"]) == 2
    assert main(["intake", "purge", str(path), "x"]) == 2
    assert str(path) in capsys.readouterr().err
    assert (tmp_path / "folder" / "letter").read_text() == "x"
