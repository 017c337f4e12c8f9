"""What leaves, and what the gate says to it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from medidistill.chained_log import read_chain
from medidistill.cli import main
from medidistill.export import verify
from medidistill.pipeline import read_status
from medidistill.privacy import ProvenanceLog

from ..faults.workplace import note
from ..killing import KillAt, finish


def _privacy(folder: Path) -> dict:
    return json.loads((folder / "bundle" / "recipe.json").read_text())["privacy"]


def _policy(folder: Path, name: str) -> None:
    text = (folder / "run.yaml").read_text()
    assert "policy: default" in text
    (folder / "run.yaml").write_text(text.replace("policy: default", f"policy: {name}"))


def _release(folder: Path, *more: str) -> int:
    return main(["export", "--output", str(folder), "--release", "--quiet", *more])


@contextlib.contextmanager
def mounted(folder: Path):
    """Mount a folder on itself, which lets nobody move or remove it."""
    if subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_every_touch_is_written_down_and_phantoms_are_known_as_such(tiny):
    events = json.loads((tiny.finished / "provenance.json").read_text())["events"]
    kinds = {(event["kind"], event["split"]) for event in events}
    assert {("read", "train"), ("train_experts", "train"), ("select_step", "val"), ("score", "test")} <= kinds
    # the tiny phantoms are DICOM objects that say of themselves that they are synthetic
    assert {event["origin"] for event in events} == {"phantom"}
    assert {event["mechanism"] for event in events} == {"none"}


def test_a_run_without_an_audit_writes_a_bundle_that_says_it_is_not_released(tiny):
    told = _privacy(tiny.finished)
    assert (told["audited"], told["released"], told["terms"]) == (False, False, "controlled sharing only")
    assert "Not released" in (tiny.finished / "bundle" / "README.md").read_text()


def test_a_release_without_an_audit_is_refused_and_the_bundle_stays(finished, capsys):
    before = (finished / "bundle" / "SHA256SUMS").read_bytes()
    assert _release(finished) == 4
    assert "rule audit: no audit was made" in capsys.readouterr().err
    assert (finished / "bundle" / "SHA256SUMS").read_bytes() == before


def test_the_phantom_policy_releases_phantoms_and_nothing_else(finished, capsys):
    _policy(finished, "phantom")
    assert _release(finished) == 0
    told = _privacy(finished)
    assert (told["released"], told["terms"]) == (True, "phantom images")
    assert "no rule about patients was applied" in told["statement"]
    file = finished / "provenance.json"
    ProvenanceLog([dataclasses.replace(one, origin="patients") for one in ProvenanceLog.load(file).events]).save(file)
    assert _release(finished) == 4
    assert "images of patients were used" in capsys.readouterr().err


def test_an_override_is_logged_and_printed_with_its_name(finished, capsys):
    assert main(["export", "--output", str(finished), "--override", "audit", "--quiet"]) == 2
    assert _release(finished, "--override", "audit") == 4
    assert "needs --reason and --by" in capsys.readouterr().err
    assert _release(finished, "--override", "audit", "--reason", "a rehearsal", "--by", "PHANTOM^0001") == 0
    (line,) = (finished / "audit" / "overrides.jsonl").read_text().splitlines()
    assert json.loads(line)["why"] == "a rehearsal (PHANTOM^0001)"
    assert "a rehearsal (PHANTOM^0001)" in (finished / "bundle" / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [("phantm", "did you mean 'phantom'"), ("site.yaml", "unknown key 'linkage_q'")],
)
def test_a_policy_that_is_not_one_is_refused(finished, tmp_path, monkeypatch, capsys, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.yaml").write_text("linkage_q: 0.1\n")
    _policy(finished, name)
    assert _release(finished) == 2
    assert message in capsys.readouterr().err


def _as_patients(folder: Path) -> None:
    """Let the provenance say that the phantoms were patients."""
    file = folder / "provenance.json"
    ProvenanceLog([dataclasses.replace(one, origin="patients") for one in ProvenanceLog.load(file).events]).save(file)


OVERRIDE = ("--override", "audit", "--reason", "a rehearsal", "--by", "PHANTOM^0001")


def test_who_released_what_under_which_policy_is_logged_in_a_chain(finished, capsys):
    log, ledger = finished.parent / "release-log.jsonl", finished.parent / "privacy-ledger.json"
    _as_patients(finished)
    assert _release(finished) == 4
    assert _release(finished, *OVERRIDE) == 0
    assert main(["log", "verify", str(finished.parent)]) == 0
    shown = capsys.readouterr().out
    head = shown.rpartition("head ")[2].strip()
    refused, releasing, released = read_chain(log).entries
    assert (refused["event"], refused["failed_rules"], refused["policy"]) == ("refused", ["audit"], "default")
    assert (releasing["event"], released["event"]) == ("releasing", "released")
    assert released["overridden"] == {"audit": "a rehearsal (PHANTOM^0001)"}
    assert released["user"]
    patients = json.loads((finished / "record.json").read_text())["stages"]["ingest"]["patients"]
    assert released["patients"] == patients["train"] + patients["val"]  # scores on these chose step and training
    assert len(released["policy_digest"]) == 16
    assert released["hash"] == head
    (counted,) = json.loads(ledger.read_text())["releases"]
    assert counted["set"] == released["set"]
    assert (log.stat().st_mode & 0o777, ledger.stat().st_mode & 0o777) == (0o600, 0o600)
    # the same release again is no second one
    assert _release(finished, *OVERRIDE) == 0
    assert len(json.loads(ledger.read_text())["releases"]) == 1
    assert main(["log", "verify", str(log), "--head", head]) == 0
    assert main(["log", "show", str(log)]) == 0
    assert "in spite of audit" in capsys.readouterr().out
    # what was changed or cut shows
    text = log.read_text()
    log.write_text(text.replace("a rehearsal", "no rehearsal", 1))
    assert main(["log", "verify", str(log)]) == 3
    assert "line 2: changed" in capsys.readouterr().out
    log.write_text("".join(text.splitlines(keepends=True)[:2]))
    assert main(["log", "verify", str(log)]) == 0
    assert f"note: line 2: releasing {released['set']}: its end is not in the log" in capsys.readouterr().out
    assert main(["log", "verify", str(log), "--head", head]) == 3
    log.write_text("".join(text.splitlines(keepends=True)[:1]))
    assert main(["log", "verify", str(log)]) == 0
    assert f"counts the set {released['set']}" in capsys.readouterr().out


def test_the_status_tells_of_no_release_once_another_set_is_delivered(finished):
    _policy(finished, "phantom")
    assert _release(finished) == 0
    assert read_status(finished)["released"] is True
    before = json.loads((finished / "bundle" / "recipe.json").read_text())["method"]
    other = next(method for method in ("mtt", "iadd") if method != before)
    command = ["run", "--output", str(finished), "--resume", "--until", "evaluate", "--quiet"]
    assert main([*command, "--set", f"deliver={other}"]) == 0
    assert read_status(finished)["released"] is False
    assert main([*command, "--set", f"deliver={before}"]) == 0
    assert read_status(finished)["released"] is True


def test_a_release_whose_ledger_was_lost_is_counted_again(finished):
    log, ledger = finished.parent / "release-log.jsonl", finished.parent / "privacy-ledger.json"
    _as_patients(finished)
    assert _release(finished, *OVERRIDE) == 0
    (before,) = json.loads(ledger.read_text())["releases"]
    bundle = (finished / "bundle" / "SHA256SUMS").read_bytes()
    ledger.unlink()
    for _ in range(2):  # once
        assert _release(finished, *OVERRIDE) == 0
        (again,) = json.loads(ledger.read_text())["releases"]
        assert {**again, "when": ""} == {**before, "when": ""}
        assert [entry["event"] for entry in read_chain(log).entries] == ["releasing", "released"] * 2
    assert (finished / "bundle" / "SHA256SUMS").read_bytes() == bundle


def test_a_ledger_whose_place_depends_on_the_working_folder_is_refused(finished, capsys):
    _as_patients(finished)
    config = finished / "run.yaml"
    config.write_text(config.read_text().replace("  ledger: ''", "  ledger: site.json"))
    assert "ledger: site.json" in config.read_text()
    assert _release(finished, *OVERRIDE) == 2
    assert "privacy.ledger='site.json': must be an absolute path" in capsys.readouterr().err


def test_a_bundle_that_cannot_be_written_is_in_neither_ledger_nor_log(finished, capsys):
    """The folder that the bundle would take the place of cannot be moved away: a file system is mounted there."""
    _as_patients(finished)
    before = {path.name: path.read_bytes() for path in (finished / "bundle").rglob("*") if path.is_file()}
    with mounted(finished / "bundle"):
        assert _release(finished, *OVERRIDE) == 5
    assert {path.name: path.read_bytes() for path in (finished / "bundle").rglob("*") if path.is_file()} == before
    assert json.loads((finished.parent / "privacy-ledger.json").read_text())["releases"] == []
    events = [entry["event"] for entry in read_chain(finished.parent / "release-log.jsonl").entries]
    assert events == ["releasing", "withdrawn"]
    assert not list(finished.rglob("*.part"))
    assert _release(finished, *OVERRIDE) == 0
    assert len(json.loads((finished.parent / "privacy-ledger.json").read_text())["releases"]) == 1


def test_nothing_is_released_that_cannot_be_logged(finished, capsys):
    _as_patients(finished)
    before = (finished / "bundle" / "SHA256SUMS").read_bytes()
    (finished.parent / "release-log.jsonl").mkdir()
    assert _release(finished, *OVERRIDE) == 5
    assert (finished / "bundle" / "SHA256SUMS").read_bytes() == before
    assert not (finished.parent / "privacy-ledger.json").exists()


def test_a_log_whose_end_was_changed_stops_releases(finished, capsys):
    assert _release(finished) == 4
    log = finished.parent / "release-log.jsonl"
    log.write_text(log.read_text().replace("refused", "passed"))
    assert _release(finished, *OVERRIDE) == 3
    assert "its last line was changed" in capsys.readouterr().err
    assert not _privacy(finished)["released"]


def test_status_says_why_a_release_was_refused_that_was_asked_for_alone(finished):
    _as_patients(finished)
    assert _release(finished) == 4
    status = read_status(finished)
    assert (status["state"], status["exit_code"]) == ("not_released", 4)
    assert status["error"].startswith("the privacy gate refuses the release: rule audit: ")
    assert _release(finished, "--override", "KOWALCZYK", "--reason", "x", "--by", "y") == 4
    assert read_status(finished)["error"] == "the privacy gate refused the release; see ingest/error.txt"


def test_a_run_whose_release_is_refused_has_finished(tiny, tmp_path, capsys):
    """`run` asks for the release itself where its configuration says so; here in a run that kept its other stages."""
    out = tmp_path / "out"
    shutil.copytree(tiny.finished, out)
    _policy(out, "phantom")
    _as_patients(out)
    (out / "report.html").unlink()
    assert main(["run", "--output", str(out), "--resume", "--from", "export", "--quiet"]) == 4
    assert "images of patients were used" in capsys.readouterr().err
    status = read_status(out)
    assert (status["state"], status["exit_code"], status["released"]) == ("not_released", 4, False)
    assert (out / "bundle" / "SHA256SUMS").is_file()  # that for use inside stays
    assert "images of patients were used" in status["error"]
    assert "report" in status["finished"]
    assert (out / "report.html").is_file()
    assert main(["status", str(out)]) == 0
    assert "state      finished, not released" in capsys.readouterr().out


def test_a_refused_set_is_not_told_of_by_the_released_bundle_of_another(finished, capsys):
    _policy(finished, "phantom")
    assert _release(finished) == 0
    assert read_status(finished)["released"] is True
    before = (finished / "bundle" / "SHA256SUMS").read_bytes()
    _as_patients(finished)
    assert main(["run", "--output", str(finished), "--resume", "--set", "deliver=mtt", "--quiet"]) == 4
    assert "images of patients were used" in capsys.readouterr().err
    assert (finished / "bundle" / "SHA256SUMS").read_bytes() == before
    assert json.loads((finished / "bundle" / "recipe.json").read_text())["method"] == "iadd"
    status = read_status(finished)
    assert (status["state"], status["released"], status["verdict"]["method"]) == ("not_released", False, "mtt")
    assert "export" not in json.loads((finished / "record.json").read_text())["stages"]
    page = (finished / "report.html").read_text()
    assert "Not released: no gate was passed" in page
    assert "Released under policy" not in page
    assert "medidistill.load(" not in page  # it would be trained on the set that is not told of
    # the bundle of the very set goes on to speak for it
    assert main(["run", "--output", str(finished), "--resume", "--set", "deliver=iadd", "--quiet"]) == 4
    page = (finished / "report.html").read_text()
    assert "Released under policy" in page
    assert "medidistill.load(" in page


def test_two_releases_at_once_are_counted_one_after_the_other(finished, tiny, tmp_path):
    """Both share a ledger, and neither writes over what the other has counted."""
    second = finished.parent / "second"
    shutil.copytree(tiny.finished, second)
    images = second / "distill" / "iadd" / "distilled.safetensors"
    shutil.copy(second / "distill" / "mtt" / "distilled.safetensors", images)
    children = []
    for folder in (finished, second):
        _as_patients(folder)
        child = os.fork()
        if not child:
            os._exit(_release(folder, *OVERRIDE))
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert len(json.loads((finished.parent / "privacy-ledger.json").read_text())["releases"]) == 2
    chain = read_chain(finished.parent / "release-log.jsonl")
    assert chain.problems == ()
    assert [entry["event"] for entry in chain.entries] == ["releasing", "released"] * 2
    note("two releases at once", {"in all": 1})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1: does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1]], "line 2: does not follow"),
        (lambda lines: lines[1:], "line 1: does not follow"),
        (lambda lines: [lines[0], lines[2]], "line 2: does not follow"),
        (lambda lines: [*lines, lines[2]], "line 4: does not follow"),
        (lambda lines: [lines[0], lines[1].replace("default", "phantom"), lines[2]], "line 2: changed"),
        (lambda lines: [*lines[:2], lines[2][:-9]], "line 3: changed"),
        (lambda lines: lines[:2], "not in the log; it was cut or written anew"),
        (lambda lines: [], "not in the log; it was cut or written anew"),
    ],
)
def test_log_verify_finds_what_was_done_to_a_log_whose_head_was_kept(finished, capsys, change, found):
    _as_patients(finished)
    assert _release(finished) == 4
    assert _release(finished, *OVERRIDE) == 0
    log = finished.parent / "release-log.jsonl"
    head = read_chain(log).head
    log.write_text("".join(f"{line}\n" for line in change(log.read_text().splitlines())))
    capsys.readouterr()
    assert main(["log", "verify", str(log), "--head", head]) == 3
    assert found in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_every_change_of_a_release(tiny, tmp_path):
    """A bundle that says it is released is counted and logged; the same release again is no second one."""
    seen, number = set(), 0
    while True:
        number += 1
        run, count = tmp_path / f"{number}" / "run", tmp_path / f"count-{number}"
        shutil.copytree(tiny.finished, run)
        _as_patients(run)
        ledger, log = run.parent / "privacy-ledger.json", run.parent / "release-log.jsonl"

        def concerns(path: str, place: Path = run.parent) -> bool:
            return path.startswith(str(place)) and not path.endswith(("events.jsonl", "status.json"))

        command = ["export", "--output", str(run), "--release", "--quiet", *OVERRIDE]
        code = finish(command, tmp_path / "log", KillAt(number, concerns, count))
        if code == 0:
            break
        assert code == -signal.SIGKILL, (tmp_path / "log").read_text()
        there = (run / "bundle" / "recipe.json").is_file() and _privacy(run)["released"]
        counted = ledger.is_file() and len(json.loads(ledger.read_text())["releases"])
        logged = [entry["event"] for entry in read_chain(log).entries] if log.is_file() else []
        if there:
            assert verify(run / "bundle") == []
        assert bool(there) <= bool(counted) <= ("releasing" in logged), number
        seen.add((bool(there), bool(counted), *logged))
        assert _release(run, *OVERRIDE) == 0
        assert verify(run / "bundle") == []
        assert _privacy(run)["released"]
        assert len(json.loads(ledger.read_text())["releases"]) == 1, number
        assert not list(run.parent.rglob("*.part")), number
        chain = read_chain(log)
        assert chain.problems == ()
        assert chain.entries[-1]["event"] == "released"
        shutil.rmtree(run.parent)
        note("kill -9 before each change of a release", {"in all": 1})
    assert (False, False) in seen  # before anything was written of it
    assert (False, True, "releasing") in seen  # counted, and not there yet
    assert (True, True, "releasing") in seen  # there, and its end not logged yet
    assert (True, True, "releasing", "released") in seen
