"""Child processes: where they come from, what they inherit, and how they end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import psutil
import pytest

from medidistill.child_processes import begin_child, child_context
from medidistill.cli import _holds_files, main

REPOSITORY = Path(__file__).parents[1]

_AHEAD = """
import os, sys, time
from medidistill.child_processes import child_context, import_ahead, is_ahead

if __name__ == "__main__":
    assert not is_ahead()
    import_ahead("medidistill.words", "no_such_module")
    import_ahead("medidistill.textio")  # the first call counts
    assert is_ahead()
    with child_context("medidistill.textio").Pool(1) as pool:
        print(*pool.apply(eval, ("sorted(n for n in __import__('sys').modules if n.startswith('medidistill.'))",)))
"""

_READER = """
import sys
from pathlib import Path

from medidistill.ingest.loading import load_images
from medidistill.ingest.sources import Record

if __name__ == "__main__":
    paths = sorted(Path(sys.argv[1]).glob("*.png")) * 10_000
    records = [Record(path.name, path, "cat", "p") for path in paths]
    for number, _ in enumerate(load_images(records, 16, "memory", None, 2)):
        if number == 100:
            print("reading", flush=True)
"""


def _told(connection: multiprocessing.connection.Connection, environment: dict[str, str]) -> None:
    begin_child(environment)
    silent = not logging.getLogger("library").isEnabledFor(logging.ERROR) and warnings.filters[0][0] == "ignore"
    umask = os.umask(0)
    connection.send((os.environ.get("MEDIDISTILL_TOLD"), umask, silent))


def test_a_child_has_its_parents_environment_writes_for_its_owner_and_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for said in ("first", "second"):  # by the second the server runs, with the environment of the first
        monkeypatch.setenv("MEDIDISTILL_TOLD", said)
        context = child_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_told, args=(theirs, dict(os.environ)))
        process.start()
        assert ours.recv() == (said, 0o077, True)
        process.join()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_what_is_imported_ahead_is_there_when_a_process_begins(tmp_path: Path) -> None:
    script = tmp_path / "ahead.py"
    script.write_text(_AHEAD)
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=120)
    assert "medidistill.words" in found.stdout.split()
    assert "medidistill.textio" not in found.stdout.split()


_INTERRUPTED = """
import os, signal, sys, time
from medidistill.child_processes import child_context, import_ahead

if __name__ == "__main__":
    import_ahead("medidistill.networks")
    signal.signal(signal.SIGINT, lambda *_: None)
    time.sleep(0.3)
    os.killpg(0, signal.SIGINT)  # the server is importing torch
    with child_context().Pool(1) as pool:
        print(pool.apply(len, ("four",)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_ctrl_c_does_not_reach_the_server(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(_INTERRUPTED)
    command = [sys.executable, str(script)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, process_group=0)
    assert found.stdout == "4\n"
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_processes_are_spawned_where_the_server_finds_no_place_for_its_socket(tmp_path: Path) -> None:
    script = tmp_path / "ahead.py"
    script.write_text(
        "from medidistill.child_processes import child_context, import_ahead, is_ahead\n"
        "if __name__ == '__main__':\n"
        "    import_ahead('medidistill.words')\n"
        "    with child_context().Pool(1) as pool:\n"
        "        print(is_ahead(), type(child_context()).__name__, pool.apply(len, ('four',)))\n"
    )
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    found = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"TMPDIR": str(deep)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "False SpawnContext 4\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
def test_the_server_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "statistics.py").write_text("raise SystemExit('imported from the working directory')\n")
    script = tmp_path / "scripts" / "parent.py"
    script.parent.mkdir()
    script.write_text(
        "import os\n"
        "from medidistill.child_processes import child_context, import_ahead\n"
        "if __name__ == '__main__':\n"
        "    import_ahead('statistics')\n"
        "    assert 'PYTHONSAFEPATH' not in os.environ\n"
        "    with child_context().Pool(1) as pool:\n"
        "        print(pool.apply(eval, (\"__import__('statistics').mean([4])\",)))\n"
    )
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, str(script)]
    found = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=120)
    assert (found.stdout, found.stderr) == ("4\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("served", [True, False])
def test_a_server_that_is_importing_ends_with_its_command_and_leaves_no_socket(
    tmp_path: Path, served: bool, at_once: bool
) -> None:
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "parent.py").write_text(
        "import os\n"
        "from medidistill.child_processes import end_server, import_ahead, is_ahead\n"
        "end_server()  # none is there\n"
        "import_ahead('slow_import')\n"
        f"assert is_ahead() is {served}\n"
        f"end_server(at_once={at_once})\n" + "os._exit(0)\n" * at_once
    )
    command = [sys.executable, str(tmp_path / "parent.py")]
    # the name of a socket has at most 107 characters, of which pytest's folders can take most
    with tempfile.TemporaryDirectory(prefix="t" if served else "t" * 100, dir="/tmp") as folder:
        surroundings = os.environ | {"TMPDIR": folder, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
        began = time.monotonic()
        found = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
        assert time.monotonic() - began < 30
        assert (found.stdout, found.stderr) == ("", "")
        assert list(Path(folder).iterdir()) == []


def test_files_are_counted_no_further_than_asked(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "film").touch()
    assert _holds_files(tmp_path, 3)
    assert not _holds_files(tmp_path, 4)
    assert not _holds_files(tmp_path / "missing", 1)


def test_the_command_imports_ahead_for_many_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, ...]] = []
    monkeypatch.setattr("medidistill.child_processes.import_ahead", lambda *modules: begun.append(modules))
    monkeypatch.setattr("medidistill.machine.available_cores", lambda: 2)
    source = tmp_path / "films"
    source.mkdir()
    command = ["ingest", "--input", str(source), "--output", str(tmp_path / "run"), "--quiet"]
    for count, times in ((499, 0), (500, 1)):
        for number in range(count):
            (source / f"{number}.txt").touch()
        assert main(command) != 0  # no films among them
        assert len(begun) == times
    monkeypatch.setattr("medidistill.machine.available_cores", lambda: 1)
    assert main(command) != 0
    assert len(begun) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_processes_that_read_images_end_with_their_parent(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (24, 24), 100).save(tmp_path / "one.png")
    script = tmp_path / "reader.py"
    script.write_text(_READER)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "reading\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) >= 3  # the server or the tracker, and two readers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while (left := [one for one in children if one.is_running() and one.status() != "zombie"]) and (
        time.monotonic() < until
    ):
        time.sleep(0.1)
    assert left == []
