"""What leaves, and what the gate says to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from medidistill.cli import main
from medidistill.privacy import Manifest


def _privacy(folder: Path) -> dict:
    return json.loads((folder / "bundle" / "recipe.json").read_text())["privacy"]


def _policy(folder: Path, name: str) -> None:
    text = (folder / "run.yaml").read_text()
    assert "policy: default" in text
    (folder / "run.yaml").write_text(text.replace("policy: default", f"policy: {name}"))


def _release(folder: Path, *more: str) -> int:
    return main(["export", "--output", str(folder), "--release", "--quiet", *more])


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
    assert (told["released"], told["terms"]) == (True, "phantom images of nobody")
    assert "no rule about patients was applied" in told["statement"]
    file = finished / "provenance.json"
    Manifest([dataclasses.replace(one, origin="patients") for one in Manifest.load(file).events]).save(file)
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
