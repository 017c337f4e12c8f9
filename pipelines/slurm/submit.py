"""Run medidistill on a SLURM cluster: ingest, then the experts as an array of jobs, then the rest.

    python submit.py --config standard --input /data/xrays --output /shared/runs/first --shards 8 --partition cpu

Needs `pip install 'medidistill[slurm]'` and a file system that all nodes share. `--cluster local` runs the same jobs
on this machine. A job that SLURM preempts or that runs out of time is submitted again with the same command: finished
experts, cells and checkpoints are kept. The last job's exit code is this script's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import submitit


def medidistill(*arguments: str) -> int:
    """Run one command on the node and return its exit code."""
    return subprocess.run([sys.executable, "-m", "medidistill", *arguments, "--quiet"], check=False).returncode  # noqa: S603


def first_code(jobs: Sequence[submitit.Job[int]]) -> int:
    """Wait for jobs; return the first exit code that is not 0."""
    return next((code for code in [job.result() for job in jobs] if code), 0)


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
    parser.add_argument("--logs", type=Path, default=Path("slurm-logs"))
    options = parser.parse_args(argv)

    executor = submitit.AutoExecutor(folder=options.logs, cluster=options.cluster)
    executor.update_parameters(
        name="medidistill", cpus_per_task=options.cpus, mem_gb=options.memory_gb, timeout_min=options.minutes
    )
    if options.partition:
        executor.update_parameters(slurm_partition=options.partition)

    run = ["run", "--output", str(options.output)]
    resumes = (options.output / "run.yaml").is_file()
    begin = ["--resume"] if resumes else ["--config", options.config, "--input", str(options.input)]
    shards = [
        ["experts", "--output", str(options.output), "--shard", f"{i}/{options.shards}"] for i in range(options.shards)
    ]
    for stage in ([[*run, *begin, "--until", "ingest"]], shards, [[*run, "--resume"]]):
        with executor.batch():
            jobs = [executor.submit(medidistill, *command) for command in stage]
        code = first_code(jobs)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
