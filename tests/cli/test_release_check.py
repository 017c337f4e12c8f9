"""What the number of images can never show is said before the work, and ends a run that is to be released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medidistill.cli import main

from .conftest import Tiny

RELEASE = ("--set", "privacy.audit=quick")
STAGES = ("experts", "distill", "evaluate", "audit", "bundle")


def test_a_dry_run_names_the_rules_and_writes_nothing(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny.arguments(tmp_path / "out", *RELEASE, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "the gate would refuse this set whatever the audit finds" in said
    assert "rule linkage: 3 released images cannot give a p value below 0.01; needs" in said
    assert "rule lira: " in said
    assert not (tmp_path / "out").exists()
    # without a release nobody asks; what could never pass is said all the same
    assert main(tiny.arguments(tmp_path / "out", "--dry-run")) == 0
    assert "rule linkage" in capsys.readouterr().out


def test_a_run_that_could_not_be_released_ends_after_ingest_and_goes_on_when_told_to(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(tiny.arguments(out, *RELEASE, "--quiet")) == 4
    said = capsys.readouterr().err
    assert "would refuse this release whatever the audit finds: rule linkage: 3 released images" in said
    assert "--no-release-check" in said
    assert list(json.loads((out / "record.json").read_text())["stages"]) == ["ingest"]
    assert not [name for name in STAGES if (out / name).exists()]
    kept = json.loads((out / "release-check.json").read_text())
    assert kept["wanted"] is True
    assert {"linkage", "lira", "rmia", "membership_release", "copies"} == {one["rule"] for one in kept["unresolvable"]}

    assert main(["status", str(out)]) == 0
    assert "rule linkage: 3 released images" in capsys.readouterr().out
    assert main(["status", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["release_check"] == kept

    assert main(["run", "--output", str(out), "--resume", "--quiet"]) == 4
    go_on = ["run", "--output", str(out), "--resume", "--no-release-check", "--until", "experts", "--quiet"]
    assert main(go_on) == 0
    assert (out / "experts").is_dir()
    # the choice is kept with the run
    assert main(["run", "--output", str(out), "--resume", "--until", "experts", "--quiet"]) == 0


def test_ingest_says_it_without_ending_in_an_error(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ingest", "--input", str(tiny.phantoms), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--config", str(tiny.config), *RELEASE]) == 0
    assert "rule linkage: 3 released images" in capsys.readouterr().err
    assert (tmp_path / "out" / "release-check.json").is_file()


def test_images_of_people_end_a_run_under_the_phantom_policy(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--input", str(pictures), "--output", str(tmp_path / "out"), "--quiet"]
    settings = ["--set", "privacy.policy=phantom", "--set", "ingest.image_size=16"]
    assert main([*arguments, *settings]) == 4
    assert "rule phantom: not all input files are DICOM objects marked Synthetic Data = YES" in capsys.readouterr().err
    assert not (tmp_path / "out" / "experts").exists()


def test_an_estimate_of_the_audit_begins_with_what_it_cannot_decide(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", str(finished), "--estimate", "--workers", "1", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "release check (policy default, audit quick): the gate would refuse this set whatever the audit finds"
    )
    assert lines[-1].startswith("profile quick: 16 shadow runs, about")
