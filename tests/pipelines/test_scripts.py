"""What the scripts for cron make of their variables: the commands that they call, written down instead of run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REQUIRED = {
    "nightly/nightly.sh": {"MEDIDISTILL_INBOX": "/the inbox", "MEDIDISTILL_RUNS": "/runs"},
    "pacs/intake.sh": {"MEDIDISTILL_INTAKE": "/intake", "MEDIDISTILL_KEY": "/key", "MEDIDISTILL_LABELS": "/labels"},
}
PROCESS = "intake process /intake --key-file /key --labels /labels"


@pytest.fixture
def called(root: Path, tmp_path: Path):
    """Return a function that runs a script and gives its exit code, what it complained of, and what it called."""
    command, calls = tmp_path / "command", tmp_path / "calls"
    command.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexit ${{CODE:-0}}\n')
    command.chmod(0o700)

    def run(script: str, variables: dict[str, str], *more: str) -> tuple[int, str, list[str]]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("MEDIDISTILL")}
        environment = own | {"MEDIDISTILL": str(command), **variables}
        line = [root / "pipelines" / script, *more]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.mark.parametrize(
    ("script", "variables", "calls"),
    [
        ("nightly/nightly.sh", {}, ["nightly --inbox /the inbox --runs /runs --config standard --quiet"]),
        (
            "nightly/nightly.sh",
            {"MEDIDISTILL_CONFIG": "site.yaml"},
            ["nightly --inbox /the inbox --runs /runs --config site.yaml --quiet"],
        ),
        (
            "pacs/intake.sh",
            {},
            ["intake listen /intake --quiet --idle 600", f"{PROCESS} --config standard --quiet"],
        ),
        (
            "pacs/intake.sh",
            {
                "MEDIDISTILL_CONFIG": "site.yaml",
                "MEDIDISTILL_RECEIVE": "--count 3 --port 104",
                "MEDIDISTILL_PROCESS": "--settle 0",
            },
            ["intake listen /intake --quiet --count 3 --port 104", f"{PROCESS} --config site.yaml --quiet --settle 0"],
        ),
    ],
)
def test_variables_reach_the_commands_and_have_their_defaults(called, script, variables, calls):
    assert called(script, REQUIRED[script] | variables) == (0, "", calls)


def test_options_of_a_night_are_handed_on(called):
    _, _, (call,) = called("nightly/nightly.sh", REQUIRED["nightly/nightly.sh"], "--retry")
    assert call.endswith("--quiet --retry")


@pytest.mark.parametrize("script", REQUIRED)
def test_the_code_of_the_command_is_that_of_the_script_and_nothing_follows_a_failure(called, script):
    code, _, calls = called(script, REQUIRED[script] | {"CODE": "5"})
    assert (code, len(calls)) == (5, 1)


@pytest.mark.parametrize(("script", "name"), [(script, name) for script in REQUIRED for name in REQUIRED[script]])
def test_a_variable_that_is_missing_is_named_before_anything_is_called(called, script, name):
    code, complaint, calls = called(script, {one: value for one, value in REQUIRED[script].items() if one != name})
    assert code != 0
    assert name in complaint
    assert calls == []
