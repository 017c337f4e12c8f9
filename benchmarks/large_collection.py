"""Time and memory of collections that do not fit into memory, measured on a share of them.

    python -m benchmarks.large_collection --work DIR

For each number of films and each stage, a process of its own: ingest, one epoch of one expert, and the class statistics
of one snapshot. Images of more than 16 MB lie in files here, where a run keeps up to 1 GB of them in memory, so that a
few hundred images behave as 100,000 would. The memory is the highest that the process held of its own (RssAnon of
Linux) above what it held when the stage began: pages of files, which the system drops when it needs room, do not count,
and neither do the libraries. A straight line through time against number of films is the law that the last column
extrapolates. The films are phantoms, and those of a first, smaller number warm the compiler's cache up.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.ingest import cohort
from medidistill import scratch
from medidistill.config import DistillConfig, ExpertConfig, IngestConfig, NetworkConfig
from medidistill.distillation import Experts, train_experts
from medidistill.distillation.snapshots import SnapshotMatching
from medidistill.files import read_json, write_json
from medidistill.ingest import ingest
from medidistill.networks import freed_memory_returned, raise_malloc_thresholds
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "large_collection.json"
STAGES = ("ingest", "expert epoch", "class statistics")
WANTED = 100_000
_IN_MEMORY = 2**24
_WARM_UP = 320  # films that are measured first and not counted: their shapes are compiled
_BEGINS = "begins"
_NETWORK = NetworkConfig(width=32)


def own_memory(process: int) -> int:
    """Return the bytes of memory of a process that belong to no file; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = (line for line in lines if line.startswith("RssAnon:"))
    return int(next(found, "RssAnon: 0").split()[1]) * 1024


def watched(command: list[str]) -> dict[str, Any]:
    """Run a command that prints `_BEGINS` and then its seconds; return these, and its highest memory above that before.

    From another process: what a thread of its own would allocate would change what it measures.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        while child.stdout.readline().strip() != _BEGINS:
            if child.poll() is not None:
                raise subprocess.CalledProcessError(child.returncode, command)
        before = peak = own_memory(child.pid)
        while child.poll() is None:
            peak = max(peak, own_memory(child.pid))
            time.sleep(0.02)
        seconds = float(child.stdout.read().split()[-1])
    return {"seconds": seconds, "bytes": peak - before}


def stage(name: str, folder: Path, side: int) -> float:
    """Do one stage on the films in `folder`, and return its seconds."""
    scratch.MOST_IN_MEMORY = _IN_MEMORY
    raise_malloc_thresholds()
    run = folder / "run"
    experts = ExpertConfig(count=1, epochs=1, batch_size=64)

    def read() -> None:
        config = IngestConfig(image_size=side, val_fraction=0.05, test_fraction=0.05, max_quarantine=0.1)
        run.mkdir(exist_ok=True)
        with freed_memory_returned():  # as the stage of a run does
            result = ingest(folder / "films", config, folder=run)
        PreparedData.write(result, run)

    def train() -> None:
        images, labels = PreparedData.read(run).training_tensors()
        train_experts(
            images,
            labels,
            num_classes=2,
            network=_NETWORK,
            config=experts,
            seed=0,
            folder=run / "experts",
            compile="on",
        )

    def measure() -> None:
        real = PreparedData.read(run).training_tensors()
        pool = Experts(sorted((run / "experts").glob("expert-*.safetensors")))
        config = dataclasses.replace(DistillConfig(), objective="snapshots")
        SnapshotMatching(pool, config, real, 0, torch.device("cpu"), compile=True).statistics(0, 0)

    work = {"ingest": read, "expert epoch": train, "class statistics": measure}[name]
    print(_BEGINS, flush=True)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def law(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of `WANTED` films, and of one film more, by a straight line through what was measured."""
    numbers = [point["films"] for point in points]
    slope, start = np.polyfit(numbers, [point["seconds"] for point in points], 1)
    return {"seconds": float(start + slope * WANTED), "seconds_a_film": float(slope)}


def table(found: Mapping[str, Any]) -> str:
    """Return the Markdown of a result."""
    numbers = [point["films"] for point in found["stages"][STAGES[0]]["points"]]
    head = [f"{number:,} films" for number in numbers]
    lines = [f"| stage | {' | '.join(head)} | a film more | {WANTED:,} films |", "|---" * (len(head) + 3) + "|"]
    for name in STAGES:
        one = found["stages"][name]
        cells = [f"{point['seconds']:.1f} s, {point['bytes'] / 1e6:.0f} MB" for point in one["points"]]
        rest = one["law"]
        more = f"{1000 * rest['seconds_a_film']:.1f} ms"
        lines.append(f"| {name} | {' | '.join(cells)} | {more} | {rest['seconds'] / 60:.0f} min |")
    size = found["image_bytes"]
    lines.append("")
    lines.append(f"The images themselves: {size / 1e3:.0f} kB each in float32, {size * WANTED / 1e9:.0f} GB.")
    return "\n".join(lines)


def main() -> None:
    """Measure every stage at every size, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of films and runs; what is there is kept")
    parser.add_argument("--films", default="400,800,1600", help="how many, by commas")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--stored-side", type=int, default=512, help="rows and columns of the films")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.stage:
        print(stage(options.stage, options.work, options.side), flush=True)
        return
    stages: dict[str, list[dict[str, Any]]] = {name: [] for name in STAGES}
    for number in (_WARM_UP, *map(int, options.films.split(","))):
        folder = options.work / str(number)
        if not (folder / "films").is_dir():
            folder.mkdir(parents=True)
            cohort(folder, number, options.stored_side)
        for name in STAGES:
            kept = folder / f"{name.replace(' ', '-')}.json"
            if not kept.is_file():
                command = [sys.executable, "-m", "benchmarks.large_collection", "--stage", name]
                command += ["--work", str(folder), "--side", str(options.side)]
                write_json(kept, watched(command))
            if number != _WARM_UP:
                stages[name].append({"films": number, **read_json(kept)})
    found = {
        "stages": {name: {"points": points, "law": law(points)} for name, points in stages.items()},
        "side": options.side,
        "stored_side": options.stored_side,
        "image_bytes": 4 * options.side**2,
        "network": dataclasses.asdict(_NETWORK),
        "command": shlex.join(["python", "-m", "benchmarks.large_collection", "--work", "WORK"]),
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(options.output, found)
    print(table(found))


if __name__ == "__main__":
    main()
