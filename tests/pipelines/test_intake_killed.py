"""An intake that is killed at every point on the way, and goes on: each object is there once, whatever was reached."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections import Counter

import pytest

pytest.importorskip("pynetdicom")

from medidistill.chained_log import read_chain
from medidistill.export import verify
from medidistill.ingest.pacs.study_spool import Arrival, list_spool, taking
from medidistill.pipeline.unattended.intake_folder import IntakeFolder

from ..faults.workplace import note
from ..killing import KillAt, finish, reach, start, wait
from .hospital import Hospital, free_port, is_listening, sending

pytestmark = pytest.mark.usefixtures("processed", "blank_figures")


def in_intake(hospital):
    """Return whether a changed path is of the state machine itself, and not inside a run or a de-identification."""
    root = str(hospital.intake)

    def concerns(path: str) -> bool:
        inside = ("/run/", "/clean.part/", "/clean/")
        return path.startswith((root, str(hospital.root / "out"))) and not any(part in path for part in inside)

    return concerns


# a fast one and two that take a run; all of them are slow
KILLS = [9, *(pytest.param(one, marks=pytest.mark.slow) for one in (7, 14, 21))]  # 9: while studies are moved


def killed_and_continued(films, root, number):
    """Kill the processing before its change of this number, and go on; return whether it was killed at all."""
    hospital = Hospital(root, films)
    hospital.receive()
    more = ["--deliver", str(root / "out"), "--unreleased", "--keep-identified", "0"]
    code = finish(hospital.arguments(*more), hospital.log, KillAt(number, in_intake(hospital), root / "count"))
    if code == 0:
        return False
    assert code == -signal.SIGKILL, hospital.log.read_text()
    # whatever was reached, each object is somewhere exactly once, unless its batch was delivered and purged
    if not any(one["delivered"] for one in hospital.status()["batches"]):
        assert hospital.received() == Counter(str(film.SOPInstanceUID) for film, _ in films)
    code, said = hospital.process(*more)
    assert code == 0, (number, said)
    status = hospital.status()
    assert [one["state"] for one in status["batches"]] == ["delivered"], number
    assert status["batches"][0]["labelled"] == len(films), number
    assert status["identified_objects"] == 0, number
    (bundle,) = (root / "out").iterdir()
    assert verify(bundle) == []
    assert not [path for path in root.rglob("*.part") if path.name != "clean.part"], number
    chain = read_chain(hospital.intake / "release-log.jsonl")
    assert chain.problems == ()
    assert chain.entries[-1]["event"] in ("delivered", "delivering")
    shutil.rmtree(root)
    return True


@pytest.mark.parametrize("number", KILLS)
def test_killed_and_continued(films, tmp_path, number):
    assert killed_and_continued(films, tmp_path / "hospital", number)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_every_point_of_processing(films, tmp_path):
    number = 1
    while killed_and_continued(films, tmp_path / f"{number}", number):
        number += 1
        note("kill -9 before each change of an intake's processing", {"in all": 1})
    assert number > 20


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_every_point_of_receiving(films, tmp_path):
    """The sender hears of success for what is there and sends the rest again; in the end each object is there once."""
    few, number = films[:4], 0
    while True:
        number += 1
        hospital = Hospital(tmp_path / f"{number}", films)
        listen = ["intake", "listen", str(hospital.intake), "--quiet", "--count", str(len(few))]
        done: list[str] = []
        for hooks in ([KillAt(number, in_intake(hospital), tmp_path / f"count-{number}")], []):
            port = free_port()
            child = start([*listen, "--port", str(port)], hospital.log, *hooks)
            missing = [film for film, _ in few if film.SOPInstanceUID not in done]
            if reach(child, lambda port=port: is_listening(port)):
                with contextlib.suppress(AssertionError, RuntimeError, ValueError), sending(port) as link:
                    # the second receiver is sent all of it
                    send(link, missing if hooks else [film for film, _ in few], done)
            code = wait(child)
            if hooks and code == 0:
                assert number > 10
                return
            assert code == (-signal.SIGKILL if hooks else 0), hospital.log.read_text()
            if hooks:
                there = hospital.received()
                assert set(done) <= set(there), number
        assert hospital.received() == Counter(str(film.SOPInstanceUID) for film, _ in few), number
        with taking(hospital.intake):
            IntakeFolder.open(hospital.intake).sweep()
        assert not list(hospital.intake.rglob("*.part")), number
        assert {one.state for one in list_spool(hospital.intake, 0)} == {Arrival.SETTLED}, number
        note("kill -9 before each change of a receiver", {"in all": 1})


def send(link, films, done: list[str]) -> None:
    """Send films and note those that were acknowledged, also where the line breaks."""
    done.extend(film.SOPInstanceUID for film in films if link.send_c_store(film).get("Status") == 0)
