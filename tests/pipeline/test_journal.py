"""What a run says about itself: readable at any moment, and free of what only the hospital may know."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from medidistill.config import IngestConfig, RunConfig
from medidistill.errors import (
    ConfigError,
    DivergedError,
    IngestError,
    PrivacyGateError,
    QuarantineError,
    ResourceError,
    StoppedError,
)
from medidistill.ingest import ingest
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.runfolder.redaction import public_message
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runfolder.status import describe, duration, read_status
from medidistill.record import RunRecord

SECRET = "PHANTOM^ANNA"


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path / "out", RunConfig())
    made.ingest.mkdir()
    return made


@pytest.fixture
def clock(monkeypatch):
    """Time that the test moves."""
    now = [1000.0]
    monkeypatch.setattr("medidistill.pipeline.runfolder.journal.time.monotonic", lambda: now[0])
    return now


def _begun(folder):
    journal = Journal(folder, "run", ("ingest", "experts", "evaluate"))
    journal.begin(("ingest",))
    return journal


def _events(folder):
    return [json.loads(line) for line in folder.events_file.read_text().splitlines()]


def test_status_follows_the_work_and_its_pace(folder, clock):
    journal = _begun(folder)
    with folder.locked():
        journal.stage_started("experts")
        for step in range(1, 11):
            clock[0] += 2.0
            journal.at(step, 40, "epoch", loss=0.5)
        status = read_status(folder.path)
        assert (status["state"], status["stage"], status["step"], status["total"]) == ("running", "experts", 10, 40)
        assert status["eta_seconds"] == pytest.approx(60.0)
        assert status["figures"] == {"loss": 0.5}
        assert status["pid"] == os.getpid()
        shown = describe(status, folder.path)
        assert "10 of 40 epochs" in shown
        assert "about 1 min in this stage" in shown
        assert "experts (2 of 3)" in shown
        journal.stage_finished("experts")
        assert read_status(folder.path)["finished"] == ["ingest", "experts"]
        journal.end(None)
    ended = read_status(folder.path)
    assert (ended["state"], ended["exit_code"], ended["error"], ended["eta_seconds"]) == ("completed", 0, "", None)
    names = [event["event"] for event in _events(folder)]
    assert names == ["run_started", "stage_started", "step", "step", "stage_finished", "run_completed"]


def test_time_left_counts_from_where_this_process_began_and_over_all_pieces(folder, clock):
    journal = _begun(folder)
    journal.stage_started("evaluate")
    # resumed at 80 of 100: the first 80 took this process no time
    for step in (80, 81, 82):
        journal.at(step, 100, "network", piece="full convnet", done=0.5 * step / 100)
        clock[0] += 1.0
    assert journal.status["eta_seconds"] == pytest.approx((1 - 0.41) / 0.005, rel=1e-3)
    # the next piece starts at 0 of its own count, not of the stage
    journal.at(0, 10, "network", piece="random convnet", done=0.5)
    assert journal.status["eta_seconds"] is not None


def test_a_process_that_died_is_reported_and_not_believed(folder):
    _begun(folder)
    status = read_status(folder.path)
    assert status["state"] == "failed"
    assert "terminated unexpectedly" in status["error"]
    assert f"medidistill run --output {folder.path} --resume" in describe(status, folder.path)
    with folder.locked():
        assert read_status(folder.path)["state"] == "running"


def test_reading_the_status_keeps_no_run_out(folder):
    assert not folder.at_work()
    with folder.locked():
        assert folder.at_work()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "state": "", "stage": "", "finished": []}']
)
def test_a_damaged_or_newer_status_is_refused_by_name(folder, text):
    folder.status_file.write_text(text)
    with pytest.raises(IngestError, match=r"status\.json"):
        read_status(folder.path)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (StoppedError("stopped by SIGTERM", 15), "stopped", 143),
        (DivergedError("distill mtt: nonfinite"), "failed", 7),
        (IngestError("x"), "failed", 3),
        (RuntimeError("x"), "failed", 1),
    ],
)
def test_the_end_has_a_state_and_the_exit_code(folder, error, state, code):
    journal = _begun(folder)
    journal.stage_started("experts")
    journal.end(error)
    status = read_status(folder.path)
    assert (status["state"], status["exit_code"]) == (state, code)
    assert _events(folder)[-1]["event"] == f"run_{state}"


@pytest.mark.parametrize(
    ("finished", "state"),
    [
        ((), "failed"),  # refused before anything was made: more images can never be drawn from this input
        (("ingest", "experts"), "failed"),
        (("ingest", "experts", "evaluate"), "not_released"),
        (("ingest", "experts", "evaluate", "report"), "not_released"),
        (("ingest", "experts", "evaluate", "export", "report"), "not_released"),  # a bundle for use inside is there
    ],
)
def test_a_refused_release_of_a_finished_run_is_no_failure(folder, finished, state):
    journal = Journal(folder, "run", ("ingest", "experts", "evaluate", "export", "report"))
    journal.begin(finished)
    journal.stage_started("export")
    for stage in finished:
        journal.stage_finished(stage, kept=True)
    journal.end(PrivacyGateError("the privacy gate refuses the release: rule audit: no audit was made"), released=False)
    status = read_status(folder.path)
    assert (status["state"], status["exit_code"], status["released"]) == (state, 4, False)
    shown = describe(status, folder.path)
    if state == "not_released":
        assert "state      finished, not released\n" in shown
        assert "why        the privacy gate refuses the release: rule audit: no audit was made\n" in shown
        assert f"medidistill export --output {folder.path} --release --override RULE" in shown
        assert "--resume" not in shown
    assert _events(folder)[-1]["event"] == f"run_{state}"


@pytest.mark.parametrize(
    ("error", "stage"),
    [
        (IngestError(f"/data/{SECRET}/1.dcm: unreadable"), "ingest"),
        (IngestError(f"label {SECRET!r} is not one of the classes"), "ingest"),
        (QuarantineError(f"12 files, first {SECRET}.dcm: constant image"), "ingest"),
        (ConfigError(f"--input {SECRET}: this run was started with other"), "ingest"),
        (ConfigError(f"--input {SECRET}"), ""),
        (ResourceError(f"cannot write /data/{SECRET} x/1: the disk is full"), "experts"),
        (IngestError(f"/data/{SECRET} b/1.dcm: unreadable"), "experts"),
        (RuntimeError(f"{SECRET} has no pixels"), "evaluate"),
        (KeyError(SECRET), "experts"),
        (OSError(28, "No space left on device", f"/data/{SECRET}/cache"), "ingest"),
        (IngestError("one file is listed twice", private=[f"{SECRET}.dcm"]), "ingest"),
        (IngestError("one file is listed twice", private=[f"{SECRET}.dcm"]), "evaluate"),
        # a test set from elsewhere is read after others have finished
        (IngestError(f"label {SECRET!r} is not one of the classes"), "distill/iadd"),
        (QuarantineError(f"12 files, first {SECRET}.dcm: constant image"), "evaluate"),
        # names within an archive, and a file of an input that was given as `.`
        (ResourceError(f"cannot write OUT/ingest/unpacked/archive/{SECRET.replace('^', '_')}.dcm: full"), "ingest"),
        (ResourceError(f"cannot write OUT/ingest/external/unpacked/{SECRET.replace('^', '_')}.dcm: full"), "evaluate"),
        (OSError(13, "Permission denied", f"{SECRET}.dcm"), "ingest"),
    ],
)
def test_no_message_repeats_what_the_input_says(folder, error, stage):
    if "OUT/" in str(error):
        error = type(error)(str(error).replace("OUT/", f"{folder.path}/"))
    journal = _begun(folder)
    journal.stage_started(stage)
    journal.end(error)
    for file in (folder.status_file, folder.events_file):
        assert "ANNA" not in file.read_text()
        assert "PHANTOM" not in file.read_text()
    assert read_status(folder.path)["error"]


def test_a_withheld_message_is_kept_where_patient_data_belong(folder):
    journal = _begun(folder)
    journal.stage_started("ingest")
    journal.end(IngestError(f"{SECRET}.dcm: unreadable"))
    details = folder.ingest / "error.txt"
    assert "see ingest/error.txt" in read_status(folder.path)["error"]
    assert SECRET in details.read_text()
    assert details.stat().st_mode & 0o077 == 0


def test_what_is_raised_while_images_are_read_is_withheld_in_every_stage(folder, tmp_path):
    source = tmp_path / "in"
    for patient in ("PHANTOM_ANNA", "PHANTOM_KARL"):
        (source / patient).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 255, (20, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(source / patient / f"{number}.png")
    # classes that are nearly the folders: the message names the folder and asks whether the class was meant
    with pytest.raises(IngestError, match="label 'PHANTOM_ANNA'") as caught:
        ingest(source, IngestConfig(image_size=16, classes=("PHANTOM_ANN", "b")), whole=True)
    other = ConfigError(f"a setting does not fit the label {SECRET}")
    other.__cause__ = caught.value
    for one in (caught.value, other):
        journal = _begun(folder)
        journal.stage_started("distill/iadd")
        journal.end(one)
        for file in (folder.status_file, folder.events_file):
            assert "ANN" not in file.read_text()
        assert "see ingest/error.txt" in read_status(folder.path)["error"]
        assert str(one) in (folder.ingest / "error.txt").read_text()


def test_class_names_are_taken_out_of_what_later_stages_say(folder):
    record = RunRecord()
    record.stage("ingest", images={"train": {"PHANTOM_ANNA": 2, "O'NEIL": 7, "0": 3}})
    record.save(folder.record_file)
    text = "distill.ipc=10: class 'PHANTOM_ANNA' has only 2 training images, '0' 10, \"O'NEIL\" 7; use distill.ipc <= 2"
    shown = public_message(ConfigError(text), "experts", folder.path)
    assert shown == (
        "distill.ipc=10: class '(withheld)' has only 2 training images, '(withheld)' 10, \"(withheld)\" 7; "
        "use distill.ipc <= 2; see ingest/error.txt"
    )
    journal = _begun(folder)
    journal.stage_started("experts")
    journal.end(ConfigError(text))
    assert text in (folder.ingest / "error.txt").read_text()


def test_messages_about_the_run_itself_are_kept(folder):
    text = f"{folder.path}/experts/expert-0003.safetensors: damaged; delete it and run again with --resume"
    shown = public_message(IngestError(text), "distill/iadd", folder.path)
    assert shown == "OUTPUT/experts/expert-0003.safetensors: damaged; delete it and run again with --resume"
    error = DivergedError("expert 3: loss nan in epoch 2; lower experts.lr (now 0.1)")
    assert public_message(error, "experts", folder.path) == str(error)
    assert public_message(MemoryError(), "distill/iadd", folder.path).startswith("out of memory; lower")


def test_a_journal_that_cannot_write_does_not_stop_the_work(folder):
    journal = _begun(folder)
    folder.status_file.unlink()
    folder.status_file.mkdir()
    folder.events_file.unlink()
    folder.events_file.mkdir()
    journal.stage_started("experts")
    journal.at(1, 2, "epoch", loss=float("nan"))
    journal.end(None)


def test_figures_that_are_no_numbers_become_null(folder):
    journal = _begun(folder)
    journal.stage_started("experts")
    journal.at(2, 2, "epoch", loss=float("nan"))
    assert _events(folder)[-1]["loss"] is None
    journal.end(None)
    json.loads(folder.status_file.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (7500, "2 h 5 min"), (90000, "1 d 1 h")]
)
def test_durations_are_said_in_two_units(seconds, text):
    assert duration(seconds) == text
