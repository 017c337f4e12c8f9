"""A run of seconds, started in a forked child so that a hundred of them cost no hundred imports.

All of this is slow: `pytest -m slow tests/faults`. With MEDIDISTILL_FAULT_REPORT=FILE the counts are added to FILE.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medidistill.cli import main

CONFIG = """\
name: fault campaign
seed: 5
threads: 1
ingest: {image_size: 16}
network: {width: 4, depth: 1}
experts: {count: 3, epochs: 3, batch_size: 8}
distill:
  {ipc: 1, outer_steps: 30, inner_steps: 2, expert_epochs: 1, max_start: 2, validate_every: 10, checkpoint_every: 3}
evaluate:
  {arms: [random, mtt, iadd], num_networks: 2, full_epochs: 2, bootstrap: 100,
   small_set_training: {steps: 5}, adaptive: {steps: 5, batch_size: 16}}
"""
# these hold times, or where the input lies; every other file must come out the same, bit for bit
TIMED = frozenset({"checkpoint.safetensors", "events.jsonl", "provenance.json", "record.json", "report.html"})
TIMED |= {"history.json", "status.json", "source.json", "summary.pdf"}
# what no clock and no name of a folder reaches
RESULTS = (
    "experts/expert-0000.safetensors",
    "experts/expert-0002.safetensors",
    "distill/mtt/distilled.safetensors",
    "distill/iadd/distilled.safetensors",
    "evaluate/comparison.json",
    "bundle/distilled.safetensors",
)
START = "before the first stage"


@dataclass
class Workplace:
    """Input, configuration, and the results of a run that nothing disturbed."""

    root: Path
    config: Path
    pictures: Path
    expected: dict[str, bytes] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def arguments(self, output: Path, *more: str) -> list[str]:
        """Return the command that starts or continues the run; without `more` it ends before the report is drawn."""
        more = more or ("--until", "export")
        if os.path.exists(output / "run.yaml"):  # noqa: PTH110 (a path may be too long to ask `Path`)
            return ["run", "--output", str(output), "--resume", "--quiet", *more]
        begin = ["--config", str(self.config), "--input", str(self.pictures)]
        return ["run", *begin, "--output", str(output), "--quiet", *more]

    def start(
        self, output: Path, prepare: Callable[[], None] | None = None, log: Path | None = None, *more: str
    ) -> int:
        """Start or continue the run in a child of its own; return its process number."""
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        code = 99
        try:
            os.setsid()
            sink = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            # not those that pytest captures with
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if prepare is not None:
                prepare()
            code = main(self.arguments(output, *more))
        finally:
            os._exit(code)

    def finish(
        self, output: Path, prepare: Callable[[], None] | None = None, log: Path | None = None, *more: str
    ) -> int:
        """Start or continue the run and wait; return its exit code."""
        return wait(self.start(output, prepare, log, *more))

    def measure(self, output: Path) -> None:
        """Take the results and the seconds of each stage from a run that nothing disturbed."""
        self.expected = dict(contents(output))
        self.seconds = {
            event["stage"]: event["seconds"] for event in events(output) if event["event"] == "stage_finished"
        }

    def reach(self, child: int, output: Path, stage: str) -> bool:
        """Wait until `child` works on `stage`; returns False where it ended before."""
        while stage != START and not any(
            event["event"] == "stage_started" and event["stage"] == stage for event in events(output)
        ):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return False
            time.sleep(0.001)
        return True

    def check_what_is_there(self, output: Path) -> None:
        """A file under its own name is whole, whatever happened to the process that wrote it."""
        for name, content in contents(output):
            if not name.endswith("stopped.safetensors"):  # the best set so far; no undisturbed run writes it
                assert content == self.expected[name], name

    def check(self, output: Path, names: tuple[str, ...] = ()) -> None:
        """Compare the results with those of the undisturbed run, and look for what should not be there."""
        found = dict(contents(output))
        if not names:
            assert found.keys() == self.expected.keys()
        for name in names or self.expected:
            assert found[name] == self.expected[name], name
        assert not list(output.rglob("*.part"))
        assert json.loads((output / "status.json").read_text())["state"] == "completed"
        for method in ("mtt", "iadd"):
            entries = json.loads((output / "distill" / method / "history.json").read_text())["entries"]
            assert [entry["step"] for entry in entries] == list(range(1, 31))


def contents(output: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file whose bytes follow from input and configuration."""
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output)
        unfinished = any(part.endswith(".part") for part in name.parts)
        if path.is_file() and path.name not in TIMED and not unfinished:
            yield name.as_posix(), path.read_bytes()


def events(output: Path) -> list[dict[str, object]]:
    """Return the whole lines of the events."""
    try:
        lines = (output / "events.jsonl").read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def wait(child: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def stage_of(output: Path) -> str:
    """Return the stage that the status names."""
    try:
        return json.loads((output / "status.json").read_text())["stage"] or START
    except FileNotFoundError:
        return START


def note(what: str, counts: dict[str, int]) -> None:
    """Add counts to the report of the campaign, where one is wanted; of times the longest stays."""
    if "MEDIDISTILL_FAULT_REPORT" in os.environ:
        file = Path(os.environ["MEDIDISTILL_FAULT_REPORT"])
        old = json.loads(file.read_text()) if file.is_file() else {}
        before = old.get(what, {})
        total = {
            key: (max if key.startswith("slowest") else sum)((before.get(key, 0), counts.get(key, 0)))
            for key in {*before, *counts}
        }
        file.write_text(json.dumps({**old, what: total}, indent=2, sort_keys=True) + "\n")
