"""A run of seconds, started in a forked child so that a hundred of them cost no hundred imports.

All of this is slow: `pytest -m slow tests/faults`. With MEDIDISTILL_FAULT_REPORT=FILE the counts are added to FILE.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
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
evaluate: {networks: 2, full_epochs: 2, bootstrap: 100, small: {steps: 5}}
"""
# what must come out the same, bit for bit, whatever happened on the way
RESULTS = (
    "experts/expert-0000.safetensors",
    "experts/expert-0002.safetensors",
    "distill/mtt/distilled.safetensors",
    "distill/iadd/distilled.safetensors",
    "evaluate/comparison.json",
    "bundle/distilled.safetensors",
)


@dataclass
class Workplace:
    """Input, configuration, and the results of a run that nothing disturbed."""

    root: Path
    config: Path
    pictures: Path
    expected: dict[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    def arguments(self, output: Path) -> list[str]:
        """Return the command that starts the run, or continues it."""
        if (output / "run.yaml").exists():
            return ["run", "--output", str(output), "--resume", "--quiet"]
        begin = ["--config", str(self.config), "--input", str(self.pictures)]
        return ["run", *begin, "--output", str(output), "--quiet"]

    def start(self, output: Path, prepare: Callable[[], None] | None = None, log: Path | None = None) -> int:
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
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if prepare is not None:
                prepare()
            code = main(self.arguments(output))
        finally:
            os._exit(code)

    def finish(self, output: Path, prepare: Callable[[], None] | None = None, log: Path | None = None) -> int:
        """Start or continue the run and wait; return its exit code."""
        return wait(self.start(output, prepare, log))

    def check(self, output: Path) -> None:
        """Compare the results with those of the undisturbed run, and look for what should not be there."""
        for name, content in self.expected.items():
            assert (output / name).read_bytes() == content, name
        assert not list(output.rglob("*.part"))
        assert json.loads((output / "status.json").read_text())["state"] == "completed"


def wait(child: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def stage_of(output: Path) -> str:
    """Return the stage that the status names."""
    try:
        return json.loads((output / "status.json").read_text())["stage"] or "before the first stage"
    except FileNotFoundError:
        return "before the first stage"


def note(what: str, counts: dict[str, int]) -> None:
    """Add counts to the report of the campaign, where one is wanted."""
    if "MEDIDISTILL_FAULT_REPORT" in os.environ:
        file = Path(os.environ["MEDIDISTILL_FAULT_REPORT"])
        old = json.loads(file.read_text()) if file.is_file() else {}
        total = {key: old.get(what, {}).get(key, 0) + counts.get(key, 0) for key in {*old.get(what, {}), *counts}}
        file.write_text(json.dumps({**old, what: total}, indent=2, sort_keys=True) + "\n")
