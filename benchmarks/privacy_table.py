"""What differential privacy by patient costs on real X-rays: covid-cxr, epsilon 1, 2, 4, 8 and none.

    python -m benchmarks.privacy_table run --data $MEDIDISTILL_DATA/covid-cxr --work work/privacy [--shard i/n]
    python -m benchmarks.privacy_table collect --work work/privacy

Every cell (side, arm, epsilon, seed) is one file below the work folder; a stopped command goes on with the cells it
lacks, and n processes with `--shard` share them. `collect` writes benchmarks/results/privacy.json and prints the table
over whatever cells are there.

| arm | what is trained on the patients |
|---|---|
| `waves` | one noised release of moments of public features (`distillation.noised_statistics`): a discriminant |
| `public_net` | the same of features of a network that learned photographs (`benchmarks.public_network`) |
| `classifier` | a ConvNet by DP-SGD |
| `distilled` | experts by DP-SGD; IADD distills them into ten images a class, from noise |
| `dp_stats` | the release of `waves`, and ten images a class that say what it says |
| `random` | ten real images a class as they are, no protection: what so few real images are worth |

`classifier` also releases the classes' shares among patients, with a twentieth of the budget, and takes them out of
what it predicts: one class has 8 % of the patients and 21 % of the images, and DP-SGD here counts patients. The
discriminant holds all classes to be equally likely.

A set of images is scored twice: by fresh ConvNets trained on it, and by a linear layer on its public features
(`accuracy_waves`). Without protection `waves` and `public_net` are a linear layer trained image by image.

The settings are constants of `benchmarks.privacy_arms` and of the library. They were chosen on three classes of grey
CIFAR-10 images with the numbers of images and patients of each class here (and, for `public_net`, a network that had
learned the six classes that were never used for it), not on these patients. But what was tried followed from looking at
patients of the validation split: that the classes' shares are taken out, that features are centred, and that one
release replaces 120 noisy steps. The test split is predicted once for each cell of the present procedure; earlier
procedures were scored on it too (`waves` by noisy steps: .592, .646, .655, .654 at 32 pixels). Accuracy is by image.
The interval is Student's over seeds and says nothing about other patients.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from benchmarks.privacy_arms import ARMS, DELTA, Cell, Task
from medidistill.config import IngestConfig
from medidistill.files import read_json, write_json
from medidistill.pipeline.prepared import PreparedData
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "privacy.json"
EPSILONS = (1.0, 2.0, 4.0, 8.0, math.inf)
ORDER = ("waves", "public_net", "dp_stats", "distilled", "classifier")
SIDES, SEEDS = (32, 64), range(5)


def cells() -> Iterator[Cell]:
    """Yield all cells, those that the table needs most first."""
    for side in SIDES:
        for seed in SEEDS:
            yield Cell(side, "random", math.inf, seed)
            for epsilon in EPSILONS:
                for arm in ORDER:
                    yield Cell(side, arm, epsilon, seed)


def _data(folder: Path | None, kept: Path, side: int) -> PreparedData:
    """Return the images, prepared once for all shards."""
    if not (kept / "test.safetensors").exists():
        if folder is None:
            raise SystemExit(f"{kept}: not prepared yet; name the folder of covid-cxr with --data")
        from medidistill.ingest import ingest  # MONAI takes seconds, and prepared images have no use for it

        PreparedData.write(ingest(folder, IngestConfig(image_size=side)), kept)
    return PreparedData.read(kept)


def score(task: Task, cell: Cell, work: Path) -> dict[str, Any]:
    """Do one cell; return its figures."""
    wall, cpu = time.perf_counter(), time.process_time()
    found, sigma = ARMS[cell.arm](task, cell, work)
    labels = task.data.test.labels
    figures = {name: float((p.argmax(-1) == labels).double().mean()) for name, p in found.items()}
    recall = [float((found["accuracy"].argmax(-1)[..., labels == k] == k).double().mean()) for k in range(task.classes)]
    return {
        "side": cell.side,
        "arm": cell.arm,
        "epsilon": None if math.isinf(cell.epsilon) else cell.epsilon,
        "seed": cell.seed,
        "noise_multiplier": sigma,
        **figures,
        "balanced": sum(recall) / len(recall),
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def run(folder: Path | None, work: Path, shard: tuple[int, int], wanted: Callable[[Cell], bool]) -> None:
    """Do the wanted cells that `work` lacks, those whose number is i modulo n."""
    chosen = [cell for cell in cells() if wanted(cell)][shard[0] :: shard[1]]
    tasks: dict[int, Task] = {}
    for cell in chosen:
        if cell.file(work).exists():
            continue
        if cell.side not in tasks:
            tasks[cell.side] = Task.of(_data(folder, work / f"images-{cell.side}", cell.side))
        figures = score(tasks[cell.side], cell, work)
        write_json(cell.file(work), figures)
        print(figures, flush=True)


def collect(work: Path) -> dict[str, Any]:
    """Return the table over the cells that are there, with what made it."""
    kept = [read_json(cell.file(work)) for cell in cells() if cell.file(work).exists()]
    groups: dict[tuple[int, str, float | None], list[Mapping[str, Any]]] = defaultdict(list)
    for cell in kept:
        groups[cell["side"], cell["arm"], cell["epsilon"]].append(cell)
    rows = []
    for (side, arm, epsilon), members in groups.items():
        row: dict[str, Any] = {"side": side, "arm": arm, "epsilon": epsilon, "seeds": len(members)}
        for name in ("accuracy", "accuracy_waves", "balanced"):
            values = [cell[name] for cell in members if name in cell]
            if values:
                row[name] = _interval(values)
        rows.append(row)
    rows.sort(key=lambda row: (row["side"], row["arm"], row["epsilon"] or math.inf))
    return {
        "complete": len(kept) == sum(1 for _ in cells()),
        "missing": sum(1 for _ in cells()) - len(kept),
        "rows": rows,
        "cells": kept,
        "unit": "patient",
        "delta": DELTA,
        "hardware": hardware(),
        "versions": versions(),
    }


def _interval(values: list[float]) -> dict[str, float | None]:
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, n - 1)) * float(torch.tensor(values, dtype=torch.float64).std()) / n**0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


def table(result: Mapping[str, Any]) -> str:
    """Return the rows as Markdown; says so where cells are missing."""
    lines = [
        "| side | arm | epsilon | seeds | accuracy | by a linear layer on its waves |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        shown = "none" if row["epsilon"] is None else f"{row['epsilon']:g}"
        figures = " | ".join(_shown(row.get(name)) for name in ("accuracy", "accuracy_waves"))
        lines.append(f"| {row['side']} | {row['arm']} | {shown} | {row['seeds']} | {figures} |")
    return "\n".join(lines) + ("" if result["complete"] else f"\n\nPartial: {result['missing']} cells are missing.")


def _shown(figure: Mapping[str, float | None] | None) -> str:
    if figure is None:
        return ""
    limits = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['mean']:.3f}{limits}"


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect"))
    parser.add_argument("--data", type=Path, help="folder of covid-cxr; needed until its images are prepared")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shard", default="0/1", metavar="I/N")
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=list(ARMS))
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(EPSILONS), help="inf: without protection")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it finds")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "collect":
        result = collect(arguments.work)
        write_json(RESULT, result)
        print(table(result))
        return
    shard = re.fullmatch(r"(\d+)/(\d+)", arguments.shard)
    if not shard or int(shard[1]) >= int(shard[2]):
        parser.error(f"--shard {arguments.shard}: must be I/N with I < N")
    run(
        arguments.data,
        arguments.work,
        (int(shard[1]), int(shard[2])),
        lambda cell: (
            cell.side in arguments.sides
            and cell.seed in arguments.seeds
            and cell.arm in arguments.arms
            and cell.epsilon in arguments.epsilons
        ),
    )


if __name__ == "__main__":
    main()
