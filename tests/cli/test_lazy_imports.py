"""What must answer at once loads nothing heavy: `--help` of every command, `status`, usage errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from medidistill.cli.parser import make_parser
from medidistill.config import RunConfig
from medidistill.pipeline import RunFolder
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.unattended.intake_folder import IntakeFolder

HEAVY = ["torch", "numpy", "pandas", "scipy", "monai", "pydicom", "pynetdicom", "PIL", "matplotlib", "sklearn", "tqdm"]
HEAVY += ["cattrs", "pydantic", "streamlit", "safetensors", "highdicom", "torchvision", "multiprocessing.forkserver"]
COMMANDS = list(make_parser()._subparsers._group_actions[0].choices)

PROGRAM = """\
import contextlib, io, json, sys
from medidistill.cli import main
calls, heavy = json.loads(sys.argv[1])
loaded = {}
for call in calls:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(call)
        except SystemExit as end:
            code = end.code
    loaded[" ".join(call)] = [code, sorted(set(heavy) & set(sys.modules))]
print(json.dumps(loaded))
"""


def loaded_by(calls, heavy=HEAVY):
    """Return call -> (exit code, which of `heavy` are loaded after it), of one new process for all calls."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([calls, list(heavy)])], capture_output=True, text=True, check=True
    )
    return {call: (code, packages) for call, (code, packages) in json.loads(done.stdout).items()}


def test_help_of_every_command_loads_nothing_heavy():
    calls = [[], ["--help"], ["--version"], ["nonsense"], *([command, "--help"] for command in COMMANDS)]
    for call, (code, packages) in loaded_by(calls).items():
        assert packages == [], call
        assert code == (0 if call and call != "nonsense" else 2), call
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("state", ["completed", "running", "nothing"])
def test_status_of_a_run_loads_nothing_heavy(tmp_path, state):
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    if state != "nothing":
        journal = Journal(folder, "run", ("ingest", "export"))
        journal.begin(())
        if state == "completed":
            journal.end(None)
    calls = [["status", str(folder.path)], ["status", str(folder.path), "--json"]]
    assert all(one == (0, []) for one in loaded_by(calls).values())


def test_status_of_an_intake_loads_nothing_heavy(tmp_path):
    folder = IntakeFolder.create(tmp_path / "intake")
    (folder.root / "spool" / "study").mkdir(parents=True)
    (folder.root / "spool" / "study" / "object.dcm").write_bytes(b"x")
    calls = [["status", str(folder.root)], ["status", str(folder.root), "--json"]]
    assert all(one == (0, []) for one in loaded_by(calls).values())


# torch loads its compiler with torchvision or for a sum of `meta` tensors: seconds that a short stage would wait for
LATER = ["pandas", "scipy", "monai", "pydicom", "matplotlib", "sklearn", "torchvision", "torch._dynamo", "highdicom"]


def test_a_stage_loads_what_it_computes_with_and_no_more(tmp_path):
    folder = RunFolder.create(tmp_path / "run", RunConfig())
    calls = [[stage, "--output", str(folder.path)] for stage in ("experts", "distill", "evaluate", "export")]
    for call, (code, packages) in loaded_by(calls, LATER).items():
        assert (code, packages) == (2, []), call


def test_the_memory_check_does_not_load_the_compiler():
    program = (
        "import sys\n"
        "from medidistill.config import RunConfig\n"
        "from medidistill.pipeline.planning.memory import distill_need, experts_need\n"
        "assert experts_need(RunConfig(), 0, 2).bytes and distill_need(RunConfig(), 'mtt', 0, 2).bytes\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_wrong_path_is_named_as_it_was_written_and_loads_nothing_heavy(tmp_path, capsys):
    from medidistill.cli import main

    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    calls = [["status", str(tmp_path / name)] for name in ("absent", "file", "folder")]
    assert all(one == (2, []) for one in loaded_by(calls).values())
    for name, text in (("absent", "no such folder"), ("file", "is a file"), ("folder", "holds no medidistill run")):
        for command in ("status", "clean", "audit"):
            assert main([command, str(tmp_path / name)]) == 2
            assert f"error: {tmp_path / name}: {text}" in capsys.readouterr().err
        assert main(["report", "--output", str(tmp_path / name)]) == 2
        assert f"error: --output {tmp_path / name}: {text}" in capsys.readouterr().err
