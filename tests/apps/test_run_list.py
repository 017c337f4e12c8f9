"""Which run is shown, what the list says, names and notes, and runs that ended before they began."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from medidistill.config import RunConfig
from medidistill.errors import ConfigError
from medidistill.pipeline import RunFolder


@pytest.fixture
def places(root):
    from view_models.places import Places

    return Places.of()


@pytest.mark.parametrize(
    ("asked", "held", "key", "unknown"),
    [
        ("", "", "new", False),
        ("", "old", "old", False),
        ("old", "new", "old", False),
        ("", "gone", "new", False),
        ("gone", "old", "", True),
    ],
    ids=["newest", "shown before", "address first", "shown before is gone", "address names none that is here"],
)
def test_address_then_session_then_newest(root, asked, held, key, unknown):
    from view_models.run_list import Choice, choose_run

    assert choose_run(["ghost", "new", "old"], asked, held, ["new", "old"]) == Choice(key, unknown)


def test_run_that_never_began_is_shown_only_where_there_is_no_other(root):
    from view_models.run_list import choose_run

    assert choose_run(["ghost"], "", "", []).key == "ghost"


@pytest.fixture
def ghost(places):
    """A run that the app started and that was stopped before it wrote anything."""
    from view_models.runs import _job

    path = places.runs / "ghost"
    (path / "ingest").mkdir(parents=True)  # what a start that was stopped at once leaves
    (path / "ingest" / "source.json").write_text("{}")
    (path / ".lock").touch()
    folder = _job(places, path)
    folder.mkdir(parents=True)
    arguments = ["run", "--config", "demo", "--input", "x", "--output", str(path)]
    (folder / "job.json").write_text(json.dumps({"group": 0, "arguments": arguments, "started": 1.0}))
    (folder / "exit").write_text("143")
    (folder / "run").write_text("ghost")
    return path


def test_ghost_is_last_is_not_the_default_and_can_be_removed(places, ghost, finished):
    from view_models.run_list import list_runs
    from view_models.runs import find_runs, never_began, remove_run

    assert find_runs(places) == [finished, ghost]
    assert [never_began(places, path) for path in (finished, ghost)] == [False, True]
    assert [row.began for row in list_runs(places)] == [True, False]
    remove_run(places, ghost)
    assert find_runs(places) == [finished]
    assert not ghost.exists()


def test_ghost_is_started_again_with_what_it_was_started_with(places, ghost, monkeypatch):
    from view_models import runs

    started = []
    monkeypatch.setattr(runs, "start", lambda folder, arguments, **_: started.append(list(arguments)))
    runs.resume_run(places, ghost)
    assert started == [["run", "--config", "demo", "--input", "x", "--output", str(ghost)]]


def test_ghost_has_its_two_buttons_on_the_page(open_page, ghost):
    test = open_page("distill")
    assert {"resume_run", "remove_run"} <= {one.key for one in test.button}
    assert test.button("resume_run").label == "Start again"
    test.button("remove_run").click().run()
    assert not test.exception
    assert not ghost.exists()


def test_list_says_data_settings_and_date_and_is_searched(places, finished):
    from view_models.run_list import list_runs

    (row,) = list_runs(places)
    assert re.fullmatch(r"phantoms: \d+ images, 3 classes", row.data)
    assert row.settings.startswith("1 images per class at 16 x 16; compared: all real X-rays")
    assert row.date is not None
    assert row.matches("PHANTOMS finished")
    assert not row.matches("phantoms failed")


def test_name_and_note_are_kept_and_shown(places, finished, open_page, text_of):
    from view_models.places import short_id
    from view_models.run_labels import read_label, write_label

    write_label(places, short_id("first"), "  Zürich,\nfirst look ", "More patients next time.")
    assert read_label(places, short_id("first")).title == "Zürich, first look"
    shown = text_of(open_page("runs"))
    assert "Zürich, first look" in shown
    assert "More patients next time." in shown
    test = open_page("compare")
    assert test.selectbox("run_key").options == ["Zürich, first look"]


def test_a_label_is_of_the_run_it_was_given_to(places, finished, open_page, text_of):
    from medidistill.record import RunRecord
    from view_models.places import short_id
    from view_models.run_labels import read_label, write_label

    key = short_id("first")
    write_label(places, key, "Before it began", "")  # as New run gives it
    assert read_label(places, key, finished).title == "Before it began"
    record = RunRecord.load(finished / "record.json")
    record.config["deliver"] = "mtt"  # the same run, gone on with
    record.save(finished / "record.json")
    assert read_label(places, key, finished).title == "Before it began"
    record.started = "2020-01-01T00:00:00+00:00"  # another run in the same folder
    record.save(finished / "record.json")
    assert "Before it began" not in text_of(open_page("runs"))
    write_label(places, key, "The second", "", finished)
    assert read_label(places, key, finished).title == "The second"


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"title": 3}'])
def test_damaged_label_is_no_label(places, finished, text):
    from view_models.places import short_id
    from view_models.run_labels import read_label

    places.labels.mkdir(parents=True)
    (places.labels / f"{short_id('first')}.json").write_text(text)
    assert read_label(places, short_id("first")).note == ""


def test_two_runs_side_by_side(places, finished, open_page, root):
    from view_models.run_list import compared_runs, list_runs, settings_table
    from view_models.runs import read_run

    shutil.copytree(finished, root / "second")
    rules = root / "second" / "run.yaml"
    rules.write_text(rules.read_text().replace("seed: 3", "seed: 4"))
    runs = {name: read_run(places, root / name) for name in ("first", "second")}
    assert set(compared_runs(runs)["run"]) == {"first", "second"}
    assert settings_table(runs).to_dict("records") == [{"setting": "seed", "first": "3", "second": "4"}]
    test = open_page("runs")
    test.multiselect("side_by_side").set_value([row.key for row in list_runs(places)]).run()
    assert not test.exception
    assert len(test.dataframe) == 2


def test_removed_run_takes_its_files_and_leaves_foreign_ones(places, finished):
    from view_models.runs import find_runs, remove_run

    (finished / "mine.txt").write_text("keep me")
    remove_run(places, finished)
    assert [one.name for one in finished.iterdir()] == ["mine.txt"]
    assert find_runs(places) == []


def test_run_outside_of_the_folder_of_runs_is_not_removed(places, tmp_path):
    from view_models.runs import remove_run

    RunFolder.create(tmp_path / "elsewhere", RunConfig(name="x"))
    with pytest.raises(ConfigError, match="outside"):
        remove_run(places, tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "run.yaml").is_file()


def test_unknown_run_in_the_address_is_said_and_nothing_else_is_shown(open_page, finished, text_of):
    test = open_page("compare")
    test.query_params["run"] = "0123456789ab"
    test.run()
    assert "names a run that is not here" in test.error[0].value
    assert "Can I train" not in text_of(test)


def test_chosen_run_stays_when_another_one_becomes_the_newest(open_page, finished, root, text_of):
    from view_models.places import short_id

    test = open_page("compare")
    assert test.query_params["run"] == short_id("first")
    RunFolder.create(root / "newer", RunConfig(name="newer"))
    test.run()
    assert test.selectbox("run_key").value == short_id("first")
    for page in ("export", "privacy", "runs", "home", "receive", "compare"):
        test.switch_page(f"app_pages/{page}.py").run()
        assert not test.exception
        assert test.selectbox("run_key").value == short_id("first"), page


@pytest.mark.parametrize(
    ("page", "button", "state"),
    [("compare", "explain", {"view": "looks"}), ("privacy", "start_audit", {}), ("export", "release", {})],
)
def test_action_shows_the_run_that_it_is_about(page, button, state, open_page, finished, root, monkeypatch):
    from view_models import runs
    from view_models.places import short_id

    monkeypatch.setattr(runs, "start", lambda folder, arguments, **_: folder.mkdir(parents=True, exist_ok=True))
    rules = finished / "run.yaml"
    rules.write_text(rules.read_text().replace("policy: default", "policy: phantom"))
    test = open_page(page, **state)
    RunFolder.create(root / "newer", RunConfig(name="newer"))
    test.button(button).click().run()
    assert not test.exception
    assert test.selectbox("run_key").value == short_id("first")
    assert test.query_params["run"] == short_id("first")


def test_kept_uploads_and_bundles_are_listed_and_deleted(places, open_page):
    from view_models.kept_files import delete_kept, list_kept

    for parent in (places.uploads, places.received):
        (parent / "one").mkdir(parents=True)
        (parent / "one" / "file").write_bytes(b"12345")
    assert {(one.kind, one.files, one.size) for one in list_kept(places)} == {("upload", 1, 5), ("bundle", 1, 5)}
    delete_kept(places, places.uploads / "one")
    assert [one.kind for one in list_kept(places)] == ["bundle"]
    for wrong in (places.uploads, places.runs, places.uploads / ".." / "x", places.received / "one" / "file"):
        with pytest.raises(ConfigError, match="neither"):
            delete_kept(places, wrong)
    open_page("runs")


@pytest.mark.parametrize(("since", "theirs"), [(-5, True), (5, False)], ids=["of the job", "after the job"])
def test_error_of_an_earlier_job_is_not_that_of_a_later_failure(since, theirs, places, finished):
    import datetime
    import os
    import time

    from view_models.runs import _job, run_state

    now = int(time.time())
    folder = _job(places, finished)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"arguments": ["run"], "started": now - 10.5}))
    (folder / "exit").write_text("3")
    os.utime(folder / "exit", (now, now))
    (folder / "log.txt").write_text("medidistill: error: what the job said\n")
    status = json.loads((finished / "status.json").read_text())
    began = datetime.datetime.fromtimestamp(now + since, datetime.UTC).isoformat(timespec="seconds")
    status |= {"state": "failed", "error": "what the run said", "exit_code": 3, "command": "run", "started": began}
    (finished / "status.json").write_text(json.dumps(status))
    state = run_state(places, finished)
    assert state.error == ("what the job said" if theirs else "what the run said")
    assert bool(state.lines) is theirs
