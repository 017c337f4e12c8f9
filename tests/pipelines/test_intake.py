"""An intake from a real C-STORE sender on loopback to bundles, killed at every point on the way."""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("pynetdicom")

from pynetdicom import AE
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation

from medidistill.chained_log import read_chain
from medidistill.cli import main
from medidistill.config import PhantomConfig
from medidistill.export import verify
from medidistill.ingest import generate_phantom
from medidistill.ingest.pacs.receive import Receiver
from medidistill.ingest.pacs.study_spool import Arrival, StudySpool, list_spool, taking
from medidistill.pipeline.unattended.intake_folder import IntakeFolder
from medidistill.pipeline.unattended.intake_status import read_intake_status

from ..faults.workplace import note
from ..killing import KillAt, finish, reach, start, wait

CONFIG = """\
name: an intake
seed: 5
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 2, batch_size: 8}
distill:
  {ipc: 1, outer_steps: 4, inner_steps: 2, expert_epochs: 1, max_start: 1, validate_every: 2, checkpoint_every: 2}
evaluate: {arms: [mtt], networks: 2, full_epochs: 1, bootstrap: 100, small: {steps: 2}}
"""


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Phantoms of 15 patients, one study each, in three classes."""
    folder = tmp_path_factory.mktemp("films")
    generate_phantom(folder, PhantomConfig(patients_per_class=5, images_per_patient=2, size=64), progress=False)
    found = {path.relative_to(folder).as_posix(): pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))}
    with open(folder / "labels.csv", newline="") as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file)}
    return [(film, labels[name]) for name, film in found.items()]


class Hospital:
    """The folder of an intake, its key, labels and configuration, and a PACS that sends."""

    def __init__(self, root: Path, films) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.intake, self.films, self.log = root, root / "intake", films, root / "log"
        self.key, self.labels, self.config = root / "site.key", root / "labels.csv", root / "site.yaml"
        self.key.write_text("0123456789abcdef" * 4)
        self.key.chmod(0o600)
        self.config.write_text(CONFIG)
        self.label(films)

    def label(self, films) -> None:
        """Write the table of labels."""
        rows = [f"{film.SOPInstanceUID},{label}" for film, label in films]
        self.labels.write_text("\n".join(["sop_instance_uid,label", *rows]) + "\n")

    def listening(self, port: int = 0) -> Receiver:
        """Return a receiver in this process."""
        return Receiver(StudySpool(IntakeFolder.create(self.intake).root), port=port)

    def receive(self, films=None) -> None:
        """Send films to a receiver that ends afterwards."""
        with self.listening() as receiver, sending(receiver.port) as link:
            for film, _ in self.films if films is None else films:
                assert link.send_c_store(film).Status == 0

    def arguments(self, *more: str) -> list[str]:
        """Return the command that processes what was received."""
        begin = ["intake", "process", str(self.intake), "--key-file", str(self.key), "--labels", str(self.labels)]
        return [*begin, "--config", str(self.config), "--settle", "0", "--quiet", *more]

    def process(self, *more: str) -> tuple[int, str]:
        """Process in a child; return its exit code and what it said."""
        self.log.write_text("")
        return finish(self.arguments(*more), self.log), self.log.read_text()

    def status(self) -> dict:
        """Return how the intake stands."""
        return dataclasses.asdict(read_intake_status(self.intake))

    def batches(self) -> list[Path]:
        """Return the folders of batches."""
        return sorted(path.parent for path in (self.intake / "batches").glob("*/batch.json"))

    def received(self) -> Counter:
        """Return how often each object is anywhere among the identified images."""
        paths = [*self.intake.glob("spool/*/*.dcm"), *self.intake.glob("batches/*/identified/*/*.dcm")]
        return Counter(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths)


@contextlib.contextmanager
def sending(port: int):
    """Open an association of a PACS."""
    entity = AE(ae_title="PACS")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation)
    link = entity.associate("127.0.0.1", port, ae_title="MEDIDISTILL")
    assert link.is_established
    try:
        yield link
    finally:
        if link.is_established:
            link.release()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def hospital(tmp_path, films):
    return Hospital(tmp_path / "hospital", films)


@pytest.fixture(scope="module", autouse=True)
def processed(tmp_path_factory, films):
    """An intake that was processed in this process: children then find every module loaded."""
    warm = Hospital(tmp_path_factory.mktemp("warm") / "hospital", films)
    warm.receive()
    before = os.umask(0)
    try:
        assert main(warm.arguments()) == 0
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    return warm


@pytest.fixture
def delivered(hospital, processed):
    """An intake with one batch that was delivered, for a test to change."""
    shutil.copytree(processed.intake, hospital.intake)
    return hospital


def studies(films) -> set[str]:
    return {film.StudyInstanceUID for film, _ in films}


def test_from_the_association_to_the_bundle(hospital, films, capsys):
    hospital.receive()
    status = hospital.status()
    assert (status["spool"]["studies"], status["spool"]["objects"]) == (len(studies(films)), len(films))
    assert status["listening"] is False
    deliver = hospital.root / "out"
    assert hospital.process("--deliver", str(deliver), "--unreleased")[0] == 0
    status = hospital.status()
    (batch,) = status["batches"]
    assert (batch["state"], batch["objects"], batch["images"], batch["labelled"]) == ("delivered", *[len(films)] * 3)
    assert status["spool"]["objects"] == 0
    assert verify(deliver / batch["name"]) == []
    # the runs of all batches share one ledger and one log, and it says what went where
    events = [(one["event"], one["released"]) for one in read_chain(hospital.intake / "release-log.jsonl").entries]
    assert events == [("delivering", False), ("delivered", False)]
    text = (hospital.batches()[0] / "run" / "run.yaml").read_text()
    assert f"ledger: {hospital.intake / 'privacy-ledger.json'}" in text
    # patients' pixels are gone from the run, and no name of a patient is in it or in what was delivered
    assert not (hospital.batches()[0] / "run" / "ingest").exists()
    names = {str(film.PatientName).encode() for film, _ in films} | {str(film.PatientID).encode() for film, _ in films}
    for place in (hospital.batches()[0] / "run", deliver):
        for path in place.rglob("*"):
            assert not path.is_file() or not [name for name in names if name in path.read_bytes()], path
    capsys.readouterr()
    assert main(["status", str(hospital.intake)]) == 0
    shown = capsys.readouterr().out
    assert f"batch      {batch['name']}: delivered; {len(studies(films))} studies" in shown
    assert main(["status", str(hospital.intake), "--json"]) == 0
    assert not [name for name in names if name in capsys.readouterr().out.encode()]


def test_everything_in_an_intake_is_closed_to_others(processed):
    """It was processed under the umask 000."""
    bundle = processed.batches()[0] / "run" / "bundle"
    found = [path for path in (processed.intake, *processed.intake.rglob("*")) if not path.is_relative_to(bundle)]
    assert len(found) > 30
    assert not [path for path in found if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert {stat.S_IMODE(path.stat().st_mode) for path in bundle.rglob("*") if path.is_file()} == {0o644}


def test_a_study_that_is_still_arriving_is_not_started_on(hospital, films):
    """First its association is open, then it has not been silent for long enough, then it has settled."""
    (first, _), *rest = films
    others = [one for one in rest if one[0].StudyInstanceUID != first.StudyInstanceUID]
    with hospital.listening() as receiver:
        with sending(receiver.port) as link:
            assert link.send_c_store(first).Status == 0
            with sending(receiver.port) as other:
                for film, _ in others:
                    assert other.send_c_store(film).Status == 0
            wait_for(lambda: hospital.status()["spool"]["arriving"] == 1)
            assert [one.state for one in list_spool(hospital.intake, 0)].count(Arrival.ARRIVING) == 1
            hospital.key.unlink()  # a batch is held up before its run, which would take seconds
            assert hospital.process()[0] == 2
            assert hospital.status()["spool"]["studies"] == 1  # the others were taken
        wait_for(lambda: hospital.status()["spool"]["arriving"] == 0)
        assert [one.state for one in list_spool(hospital.intake, 60)] == [Arrival.SETTLING]
        assert hospital.process("--settle", "60")[0] == 2
        assert hospital.status()["spool"]["studies"] == 1
        assert len(hospital.batches()) == 1
        (one,) = list_spool(hospital.intake, 0)
        assert one.state is Arrival.SETTLED


def wait_for(true, seconds=20.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_an_object_that_comes_after_its_study_was_taken_is_in_the_next_batch(hospital, films):
    late = films[-1]
    hospital.key.unlink()  # batches are held up before their runs
    hospital.receive(films[:-1])
    assert hospital.process()[0] == 2
    hospital.receive([late])
    assert hospital.status()["spool"]["objects"] == 1
    assert hospital.process()[0] == 2
    assert [one["objects"] for one in hospital.status()["batches"]] == [len(films) - 1, 1]
    assert hospital.received() == Counter(str(film.SOPInstanceUID) for film, _ in films)


def test_studies_wait_for_their_labels_and_for_enough_others(hospital, films):
    hospital.receive()
    hospital.key.unlink()  # the batch is held up before its run
    hospital.label(films[:4])
    assert hospital.process("--min-studies", "12")[0] == 0
    assert hospital.batches() == []
    hospital.label(films)
    assert hospital.process("--min-studies", "12")[0] == 2
    assert hospital.status()["batches"][0]["studies"] == len(studies(films))


def test_labels_by_accession_number(hospital, films):
    rows = {(str(film.AccessionNumber), label) for film, label in films}
    assert all(number for number, _ in rows)
    hospital.labels.write_text("\n".join(["accession_number,label", *(f"{a},{b}" for a, b in sorted(rows))]) + "\n")
    hospital.receive()
    hospital.config.write_text(CONFIG + "memory_check: true\ndevice: cuda\n")  # held up before its run
    assert hospital.process()[0] == 2
    (batch,) = hospital.status()["batches"]
    assert (batch["state"], batch["labelled"]) == ("de-identified", len(films))
    # the numbers themselves are nowhere beside the images
    notes = [path.read_text() for path in hospital.intake.glob("batches/*/batch.json")]
    assert not [number for number, _ in rows for note in notes if number in note]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda h: h.labels.write_text("path,label\na,b\n"), 3, "names no image by sop_instance_uid"),
        (lambda h: h.labels.unlink(), 3, "labels.csv"),
        (lambda h: h.config.write_text(""), 2, "is empty"),
    ],
)
def test_what_is_wrong_with_a_table_or_setting_moves_nothing(hospital, films, change, code, message):
    hospital.receive()
    change(hospital)
    found, said = hospital.process()
    assert found == code
    assert message in said
    assert hospital.batches() == []
    assert hospital.status()["spool"]["objects"] == len(films)


def test_a_batch_that_is_held_up_keeps_no_other_from_going_on(hospital, films):
    """A batch of too few films is held up for good and not tried every hour; the next one goes through."""
    hospital.receive(films[:2])
    code, said = hospital.process()
    assert code == 3
    assert "held up after de-identified (exit code 3)" in said
    (held,) = hospital.status()["batches"]
    assert (held["state"], hospital.status()["held_up"]) == ("de-identified", 1)
    events = hospital.batches()[0] / "run" / "events.jsonl"
    before = events.read_bytes()
    hospital.receive(films[2:])
    code, said = hospital.process()
    assert (code, events.read_bytes()) == (3, before)
    assert [one["state"] for one in hospital.status()["batches"]] == ["de-identified", "delivered"]
    assert hospital.process("--retry")[0] == 3
    assert events.read_bytes() != before


def test_a_key_that_was_away_is_found_again(hospital):
    hospital.receive()
    hospital.config.write_text(CONFIG + "device: cuda\n")  # ends before its run
    hospital.key.rename(hospital.root / "lost")
    assert hospital.process()[0] == 2
    assert hospital.status()["batches"][0]["state"] == "settled"
    (hospital.root / "lost").rename(hospital.key)
    assert hospital.process()[0] == 2
    assert hospital.status()["batches"][0]["state"] == "de-identified"


def test_an_unreleased_bundle_is_delivered_on_demand_alone(hospital):
    hospital.receive()
    deliver = hospital.root / "out"
    code, said = hospital.process("--deliver", str(deliver))
    assert code == 4
    assert "finished, not released" in said
    assert not deliver.exists()
    (batch,) = hospital.status()["batches"]
    assert (batch["state"], batch["released"]) == ("run", False)
    assert hospital.process("--deliver", str(deliver), "--unreleased")[0] == 0
    assert [path.name for path in deliver.iterdir()] == [batch["name"]]


def unmarked(film):
    """Return a film without its mark as synthetic."""
    changed = copy.deepcopy(film)
    del changed.SyntheticData
    return changed


def test_a_refused_release_waits_for_a_decision(hospital):
    """Then somebody overrides the rule, and the next call delivers."""
    hospital.config.write_text(CONFIG + "privacy: {policy: phantom, release_check: false}\n")
    # films that do not say of themselves that they are phantoms: the policy for phantoms refuses them
    hospital.receive([(unmarked(film), label) for film, label in hospital.films])
    deliver = hospital.root / "out"
    code, said = hospital.process("--deliver", str(deliver))
    assert code == 4
    assert "images of patients were used" in said
    run = hospital.batches()[0] / "run"
    rule = re.search(r"rule (\w+): ", said)[1]
    override = ["--override", rule, "--reason", "a rehearsal", "--by", "PHANTOM^0001"]
    assert main(["export", "--output", str(run), "--release", *override, "--quiet"]) == 0
    assert hospital.process("--deliver", str(deliver))[0] == 0
    assert hospital.status()["batches"][0]["released"] is True
    assert verify(deliver / run.parent.name) == []
    entries = read_chain(hospital.intake / "release-log.jsonl")
    assert entries.problems == ()
    assert [one["event"] for one in entries.entries][-3:] == ["released", "delivering", "delivered"]


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


def is_listening(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_the_script_receives_until_it_is_quiet_and_processes(root, hospital, films):
    port = free_port()
    environment = {
        **os.environ,
        "MEDIDISTILL": f"{sys.executable} -m medidistill",
        "MEDIDISTILL_INTAKE": str(hospital.intake),
        "MEDIDISTILL_KEY": str(hospital.key),
        "MEDIDISTILL_LABELS": str(hospital.labels),
        "MEDIDISTILL_CONFIG": str(hospital.config),
        "MEDIDISTILL_RECEIVE": f"--count {len(films)} --port {port}",
        "MEDIDISTILL_PROCESS": "--settle 0",
    }
    script = root / "pipelines" / "pacs" / "intake.sh"
    process = subprocess.Popen([script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not is_listening(port):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.2)
    with sending(port) as link:
        assert {link.send_c_store(film).Status for film, _ in films} == {0}
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert [one["state"] for one in hospital.status()["batches"]] == ["delivered"]
