"""Nights on an inbox whose files come and go: every one of them is read, whatever stops a night."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medidistill.cli import main
from medidistill.pipeline.unattended.nightly_notes import list_inbox

from ..faults.workplace import note
from ..killing import KeepManifests, KillAt, finish, reach, start, wait
from ..support.undrawn import undrawn

pytestmark = pytest.mark.usefixtures("blank_figures")

STAGES = ("ingest", "experts", "distill/mtt", "evaluate", "export", "report")
CONFIG = """\
name: a night
seed: 5
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 2, epochs: 3, batch_size: 8}
distill:
  {ipc: 1, outer_steps: 6, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 3, checkpoint_every: 2}
evaluate:
  {arms: [mtt], num_networks: 2, full_epochs: 1, bootstrap: 100,
   small_set_training: {steps: 2}, adaptive: {steps: 2}}
"""
NOTHING = "no new files in the inbox; nothing to do\n"


class Site:
    """An inbox, the folder of runs, and what was read from the one into the other."""

    def __init__(self, root: Path) -> None:
        self.inbox, self.runs, self.config = root / "inbox", root / "runs", root / "site.yaml"
        self.log, self.manifests = root / "log", KeepManifests(root / "read.jsonl")
        self.config.write_text(CONFIG)
        self.inbox.mkdir()
        self._rows: dict[str, str] = {}
        self._drawn = 0
        for split, patients in (("train", 4), ("val", 2), ("test", 2)):
            for patient in range(patients):
                for label in ("sick", "well"):
                    self.add(label, f"{label}{split}{patient}", split)

    def add(self, label: str = "sick", patient: str = "late", split: str = "train") -> str:
        """Put a film into the inbox, and into its table of labels; return its name."""
        self._drawn += 1
        name = f"film-{self._drawn:03d}.png"
        pixels = np.random.default_rng(self._drawn).integers(0, 255, (20, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(self.inbox / name)
        self._rows[name] = f"{name},{label},{patient},{split}"
        self._label()
        return name

    def remove(self, name: str) -> None:
        """Take a film out of the inbox, and out of the table."""
        (self.inbox / name).unlink()
        del self._rows[name]
        self._label()

    def _label(self) -> None:
        part = self.inbox.parent / "labels.part"
        part.write_text("\n".join(["path,label,patient_id,split", *self._rows.values()]) + "\n")
        part.replace(self.inbox / "labels.csv")

    def arguments(self, *more: str) -> list[str]:
        """Return the command of a night."""
        places = ["--inbox", str(self.inbox), "--runs", str(self.runs), "--config", str(self.config), "--quiet"]
        return ["nightly", *places, *more]

    def night(self, *more: str) -> tuple[int, str]:
        """Have a night in a child; return its exit code and what it said."""
        self.log.write_text("")
        code = finish(self.arguments(*more), self.log, self.manifests)
        return code, self.log.read_text()

    def nights_until_nothing_is_new(self) -> int:
        """Have undisturbed nights until one has nothing to do; return their number without that one."""
        for number in range(6):
            code, said = self.night()
            assert code == 0, said
            if said == NOTHING:
                return number
        raise AssertionError("there is always something new")

    def folders(self) -> list[Path]:
        """Return the run folders by name."""
        return sorted(path for path in self.runs.iterdir() if (path / "run.yaml").is_file())

    def notes(self) -> dict[str, dict]:
        """Return the notes by the name of their run."""
        return {path.stem: json.loads(path.read_text()) for path in sorted((self.runs / ".nightly").glob("*.json"))}

    def read(self) -> set[str]:
        """Return the films that runs have read which were finished."""
        last = self.manifests.last()
        done = [name for name, note in self.notes().items() if note["progress"] == "closed"]
        return set().union(*(last.get(name, set()) for name in done))

    def films(self) -> set[str]:
        """Return the films that are in the inbox."""
        return {path.name for path in self.inbox.glob("*.png")}


@pytest.fixture(scope="module", autouse=True)
def loaded(tmp_path_factory):
    """Have one night in this process: children then find every module loaded."""
    site = Site(tmp_path_factory.mktemp("warm"))
    with undrawn():
        assert main(site.arguments()) == 0


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_night_reads_all_cleans_and_the_next_without_new_files_does_nothing(site):
    code, said = site.night()
    (run,) = site.folders()
    assert (code, said) == (0, f"finished: {run}\n")
    assert site.read() == site.films()
    assert (run / "bundle" / "SHA256SUMS").is_file()
    assert not (run / "ingest").exists()
    assert site.night() == (0, NOTHING)
    site.add()
    assert site.nights_until_nothing_is_new() == 1
    assert len(site.folders()) == 2
    assert site.read() == site.films()
    # a film that goes is a change as well: the next set is made without it
    site.remove("film-001.png")
    assert site.nights_until_nothing_is_new() == 1


def stopped_at(site: Site, stage: str, number: int) -> None:
    """Have a night that a signal ends in `stage`, while one film arrives and another goes."""
    child = start(site.arguments(), site.log, site.manifests)

    def begun() -> bool:
        events = [path.read_text() for path in site.runs.glob("20*/events.jsonl")]
        return any(re.search(rf'"stage_started".*"{stage}"', text) for text in events)

    assert reach(child, begun), site.log.read_text()
    os.kill(child, signal.SIGSTOP)
    site.add()
    site.remove(min(site.films()))
    os.kill(child, number)
    os.kill(child, signal.SIGCONT)
    assert wait(child) in (-number, 128 + number)


@pytest.mark.parametrize(
    "stage", ["experts", *(pytest.param(one, marks=pytest.mark.slow) for one in STAGES if one != "experts")]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_a_night_that_is_stopped_while_films_come_and_go_loses_none(site, stage, number):
    before = site.films()
    stopped_at(site, stage, number)
    nights = site.nights_until_nothing_is_new()
    assert nights <= 3
    assert site.read() >= site.films()
    if stage != "ingest":  # what went had been read by then
        assert site.read() >= before
    note(f"{signal.Signals(number).name} of a night while films come and go", {stage: 1, "in all": 1})
    # the run that was stopped was continued, not begun anew
    assert site.notes()[min(site.notes())]["progress"] == "closed"


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_killed_at_every_change_of_its_notes_and_of_its_cleaning(tmp_path):
    """And each time a film arrives before the next night; in the end all were read, and no patient's pixel is left."""
    number = 0
    while True:
        number += 1
        folder = tmp_path / f"{number}"
        folder.mkdir()
        site = Site(folder)
        count = tmp_path / f"count-{number}"

        def concerns(path: str, site: Site = site) -> bool:
            if not path.startswith(str(site.runs)) or path.endswith(("events.jsonl", "status.json")):
                return False
            # what stages write is the business of tests/faults
            return not any(f"/{name}" in path for name in ("experts", "distill", "evaluate", "bundle", "report.html"))

        code = finish(site.arguments(), site.log, site.manifests, KillAt(number, concerns, count))
        if code == 0:
            break
        assert code == -signal.SIGKILL, site.log.read_text()
        site.add()
        assert site.nights_until_nothing_is_new() <= 3, number
        assert site.read() >= site.films(), number
        assert not list(site.runs.glob("*/ingest/*.safetensors")), number
        note("kill -9 before each change of a night", {"in all": 1})
    assert number > 20


@pytest.mark.slow
def test_a_clock_that_was_set_back_changes_no_order(site):
    assert site.nights_until_nothing_is_new() == 1
    (run,) = site.folders()
    file = site.runs / ".nightly" / f"{run.name}.json"
    later = "2999-01-01T000000"
    file.write_text(file.read_text().replace(run.name, later))
    file.rename(file.with_name(f"{later}.json"))
    run.rename(run.with_name(later))
    assert site.night() == (0, NOTHING)
    site.add()
    assert site.nights_until_nothing_is_new() == 1
    assert site.read() == site.films()
    note("clock set back an hour", {"night": 1, "in all": 1})


def test_a_night_that_fails_leaves_a_support_package_and_is_tried_again(site):
    site.remove("film-001.png")
    labels = (site.inbox / "labels.csv").read_text()
    (site.inbox / "labels.csv").write_text("a,b\n1,2\n")
    for _ in range(2):
        code, said = site.night()
        assert code == 3
        assert len(said.splitlines()) == 1
        (run,) = site.folders()
        assert [path.name for path in site.runs.glob("*.zip")] == [f"{run.name}.support.zip"]
    (site.inbox / "labels.csv").write_text(labels)
    assert site.nights_until_nothing_is_new() == 1
    assert site.folders() == [run]
    assert site.read() == site.films()


def test_another_inbox_begins_anew_where_nothing_was_read_and_is_refused_where_it_was(site, tmp_path):
    (wrong := tmp_path / "wrong").mkdir()
    (elsewhere := ["--inbox", str(wrong)])
    code, _ = site.night(*elsewhere)
    assert code == 3
    (first,) = site.folders()
    code, said = site.night("--set", "distill.lr_alpha=100", "--set", "distill.max_rollbacks=0")
    assert code == 7, said
    second = next(run for run in site.folders() if run != first)
    assert site.notes()[first.name]["progress"] == "abandoned"
    note = site.runs / ".nightly" / f"{second.name}.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "exit_code": 143}))  # as if it had been stopped
    code, said = site.night(*elsewhere)
    assert code == 2
    assert f"--inbox {wrong}: the run of an earlier night, {second}, is not finished and reads another inbox" in said
    assert "or another --runs" in said
    assert "--output" not in said


def test_a_run_that_cannot_be_finished_gives_way_to_new_films(site):
    """It diverges, and would do so every night; new films are read by a new run all the same."""
    site.config.write_text(CONFIG.replace("{ipc: 1,", "{ipc: 1, lr_alpha: 100, max_rollbacks: 0,"))
    code, said = site.night()
    assert code == 7, said
    (first,) = site.folders()
    before = (first / "record.json").read_bytes()
    code, said = site.night()
    assert (code, "would fail again" in said) == (7, True)
    assert (first / "record.json").read_bytes() == before
    site.add()
    assert site.night()[0] == 7
    assert len(site.folders()) == 2
    assert site.notes()[first.name]["progress"] == "abandoned"
    assert not (first / "ingest").exists()
    # and so does another configuration
    site.config.write_text(CONFIG)
    assert site.nights_until_nothing_is_new() == 1
    assert site.read() == site.films()


def test_a_run_that_could_not_be_released_gives_way_to_new_films(site):
    """Too few patients for the audit: it ends once its images are read, and what has been read is known."""
    site.config.write_text(CONFIG + "privacy: {audit: quick}\n")
    code, said = site.night()
    assert (code, "whatever the audit finds" in said) == (4, True)
    (first,) = site.folders()
    note = site.notes()[first.name]
    assert (note["progress"], note["exit_code"], bool(note["read"])) == ("read", 4, True)
    code, said = site.night()
    assert (code, "would fail again" in said) == (4, True)
    assert site.folders() == [first]
    late = site.add()
    assert site.night()[0] == 4
    assert len(site.folders()) == 2
    assert site.notes()[first.name]["progress"] == "abandoned"
    assert not (first / "ingest").exists()
    assert late in site.manifests.last()[site.folders()[-1].name]
    # one that was left as an earlier version left it, or was killed before its note, is not stuck either
    (last,) = (site.runs / ".nightly").glob(f"{site.folders()[-1].name}.json")
    last.write_text(json.dumps(json.loads(last.read_text()) | {"progress": "reading", "read": "", "ingested": ""}))
    late = site.add()
    assert [site.night()[0] for _ in range(2)] == [4, 4]
    assert late in site.manifests.last()[site.folders()[-1].name]
    # and with settings that ask for no release all films are read to the end
    site.config.write_text(CONFIG)
    assert site.nights_until_nothing_is_new() == 1
    assert site.read() == site.films()


def test_a_refused_release_is_a_finished_night(site):
    site.config.write_text(CONFIG + "privacy: {policy: phantom, release_check: false}\n")
    code, said = site.night()
    assert code == 4
    assert "images of patients were used" in said
    assert not list(site.runs.glob("*.zip"))
    (run,) = site.folders()
    assert (run / "ingest" / "train.safetensors").is_file()  # somebody has yet to decide
    assert site.night() == (0, NOTHING)
    assert main(["status", str(run)]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda site: site.config.write_text("distill: {ipc: 0}\n"), "site.yaml: distill.ipc=0: must be in"),
        (lambda site: site.config.write_text(""), "site.yaml: is empty"),
        (lambda site: site.inbox.rename(site.inbox.with_name("gone")), "--inbox"),
    ],
)
def test_what_is_wrong_before_a_run_begins_is_one_line(site, capfd, change, message):
    change(site)
    assert main(site.arguments()) in (2, 3)
    shown = capfd.readouterr().err
    assert message in shown
    assert len(shown.splitlines()) == 1
    assert not site.runs.exists() or not list(site.runs.glob("20*"))


def test_two_nights_at_once_are_one(site):
    (site.runs / ".nightly").mkdir(parents=True)
    with open(site.runs / ".nightly" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = site.night()
    assert (code, said) == (0, "the run of the night before is still at work\n")
    assert site.folders() == []


def test_a_damaged_note_is_named(site):
    (site.inbox / "labels.csv").write_text("a,b\n1,2\n")  # ends the first night early
    assert site.night()[0] == 3
    (note,) = (site.runs / ".nightly").glob("*.json")
    note.write_text("{")
    code, said = site.night()
    assert code == 3
    assert str(note) in said


def test_the_listing_sees_names_that_are_no_text_and_what_cannot_be_read(tmp_path):
    before = list_inbox(tmp_path)
    os.close(os.open(os.fsencode(tmp_path) + b"/name-\xff.dcm", os.O_CREAT))
    (tmp_path / "to-nowhere").symlink_to("nowhere")
    assert len(list_inbox(tmp_path)) == len(before) + 2


@pytest.mark.slow
def test_the_script_hands_its_variables_to_the_command(root, site):
    environment = {
        **os.environ,
        "MEDIDISTILL": f"{sys.executable} -m medidistill",
        "MEDIDISTILL_INBOX": str(site.inbox),
        "MEDIDISTILL_RUNS": str(site.runs),
        "MEDIDISTILL_CONFIG": str(site.config),
    }
    site.config.write_text("distill: {ipc: 0}\n")
    script = root / "pipelines" / "nightly" / "nightly.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{site.config}: distill.ipc=0" in done.stderr
    del environment["MEDIDISTILL_INBOX"]
    assert subprocess.run([script], env=environment, capture_output=True, check=False).returncode != 0


def test_no_name_of_a_film_is_said(site):
    """What cron would mail, when most films cannot be read."""
    for name in sorted(site.films())[:10]:
        (site.inbox / name).write_bytes(b"no picture")
    code, said = site.night()
    assert code == 6
    assert "film-0" not in said
    (run,) = site.folders()
    assert f"see {site.runs / '.nightly' / 'error.txt'}" in said
    assert "film-001.png" in (site.runs / ".nightly" / "error.txt").read_text()
    assert "film-001.png" in (run / "ingest" / "error.txt").read_text()
