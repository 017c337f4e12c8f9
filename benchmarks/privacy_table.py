"""What differential privacy by patient costs on real X-rays: covid-cxr at 32 pixels, epsilon 1, 2, 4, 8 and none.

    python -m benchmarks.privacy_table run --data $MEDIDISTILL_DATA/covid-cxr --work work/privacy --seeds 0 1 2 3 4
    python -m benchmarks.privacy_table collect --work work/privacy

`run` does one cell (arm, epsilon, seed) after the other and keeps each; `collect` writes
benchmarks/results/privacy.json and prints the table, over whatever cells are there. Arms: the classifier trained
directly by DP-SGD, the distilled set from DP experts, and dp_stats. Settings are constants below; they were not tuned
on these patients. Test accuracy by image; the interval is Student's over seeds and says nothing about other patients.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from medidistill.config import (
    AugmentConfig,
    DistillConfig,
    DPConfig,
    ExpertConfig,
    IngestConfig,
    NetworkConfig,
    TrainingConfig,
)
from medidistill.distill import distill, train_experts
from medidistill.distill.noised_statistics import distil_statistics, noised_statistics
from medidistill.distilled_set import DistilledSet
from medidistill.files import read_json, write_json
from medidistill.ingest import IngestResult, ingest
from medidistill.networks import (
    ParameterLayout,
    PatientGradient,
    make_network,
    predict,
    secret_generator,
    train,
    train_on_distilled,
)
from medidistill.privacy.accounting import noise_for
from medidistill.record import hardware, versions
from medidistill.seeding import stream

RESULT = Path(__file__).parent / "results" / "privacy.json"
SIDE, DELTA = 32, 1e-5
EPSILONS = (1.0, 2.0, 4.0, 8.0, math.inf)
NETWORK = NetworkConfig(width=16)
DP = DPConfig(enabled=True, delta=DELTA, clip=0.5, sampling_rate=0.15, expected_patients=170, steps_per_epoch=8)
CLASSIFIER_STEPS, CLASSIFIER_RATE = 160, 0.5
EXPERTS = ExpertConfig(count=3, epochs=6, batch_size=64, lr=0.5)
DISTILL = DistillConfig(
    ipc=10, outer_steps=80, inner_steps=5, batch_size=30, expert_epochs=2, max_start=4, validate_every=0, lr_images=0.05
)
SMALL = TrainingConfig(steps=200, batch_size=30, lr=0.02, augment=AugmentConfig(shift=0.05, scale=0.05, rotate=3))
STUDENTS = 3


def _network(classes: int, seed: int, *names: str) -> nn.Module:
    generator = stream(seed, *names)
    return make_network(NETWORK, channels=1, image_size=SIDE, num_classes=classes, generator=generator)


def _noise(epsilon: float, steps: int) -> float:
    return noise_for(epsilon, DELTA, sampling_rate=DP.sampling_rate, steps=steps)


def classifier(data: IngestResult, epsilon: float, seed: int) -> tuple[Tensor, float]:
    """Train one network directly; return its test probabilities and sigma."""
    images, labels = data.normalisation.apply(data.train.images), data.train.labels
    network = _network(data.train.num_classes, seed, "classifier")
    sigma = 0.0
    if math.isinf(epsilon):
        plain = TrainingConfig(steps=500, batch_size=64, lr=0.02)
        train(network, images, labels, plain, stream(seed, "classifier", "batches"))
    else:
        sigma = _noise(epsilon, CLASSIFIER_STEPS)
        dp = dataclasses.replace(DP, noise_multiplier=sigma)
        people = data.train.patient_ids
        gradient = PatientGradient(network, images, labels, people, dp, AugmentConfig(), secret_generator())
        layout = ParameterLayout.of(network)
        theta = layout.flatten(network)
        for _ in range(CLASSIFIER_STEPS):
            theta.sub_(gradient(theta), alpha=CLASSIFIER_RATE)
        layout.load(network, theta)
    return predict(network, data.normalisation.apply(data.test.images)), sigma


def _students(made: DistilledSet, data: IngestResult, seed: int) -> Tensor:
    test = data.normalisation.apply(data.test.images)
    return torch.stack([predict(train_on_distilled(made, seed=seed * 100 + i), test) for i in range(STUDENTS)])


def distilled(data: IngestResult, epsilon: float, seed: int, work: Path) -> tuple[Tensor, float]:
    """Distil DP experts from noise; return the test probabilities of fresh networks and sigma."""
    images, labels = data.normalisation.apply(data.train.images), data.train.labels
    sigma, config = 0.0, dataclasses.replace(EXPERTS, lr=0.02)
    if not math.isinf(epsilon):
        sigma = _noise(epsilon, EXPERTS.count * EXPERTS.epochs * DP.steps_per_epoch)
        config = dataclasses.replace(EXPERTS, dp=dataclasses.replace(DP, epsilon=epsilon, noise_multiplier=sigma))
    files = train_experts(
        images,
        labels,
        num_classes=data.train.num_classes,
        network=NETWORK,
        config=config,
        seed=seed,
        folder=work / "experts" / f"{epsilon:g}-{seed}",
        patients=data.train.patient_ids,
    )
    made = distill(
        files,
        DISTILL,
        class_names=data.train.class_names,
        normalisation=data.normalisation,
        training=SMALL,
        seed=seed,
    ).distilled
    return _students(made, data, seed), sigma


def dp_stats(data: IngestResult, epsilon: float, seed: int) -> tuple[Tensor, float]:
    """Release feature statistics once, make images from them; return the test probabilities and sigma."""
    sigma = 1e-9 if math.isinf(epsilon) else noise_for(epsilon, DELTA, sampling_rate=1.0, steps=1)
    released = noised_statistics(
        data.normalisation.apply(data.train.images),
        data.train.labels,
        data.train.patient_ids,
        num_classes=data.train.num_classes,
        noise_multiplier=sigma,
        generator=secret_generator(),
    )
    made = distil_statistics(
        released,
        ipc=DISTILL.ipc,
        shape=(1, SIDE, SIDE),
        class_names=data.train.class_names,
        normalisation=data.normalisation,
        network=NETWORK,
        training=SMALL,
        seed=seed,
    )
    return _students(made, data, seed), 0.0 if math.isinf(epsilon) else sigma


def run(data_folder: Path, work: Path, seeds: list[int]) -> None:
    """Do the cells that `work` lacks, seed by seed."""
    data = ingest(data_folder, IngestConfig(image_size=SIDE))
    arms: dict[str, Callable[[float, int], tuple[Tensor, float]]] = {
        "classifier": lambda epsilon, seed: classifier(data, epsilon, seed),
        "dp_stats": lambda epsilon, seed: dp_stats(data, epsilon, seed),
        "distilled": lambda epsilon, seed: distilled(data, epsilon, seed, work),
    }
    for seed in seeds:
        for epsilon in EPSILONS:
            for arm, function in arms.items():
                file = work / "cells" / f"{arm}-{epsilon:g}-{seed}.json"
                if file.exists():
                    continue
                started = time.perf_counter()
                probabilities, sigma = function(epsilon, seed)
                right = (probabilities.argmax(-1) == data.test.labels).double()
                cell = {
                    "arm": arm,
                    "epsilon": None if math.isinf(epsilon) else epsilon,
                    "seed": seed,
                    "noise_multiplier": sigma,
                    "accuracy": float(right.mean()),
                    "seconds": round(time.perf_counter() - started, 1),
                }
                write_json(file, cell)
                print(cell, flush=True)


def collect(work: Path) -> dict[str, Any]:
    """Return the table over the cells that are there, with what made it."""
    groups: dict[tuple[str, float | None], list[float]] = defaultdict(list)
    cells = [read_json(file) for file in sorted((work / "cells").glob("*.json"))]
    for cell in cells:
        groups[cell["arm"], cell["epsilon"]].append(cell["accuracy"])
    rows = []
    for (arm, epsilon), values in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or math.inf)):
        n, mean = len(values), sum(values) / len(values)
        row = {"arm": arm, "epsilon": epsilon, "seeds": n, "accuracy": mean, "low": None, "high": None}
        if n > 1:
            half = float(stats.t.ppf(0.975, n - 1)) * float(torch.tensor(values).std()) / n**0.5
            row |= {"low": mean - half, "high": mean + half}
        rows.append(row)
    expected = 3 * len(EPSILONS) * 5
    return {
        "complete": len(cells) >= expected,
        "cells": cells,
        "rows": rows,
        "unit": "patient",
        "delta": DELTA,
        "image_size": SIDE,
        "hardware": hardware(),
        "versions": versions(),
    }


def table(result: dict[str, Any]) -> str:
    """Return the rows as Markdown; says so where cells are missing."""
    lines = ["| arm | epsilon | seeds | accuracy |", "|---|---|---|---|"]
    for row in result["rows"]:
        limits = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
        shown = "none" if row["epsilon"] is None else f"{row['epsilon']:g}"
        lines.append(f"| {row['arm']} | {shown} | {row['seeds']} | {row['accuracy']:.3f}{limits} |")
    return "\n".join(lines) + ("" if result["complete"] else f"\n\nPartial: {len(result['cells'])} cells of 75.")


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "collect"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    if arguments.what == "run":
        if arguments.data is None:
            parser.error("run needs --data, the folder of covid-cxr")
        run(arguments.data, arguments.work, arguments.seeds)
    else:
        result = collect(arguments.work)
        write_json(RESULT, result)
        print(table(result))


if __name__ == "__main__":
    main()
