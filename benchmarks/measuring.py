"""What the timing benchmarks share: a process for each thing that is measured, in turns, and the facts beside it.

A machine may be shared, and its load changes: all that is compared is measured in turns, round after round, and a ratio
is taken within a round. CPU seconds of all threads stand beside the seconds of the clock, because others' load moves
the clock far more.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from medidistill.files import write_json
from medidistill.record import hardware, versions

__all__ = ["WorkerGroup", "answer", "facts", "options_of"]

_SHOWN = ("scale", "device", "threads", "rounds", "data", "series")
RESULTS = Path(__file__).parent / "results"


def answer(prepare: Callable[[], Callable[[], Mapping[str, Any]]]) -> None:
    """Measure in this process: prepare, say so, work once for each line that comes in, and print what that took."""
    work = prepare()
    print("ready", flush=True)
    for _ in sys.stdin:
        cpu, clock = time.process_time(), time.perf_counter()
        found = dict(work())
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        took = {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(took | found), flush=True)


class WorkerGroup:
    """Processes that run `python -m benchmarks.MODULE --measure ASKED` and work when they are told to.

    Args:
        module: of this package; its `--measure` calls `answer`.
        asked: what each process is to do, JSON types.
        launcher: a module of Python, with its arguments, that starts `module` instead.

    Raises:
        RuntimeError: one of them failed, for example for want of memory.
    """

    def __init__(self, module: str, asked: Sequence[Mapping[str, Any]], launcher: Sequence[str] = ()) -> None:
        python = [sys.executable, "-m", *launcher, *(["-m"] if launcher else [])]
        self._name = f"{module} {list(asked)}"
        self._children = [
            subprocess.Popen(
                [*python, f"benchmarks.{module}", "--measure", json.dumps(one)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for one in asked
        ]
        for child in self._children:
            self._line(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._children:
            child.communicate() if error[0] is None else child.kill()

    def work(self) -> list[dict[str, Any]]:
        """Let all work once, at the same time, and return what each says."""
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        return [json.loads(self._line(child)) for child in self._children]

    def _line(self, child: subprocess.Popen[str]) -> str:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name}: ended with {child.wait()}")
        return line


def options_of(description: str | None, module: str, scales: Sequence[str], **more: Any) -> argparse.Namespace:
    """Parse the command line that these benchmarks share; `more` are further options with their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=scales, default="smoke")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads in all (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of everything (default: 3)")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: benchmarks/results/{module}_DEVICE.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    options.output = options.output or RESULTS / f"{module}_{options.device}.json"
    return options


def facts(module: str, options: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows with command, hardware, versions and the machine's load into `options.output`."""
    given = [
        part for name, value in vars(options).items() if name in _SHOWN and value for part in (f"--{name}", str(value))
    ]
    command = shlex.join(["python", "-m", f"benchmarks.{module}", *given])
    found = {"command": command, "hardware": hardware() | {"threads": options.threads}, "versions": versions()}
    write_json(options.output, {**found, "load": os.getloadavg()[1], "rows": list(rows)})
