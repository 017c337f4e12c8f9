"""An intake from a real C-STORE sender on loopback to bundles: what goes on, what waits, and what is held up."""

from __future__ import annotations

import copy
import os
import re
import stat
import subprocess
import sys
import time
from collections import Counter

import pytest

pytest.importorskip("pynetdicom")

from medidistill.chained_log import read_chain
from medidistill.cli import main
from medidistill.export import verify
from medidistill.ingest.pacs.study_spool import Arrival, list_spool

from .hospital import CONFIG, free_port, is_listening, sending, wait_for

pytestmark = pytest.mark.usefixtures("processed", "blank_figures")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
