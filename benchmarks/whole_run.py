"""How long a whole run takes, and the same steps as a plain PyTorch script.

    medidistill run --config covid-cxr --input DIR --output RUN [--until distill]    # where nothing else is at work
    python -m benchmarks.whole_run --run RUN --data DIR [--threads 2]

The run's time is that of the clock between its stages' events. The script's is put together: each kind of step
(`benchmarks.plain`: eager modules with fused operations, the allocator's thresholds raised, all threads) is timed, the
median of several, and counted as often as the run took it. It also says when each method's set first scored 90 % of
what all real images teach, on validation, where it was scored. A run that ended before its comparison is compared as
far as it went. Not counted for the script: validation between outer steps, predictions, labels by experts, the gate,
pictures, the report and the bundle, all of which the run's time holds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.plain import kernel_step, snapshot_step, training_step, trajectory_step
from medidistill.config import METHODS, RunConfig
from medidistill.evaluate import ArmRun
from medidistill.evaluate.protocol import SELECTION_NETWORKS
from medidistill.files import read_json, write_json
from medidistill.networks import raise_malloc_thresholds
from medidistill.networks.convnet import default_depth
from medidistill.pipeline import RunFolder, load_config
from medidistill.record import hardware, versions

RESULT = Path(__file__).parent / "results" / "whole_run.json"
_KINDS = {"trajectory": "trajectory step", "snapshots": "snapshot step", "kernel": "kernel step"}
_SHARE = 0.9  # of the validation score of networks trained on all real images: a good set
_SUFFIXES = {".png", ".jpg", ".jpeg"}


def stage_seconds(events: Path) -> dict[str, float]:
    """Return the seconds of every stage of a run that was not interrupted, by its events."""
    found = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    kept = [one for one in found if one.get("event") in ("run_started", "stage_finished")]
    return {
        after["stage"]: (datetime.fromisoformat(after["time"]) - datetime.fromisoformat(before["time"])).total_seconds()
        for before, after in pairwise(kept)
        if after["event"] == "stage_finished"
    }


def step_counts(config: RunConfig, training_images: int, cells: Mapping[str, ArmRun]) -> dict[str, float]:
    """Return how often a run takes each kind of step.

    Steps of a coarse stage, at half the side, count as a quarter: a step's cost goes with its pixels.

    Args:
        config: of the run.
        training_images: real ones.
        cells: what the comparison found, by arm.
    """
    methods = [config.distill_by(arm) for arm in config.evaluate.arms if arm in METHODS]
    sides = sum(1 / divisor**2 for divisor in {1, *(one.coarse for one in methods)})  # a pool for each side
    experts = config.experts
    counts = {
        "expert step": experts.count * experts.epochs * math.ceil(training_images / experts.batch_size) * sides,
        "trajectory step": 0.0,
        "snapshot step": 0.0,
        "kernel step": 0.0,
        "network step, batch 64": 0.0,
        "network step, batch 16": 0.0,
    }
    for settings in methods:
        coarse = settings.coarse_steps / settings.coarse**2 if settings.coarse > 1 else 0.0
        counts[_KINDS[settings.objective]] += settings.outer_steps + coarse
    for name, run in cells.items():
        tried = [(steps, batch, SELECTION_NETWORKS) for steps, batch in _tried(config, name, run, training_images)]
        for steps, batch, networks in [
            *tried,
            (run.chosen.steps, run.chosen.batch_size, len(run.val_balanced_accuracy)),
        ]:
            counts[f"network step, batch {16 if batch <= 16 else 64}"] += networks * steps
    return counts


def _tried(config: RunConfig, name: str, run: ArmRun, training_images: int) -> list[tuple[int, int]]:
    """Return steps and images a step of every way of training that an arm chose from."""
    rules, options = config.evaluate, len(run.candidate_scores)
    if name == "full":
        steps = rules.full_epochs * math.ceil(training_images / config.experts.batch_size)
        return [(times * steps, config.experts.batch_size) for times in (1, 1, 2)][:options]
    small = (rules.small_set_training.steps, rules.small_set_training.batch_size)
    adaptive = (rules.adaptive.steps, rules.adaptive.batch_size)
    return [adaptive] * options if name == "packed" else [small] * min(4, options) + [adaptive] * max(0, options - 4)


def first_good(folder: RunFolder, config: RunConfig, method: str, wanted: float) -> dict[str, Any]:
    """Return when a method's set first scored `wanted` on validation: outer steps at full side, seconds of them all.

    Seconds are the sum of the outer steps, those at the coarse side and their scores included; None where no score was
    that good, with the best one.
    """
    before = folder.distill(method) / "coarse" / "history.json"
    entries = [read_json(before)["entries"] if before.is_file() else [], []]
    entries[1] = read_json(folder.distill(method) / "history.json")["entries"]
    spent, best = math.fsum(entry["seconds"] for entry in entries[0]), 0.0
    for step, entry in enumerate(entries[1], start=1):
        spent += entry["seconds"]
        best = max(best, entry.get("score", 0.0))
        if best >= wanted:
            return {"step": step, "coarse_steps": len(entries[0]), "seconds": spent, "best": best}
    return {"step": None, "coarse_steps": len(entries[0]), "seconds": spent, "best": best}


def _median(step: Callable[[], None], repeats: int) -> float:
    step()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def plain_seconds(config: RunConfig, repeats: int) -> dict[str, float]:
    """Return the seconds of each kind of step of the script, at the run's sizes."""
    side, width = config.ingest.image_size, config.network.width
    size = (side, width, config.network.depth or default_depth(side))
    ipc, tiles = config.distill.ipc, config.distill.factor
    kinds = {
        "expert step": training_step(*size, config.experts.batch_size, adaptive=False),
        "trajectory step": trajectory_step(
            *size,
            ipc=ipc,
            tiles=tiles,
            inner_steps=config.distill.inner_steps,
            batch=config.distill.batch_size or 3 * ipc * tiles**2 or 3 * ipc * tiles**2,
        ),
        "snapshot step": snapshot_step(*size, ipc=ipc, tiles=tiles),
        "kernel step": kernel_step(*size, ipc=ipc, tiles=tiles, real_batch=config.distill.real_batch),
        "network step, batch 64": training_step(*size, 64, adaptive=True),
        "network step, batch 16": training_step(*size, 16, adaptive=False, augment=False),
    }
    return {name: _median(step, repeats) for name, step in kinds.items()}


def reading_seconds(data: Path, side: int) -> tuple[int, float]:
    """Return how many pictures lie below `data`, and the seconds in which a loop reads and resizes them."""
    files = [file for file in sorted(data.rglob("*")) if file.suffix.lower() in _SUFFIXES]
    begun = time.perf_counter()
    for file in files:
        with Image.open(file) as picture:
            np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)
    return len(files), time.perf_counter() - begun


def compare(run: Path, data: Path, threads: int, repeats: int) -> dict[str, Any]:
    """Return times and counts of a finished run and of the script."""
    folder = RunFolder.open(run)
    config = load_config(folder.config_file)
    ours = stage_seconds(folder.events_file)
    network = config.evaluate.architectures[0]
    cells = {
        arm: ArmRun.load(folder.evaluate / "cells" / f"{arm}-{network}.safetensors")
        for arm in config.evaluate.arms
        if "evaluate" in ours
    }
    by_class = read_json(folder.record_file)["stages"]["ingest"]["images"]["train"]
    training_images = sum(by_class.values())
    torch.set_num_threads(threads)
    count, reading = reading_seconds(data, config.ingest.image_size)
    seconds, counts = plain_seconds(config, repeats), step_counts(config, training_images, cells)
    rows: list[dict[str, Any]] = [
        {"what": "reading a file", "count": count, "seconds_each": reading / count, "seconds": reading}
    ]
    rows += [
        {"what": name, "count": counts[name], "seconds_each": seconds[name], "seconds": counts[name] * seconds[name]}
        for name in counts
    ]
    plain = math.fsum(row["seconds"] for row in rows)
    good = {}
    if cells:
        wanted = _SHARE * cells["full"].val_score
        found = {arm: first_good(folder, config, arm, wanted) for arm in config.evaluate.arms if arm in METHODS}
        good = {arm: {**one, "wanted": wanted, "at_its_end": cells[arm].val_score} for arm, one in found.items()}
    return {
        "run": {
            "stages": [{"stage": stage, "seconds": seconds} for stage, seconds in ours.items()],
            "seconds": math.fsum(ours.values()),
        },
        "script": {"rows": rows, "seconds": plain},
        "ratio": math.fsum(ours.values()) / plain,
        "good": good,
        "threads": threads,
        "hardware": hardware(),
        "versions": versions(),
    }


def table(found: Mapping[str, Any]) -> str:
    """Return the Markdown of both."""
    lines = ["| the script's step | times | seconds each | minutes |", "|---|---|---|---|"]
    lines += [
        f"| {row['what']} | {row['count']:,.0f} | {row['seconds_each']:.3f} | {row['seconds'] / 60:.1f} |"
        for row in found["script"]["rows"]
        if row["count"]
    ]
    lines += ["", "| the run's stage | minutes |", "|---|---|"]
    lines += [f"| {one['stage']} | {one['seconds'] / 60:.1f} |" for one in found["run"]["stages"]]
    run, script = found["run"]["seconds"] / 60, found["script"]["seconds"] / 60
    lines += ["", f"Run {run:.1f} minutes, script {script:.1f}: {found['ratio']:.2f}x."]
    if not found["good"]:
        return "\n".join(lines)
    lines += [
        "",
        "| method | first scored 90 % of all real images at step | seconds of distillation till then, or in all | best "
        "while distilled | in the comparison |",
        "|---|---|---|---|---|",
    ]
    for method, one in found["good"].items():
        step = "never" if one["step"] is None else str(one["step"])
        best = f"{one['best']:.3f}" if one["best"] else "not scored"
        lines.append(f"| {method} | {step} | {one['seconds']:.0f} | {best} | {one['at_its_end']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the script's steps and write both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished, uninterrupted run")
    parser.add_argument("--data", type=Path, required=True, help="folder of the X-rays it read")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="of each step (default: 5)")
    options = parser.parse_args()
    raise_malloc_thresholds()
    found = compare(options.run, options.data, options.threads, options.repeats)
    write_json(RESULT, found)
    print(table(found))


if __name__ == "__main__":
    main()
