"""Settings that name what is not there, and folders in one another: refused before anything is read or written."""

from __future__ import annotations

import shutil

import pytest

from medidistill.cli import main
from medidistill.pipeline.runfolder.status import read_status

WRONG = [
    ("evaluate.external=/nowhere", "evaluate.external='/nowhere': no such folder"),
    ("evaluate.bundles=[/nowhere]", "evaluate.bundles: '/nowhere': no such folder"),
    ("privacy.policy=nope", "privacy.policy='nope': nope: no such file; ready-made: default, phantom"),
    ("privacy.ledger=site.json", "privacy.ledger='site.json': must be an absolute path"),
    ("evaluate.clinical.reference=ful", "evaluate.clinical.reference='ful': is not compared; must be one of full"),
    (
        "evaluate.saliency={cases: 1, arms: [full, bptt]}",
        "evaluate.saliency.arms='bptt': is not compared; must be one of full",
    ),
    ("evaluate.saliency={cases: 1, arms: [full]}", "must be two arms or more"),
]


@pytest.mark.parametrize(("setting", "words"), WRONG)
def test_what_a_setting_names_is_looked_for_first(tiny, tmp_path, setting, words, capsys):
    out = tmp_path / "out"
    capsys.readouterr()
    commands = [
        ["config", "check", str(tiny.config)],
        tiny.arguments(out),
        tiny.arguments(out, "--dry-run"),
        ["ingest", "--config", str(tiny.config), "--input", str(tiny.phantoms), "--output", str(out)],
    ]
    for command in commands:
        assert main([*command, "--set", setting, "--quiet"]) == 2
        assert words in capsys.readouterr().err
    assert not out.exists()


def test_pictures_that_nobody_asks_for_may_name_anything(tiny, capsys):
    assert main(["config", "check", str(tiny.config), "--set", "evaluate.saliency.arms=[bptt]"]) == 0


def test_a_class_that_is_named_twice_is_refused(tiny, capsys):
    assert main(["config", "check", str(tiny.config), "--set", "ingest.classes=[sick, well, sick]"]) == 2
    assert "'sick' is named twice; name each class once" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run"], ["run", "--dry-run"], ["ingest"]])
@pytest.mark.parametrize(("source", "output"), [("xrays", "xrays/run"), ("xrays/run/in", "xrays/run"), ("a", "a")])
def test_a_run_folder_among_the_films_is_refused(tiny, tmp_path, command, source, output, capsys):
    (tmp_path / source).mkdir(parents=True)
    named = ["--config", str(tiny.config), "--input", str(tmp_path / source), "--output", str(tmp_path / output)]
    before = sorted(tmp_path.rglob("*"))
    assert main([*command, *named, "--quiet"]) == 2
    assert "--input" in (told := capsys.readouterr().err)
    assert "--output must not lie in one another" in told
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("inbox", "runs"), [("inbox", "inbox/runs"), ("runs/inbox", "runs")])
def test_nights_among_the_films_are_refused(tmp_path, inbox, runs, capsys):
    (tmp_path / inbox).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert main(["nightly", "--inbox", str(tmp_path / inbox), "--runs", str(tmp_path / runs), "--config", "quick"]) == 2
    assert "--inbox" in (told := capsys.readouterr().err)
    assert "--runs must not lie in one another" in told
    assert [path for path in sorted(tmp_path.rglob("*")) if "nightly" not in str(path) and path.suffix == ""] == before


def test_a_release_that_cannot_be_asked_for_leaves_the_run_finished(finished, capsys):
    """As with a ledger by a relative path, which an earlier version let pass; it may be mended then."""
    config = finished / "run.yaml"
    config.write_text(config.read_text().replace("  ledger: ''", "  ledger: site.json"))
    before = read_status(finished)
    assert before["state"] == "completed"
    assert main(["export", "--output", str(finished), "--release", "--quiet"]) == 2
    assert f"--resume --set privacy.ledger={'/'}" in capsys.readouterr().err
    after = read_status(finished)
    assert (after["state"], after["error"], after["exit_code"]) == ("completed", "", 0)
    assert after["finished"] == after["stages"]
    assert '"event": "command_failed"' in (finished / "events.jsonl").read_text()
    ledger = finished.parent / "site.json"
    again = ["run", "--output", str(finished), "--resume", "--set", f"privacy.ledger={ledger}", "--quiet"]
    assert main(again) == 0
    assert f"ledger: {ledger}" in config.read_text()
    # one that releases may be counted in stays
    again[-2] = "privacy.ledger=/elsewhere.json"
    assert main(again) == 2
    assert "privacy.ledger" in capsys.readouterr().err


def test_an_external_test_set_that_was_read_is_needed_no_more(finished, tiny, tmp_path, capsys):
    shutil.copytree(tiny.phantoms, tmp_path / "east")
    config = finished / "run.yaml"
    config.write_text(config.read_text().replace("  external: ''", f"  external: {tmp_path / 'east'}"))
    (kept := finished / "ingest" / "external" / "images.safetensors").parent.mkdir()
    shutil.rmtree(tmp_path / "east")
    resume = ["run", "--output", str(finished), "--resume", "--until", "experts", "--quiet"]
    assert main(resume) == 2
    assert "no such folder" in capsys.readouterr().err
    kept.touch()
    assert main(resume) == 0
