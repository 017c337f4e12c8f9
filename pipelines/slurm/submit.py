"""Run medidistill on a SLURM cluster: ingest, then the experts as jobs side by side, then the rest.

    python submit.py --config standard --input /data/xrays --output /shared/runs/first --shards 8 --partition cpu

Needs `pip install 'medidistill[slurm]'` and a file system that all nodes share. `--cluster local` runs the same jobs
on this machine. A job that SLURM preempts, or whose time is nearly over, stops at a checkpoint, is queued again and
goes on. A job that is lost, or ends with a code that another try can change (5, 130, 137, 143), is submitted again,
`--retries` times; every other code ends this script with that code. The same command later goes on with the run too.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, UncompletedJobError

TRANSIENT = {5, 130, 137, 143}  # no room or memory on that node; stopped; killed
DEFECT, LOST = 1, -1


class Command(submitit.helpers.Checkpointable):
    """One command of medidistill on a node. SLURM's warning stops it at a checkpoint, and the job is queued again."""

    child = 0

    def __call__(self, run: str, arguments: Sequence[str], first: Sequence[str] | None = None) -> int:
        """Run it and return its exit code.

        Args:
            run: the run folder.
            arguments: of the command line.
            first: added where the run has not begun; where it has, `--resume` is. None: neither.
        """
        more = [] if first is None else ["--resume"] if (Path(run) / "run.yaml").is_file() else [*first]
        command = [sys.executable, "-m", "medidistill", *arguments, *more, "--quiet"]
        # the warning is for this process: the child would die of it
        process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN))  # noqa: S603
        self.child = process.pid
        code = process.wait()
        return 128 - code if code < 0 else code

    def checkpoint(self, *arguments: object) -> submitit.helpers.DelayedSubmission:
        """Let the command write its checkpoint; return what the job does when it runs again."""
        if self.child:
            os.kill(self.child, signal.SIGTERM)
            os.waitpid(self.child, 0)  # not by `Popen`, whose lock the call that this one interrupts may hold
        return submitit.helpers.DelayedSubmission(Command(), *arguments)


def code_of(job: submitit.Job[int]) -> int:
    """Wait for a job; return its exit code, LOST where SLURM took it away."""
    try:
        return job.result()
    except FailedJobError as error:
        print(f"job {job.job_id}: {error}", file=sys.stderr)
        return DEFECT
    except UncompletedJobError:
        print(f"job {job.job_id}: ended without a result (state {job.state}); see {job.paths.stderr}", file=sys.stderr)
        return LOST


def run_stage(executor: submitit.Executor, commands: Sequence[tuple[object, ...]], retries: int) -> int:
    """Run commands as jobs until each has ended well; return the first exit code that is not 0."""
    while True:
        with executor.batch():
            jobs = [executor.submit(Command(), *command) for command in commands]
        codes = [code_of(job) for job in jobs]
        final = [code for code in codes if code not in (0, LOST, *TRANSIENT)]
        commands = [command for command, code in zip(commands, codes, strict=True) if code]
        if final or not commands or not retries:
            code = next(iter(final), 0) or next((code for code in codes if code), 0)
            return DEFECT if code == LOST else code
        print(f"{len(commands)} job(s) are submitted again, at most {retries} time(s)", file=sys.stderr)
        retries -= 1


def main(argv: Sequence[str] | None = None) -> int:
    """Submit, wait, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="standard")
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=8, help="jobs that share the experts")
    parser.add_argument("--cluster", default="slurm", choices=("slurm", "local"))
    parser.add_argument("--partition", help="SLURM partition")
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--memory-gb", type=int, default=16)
    parser.add_argument("--minutes", type=int, default=24 * 60)
    parser.add_argument(
        "--retries", type=int, default=2, help="times that a job is submitted again where that can help"
    )
    parser.add_argument("--logs", type=Path, default=Path("slurm-logs"))
    options = parser.parse_args(argv)
    if options.retries < 0:
        parser.error(f"--retries {options.retries}: must be 0 or more")

    executor = submitit.AutoExecutor(folder=options.logs, cluster=options.cluster)
    executor.update_parameters(
        name="medidistill", cpus_per_task=options.cpus, mem_gb=options.memory_gb, timeout_min=options.minutes
    )
    if options.partition:
        executor.update_parameters(slurm_partition=options.partition)

    out = str(options.output)
    run = ["run", "--output", out]
    begin = ["--config", options.config, "--input", str(options.input)]
    shards = [(out, ["experts", "--output", out, "--shard", f"{i}/{options.shards}"]) for i in range(options.shards)]
    for stage in ([(out, [*run, "--until", "ingest"], begin)], shards, [(out, run, [])]):
        code = run_stage(executor, stage, options.retries)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
