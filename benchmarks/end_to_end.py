"""How long until a distillation is as good as the reference's: ours against the stored graph in eager mode.

    python -m benchmarks.end_to_end --scale smoke|cpu|gpu [--data FILE.npz] [--device cpu|cuda] [--threads 2]

Both distil from the same experts, with the same seed, segments and batches; both are scored every few outer steps by
the balanced accuracy, on validation, of fresh networks trained from the set. The goal is within one percent of the
reference's best score. Reported is when either first has a score as good as that: the seconds of the clock since its
distillation began, compilation and scoring included. They take turns from score to score, so that the load of a shared
machine meets both; the waits are not counted.

`--data` names a MedMNIST file; without it the images are made up: blobs whose place tells the class, in noise.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measuring import Team, facts, options_of
from medidistill.config import AugmentConfig, DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distill import distill, train_experts
from medidistill.distill.trajectory import Architecture, expert_file
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.networks import predict, raise_malloc_thresholds, train
from medidistill.seeding import stream

_TOLERANCE = 0.01  # of the reference's best score
_SIDE = 28


@dataclass(frozen=True)
class Work:
    """One distillation to run twice.

    Args:
        width: channels of the ConvNet.
        images: real training images, at most.
        experts: in the pool.
        ipc: distilled images a class.
        inner_steps: J.
        outer_steps: of both.
        score_every: outer steps between scores.
        score_steps: SGD steps of a scoring network.
        compile: ours; off where compiling would take longer than the benchmark.
    """

    width: int
    images: int
    experts: int
    ipc: int
    inner_steps: int
    outer_steps: int
    score_every: int
    score_steps: int
    compile: bool = True


SCALES = {
    "smoke": Work(4, 64, 1, 1, 2, 4, 2, 5, compile=False),
    "cpu": Work(32, 1024, 3, 5, 20, 150, 10, 60),
    "gpu": Work(128, 4096, 3, 10, 30, 200, 10, 100),
}


def read(file: Path | None, most: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return normalised images and labels of `train` and `val`; `most` training images."""
    if file is None:
        parts = {split: _made_up(count, stream(0, "data", split)) for split, count in (("train", most), ("val", 512))}
    else:
        with np.load(file) as archive:
            parts = {
                split: (
                    torch.from_numpy(archive[f"{split}_images"]).float().unsqueeze(1) / 255,
                    torch.from_numpy(archive[f"{split}_labels"].astype(np.int64)).flatten(),
                )
                for split in ("train", "val")
            }
        chosen = torch.randperm(len(parts["train"][0]), generator=stream(0, "data", "chosen"))[:most]
        parts["train"] = (parts["train"][0][chosen], parts["train"][1][chosen])
    mean, deviation = parts["train"][0].mean(), parts["train"][0].std()
    return {split: ((images - mean) / deviation, labels) for split, (images, labels) in parts.items()}


def _made_up(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 3
    line = torch.linspace(-1, 1, _SIDE)
    turned = labels * (2 * torch.pi / 3) + 0.5 * torch.randn(count, generator=generator)
    rows, columns = (0.5 * part(turned).view(-1, 1, 1) for part in (torch.sin, torch.cos))
    blob = torch.exp(-((line.view(1, -1, 1) - rows) ** 2 + (line.view(1, 1, -1) - columns) ** 2) / 0.05)
    return (blob + 1.5 * torch.randn(blob.shape, generator=generator)).unsqueeze(1), labels


def make_score(work: Work, shape: Architecture, val: tuple[Tensor, Tensor]) -> Callable[[DistilledSet], float]:
    """Return the mean balanced accuracy on validation of two networks trained from a set."""
    images, labels = val

    def score(candidate: DistilledSet) -> float:
        found = []
        for number in range(2):
            network = shape.make_network(stream(0, "score", number, "init"))
            training = dataclasses.replace(candidate.training, steps=work.score_steps)
            where = images.device
            train(
                network, candidate.images.to(where), candidate.targets.to(where), training, stream(0, "score", number)
            )
            right = (predict(network, images).argmax(1) == labels.cpu()).float()
            found += [float(right[labels.cpu() == k].mean()) for k in range(shape.num_classes)]
        return sum(found) / len(found)

    return score


def measure(work: Work, kind: str, data: str, device: str, threads: int, folder: str) -> None:
    """Distil in this process; at each score print it with the seconds so far, and wait for the next turn."""
    torch.set_num_threads(threads)
    where, ours = torch.device(device), kind == "ours"
    if ours:
        raise_malloc_thresholds()
    splits = {
        name: (x.to(where), y.to(where)) for name, (x, y) in read(Path(data) if data else None, work.images).items()
    }
    shape = _shape(work, splits["train"][1])
    score = make_score(work, shape, splits["val"])
    config = DistillConfig(
        ipc=work.ipc,
        outer_steps=work.outer_steps,
        inner_steps=work.inner_steps,
        max_start=4,
        augment=AugmentConfig(shift=0.05),
        validate_every=work.score_every,
        checkpoint_every=work.outer_steps,
        gradient="adjoint" if ours else "stored",
        compile="on" if ours and work.compile else "off",
    )
    print("ready", flush=True)
    sys.stdin.readline()
    begun, scoring, steps = time.perf_counter(), 0.0, 0

    def tell(candidate: DistilledSet) -> float:
        nonlocal begun, scoring, steps
        clock = time.perf_counter()
        value = score(candidate)
        scoring += time.perf_counter() - clock
        steps += work.score_every
        spent = time.perf_counter() - begun
        found = {"step": steps, "score": value, "seconds": spent, "scoring_seconds": scoring}
        print(json.dumps(found | {"cpu_seconds": time.process_time()}), flush=True)
        sys.stdin.readline()
        begun = time.perf_counter() - spent
        return value

    distill(
        [expert_file(Path(folder), number) for number in range(work.experts)],
        config,
        class_names=[str(k) for k in range(shape.num_classes)],
        normalisation=Normalisation(),
        training=TrainingConfig(batch_size=256, augment=config.augment),
        seed=0,
        score=tell,
        device=where,
    )


def _shape(work: Work, labels: Tensor) -> Architecture:
    return Architecture(NetworkConfig(width=work.width), 1, _SIDE, int(labels.max()) + 1)


def first_at(curve: list[dict[str, Any]], goal: float) -> dict[str, Any] | None:
    """Return the first point of a curve whose score is at least `goal`; None where there is none."""
    return next((point for point in curve if point["score"] >= goal), None)


def compare(work: Work, data: str, device: str, threads: int) -> dict[str, Any]:
    """Run both, in turns, and return their curves and when each reached the goal."""
    with tempfile.TemporaryDirectory() as place:
        images, labels = read(Path(data) if data else None, work.images)["train"]
        train_experts(
            images.to(device),
            labels.to(device),
            num_classes=_shape(work, labels).num_classes,
            network=NetworkConfig(width=work.width),
            config=ExpertConfig(count=work.experts, epochs=6, augment=AugmentConfig(shift=0.05)),
            seed=0,
            folder=Path(place),
            compile="off",
        )
        asked = {"work": dataclasses.asdict(work), "data": data, "device": device, "threads": threads, "folder": place}
        curves: dict[str, list[dict[str, Any]]] = {"reference": [], "ours": []}
        with (
            Team("end_to_end", [{**asked, "kind": "reference"}]) as one,
            Team("end_to_end", [{**asked, "kind": "ours"}]) as two,
        ):
            for turn in range(work.outer_steps // work.score_every):
                for (kind, curve), team in zip(curves.items(), (one, two), strict=True):
                    curve.append(team.work()[0])
                    print(f"{kind}, turn {turn}: {curve[-1]}", file=sys.stderr, flush=True)
    best = max(point["score"] for point in curves["reference"])
    reached = {kind: first_at(curve, best * (1 - _TOLERANCE)) for kind, curve in curves.items()}
    return {
        **dataclasses.asdict(work),
        "data": Path(data).name if data else "made up",
        "goal": best * (1 - _TOLERANCE),
        "reference_best": best,
        "reached": reached,
        "curves": curves,
    }


def main() -> None:
    """Run a scale and write it as JSON."""
    options = options_of(__doc__, "end_to_end", tuple(SCALES), data="")
    if options.measure:
        asked = json.loads(options.measure)
        asked["work"] = Work(**asked["work"])
        measure(**asked)
        return
    facts("end_to_end", options, [compare(SCALES[options.scale], options.data, options.device, options.threads)])


if __name__ == "__main__":
    main()
