"""What the nightly script decides, with a stand-in for the command; the command itself: `test_as_an_operator.py`."""

from __future__ import annotations

import os
import subprocess

import pytest

STAND_IN = """\
#!/bin/sh
# notes its arguments, makes the run folder, ends as the test wants
printf '%s\\n' "$*" >> "$CALLS"
out=$(printf '%s ' "$@" | sed -n 's/.*--output \\([^ ]*\\).*/\\1/p')
case $1 in
  run) mkdir -p "$out"; touch "$out/run.yaml"; exit "${CODE:-0}" ;;
  support) touch "$out" ;;
esac
"""


@pytest.fixture
def night(root, tmp_path):
    """Return a function that runs one night; it returns exit code, what was called, and what was said."""
    command, calls = tmp_path / "medidistill", tmp_path / "calls"
    command.write_text(STAND_IN)
    command.chmod(0o755)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "a.dcm").write_bytes(b"a")

    def run(code=0):
        calls.write_text("")
        environment = {
            "PATH": os.environ["PATH"],
            "MEDIDISTILL": str(command),
            "MEDIDISTILL_INBOX": str(tmp_path / "inbox"),
            "MEDIDISTILL_RUNS": str(tmp_path / "runs"),
            "MEDIDISTILL_CONFIG": "quick",
            "CALLS": str(calls),
            "CODE": str(code),
        }
        script = root / "pipelines" / "nightly" / "nightly.sh"
        done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
        return done.returncode, calls.read_text().splitlines(), done.stdout + done.stderr

    return run


def _runs(tmp_path):
    return sorted(path for path in (tmp_path / "runs").iterdir() if path.is_dir())


def test_a_good_night_cleans_and_the_next_without_new_files_does_nothing(night, tmp_path):
    code, calls, _ = night()
    (run,) = _runs(tmp_path)
    assert code == 0
    assert calls == [f"run --config quick --input {tmp_path}/inbox --output {run} --quiet", f"clean {run}"]
    assert night() == (0, [], "no new files in the inbox; nothing to do\n")
    run.rename(run.with_name("2026-01-01T220000"))  # a night has passed
    (tmp_path / "inbox" / "b.dcm").write_bytes(b"b")
    code, calls, _ = night()
    assert code == 0
    assert calls[0].startswith("run --config quick")
    assert len(_runs(tmp_path)) == 2


@pytest.mark.parametrize("code", [130, 143])
def test_a_stopped_night_is_continued(night, tmp_path, code):
    assert night(code)[0] == code
    (run,) = _runs(tmp_path)
    found, calls, _ = night()
    assert (found, calls[0]) == (0, f"run --output {run} --resume --quiet")
    assert _runs(tmp_path) == [run]


@pytest.mark.parametrize("code", [1, 2, 3, 5, 6, 7, 137])
def test_a_failed_night_leaves_a_support_package_and_its_code(night, tmp_path, code):
    found, calls, _ = night(code)
    (run,) = _runs(tmp_path)
    assert found == code
    assert calls[1:] == [f"support {run} --output {run}.support.zip"]
    assert not (run / "nightly.done").exists()
    # and the next night tries it again
    assert night()[1][0] == f"run --output {run} --resume --quiet"


def test_two_nights_at_once_are_one(night, tmp_path):
    (tmp_path / "runs").mkdir()
    with open(tmp_path / "runs" / ".nightly.lock", "w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        code, calls, said = night()
    assert (code, calls) == (0, [])
    assert "still at work" in said
