"""How long until a distillation is as good as the reference's: ours against the stored graph in eager mode.

    python -m benchmarks.end_to_end --scale smoke|cpu|gpu [--data FILE.npz,DIR] [--device cpu|cuda] [--threads 2]

All distill from the same experts, with the same seed, segments and batches; all are scored every few outer steps by
the balanced accuracy, on validation, of fresh networks trained from the set. The goal is within one percent of the
reference's best score. Reported is when each first has a score as good as that: the seconds of the clock since its
distillation began, compilation and scoring included. They take turns from score to score, so that the load of a shared
machine meets all; the waits are not counted.

| kind | what |
|---|---|
| `reference` | the double backward through stored graphs, eager |
| `ours` | the adjoint, compiled with nothing in the compiler's cache: the first run on a machine |
| `ours, again` | the same with that cache: every later run of this shape |
| `ours, bfloat16` | as `ours, again`, with `precision: bfloat16` |

`--data` names a MedMNIST file, or a folder of X-rays with labels.csv, or both, by a comma: a row for each. Without it
the images are made up: blobs whose place tells the class, in noise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.measuring import WorkerGroup, facts, options_of
from medidistill.config import AugmentConfig, DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import Callbacks, DistillProblem, distill, train_experts
from medidistill.distillation.trajectory import Architecture, expert_file
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.networks import predict, raise_malloc_thresholds, train
from medidistill.pipeline import load_config
from medidistill.seeding import stream

_TOLERANCE = 0.01  # of the reference's best score
_MILD = AugmentConfig(shift=0.05)
KINDS = ("reference", "ours", "ours, again", "ours, bfloat16")


@dataclass(frozen=True)
class Work:
    """One distillation to run once for each kind.

    Args:
        distill: its settings; gradient, compilation and precision are the kind's.
        experts: the pool.
        width: channels of the ConvNet.
        side: rows and columns.
        images: real training images, at most.
        score_steps: SGD steps of a scoring network.
        compile: ours; off where compiling would take longer than the benchmark.
    """

    distill: DistillConfig
    experts: ExpertConfig
    width: int
    side: int = 28
    images: int = 1024
    score_steps: int = 60
    compile: bool = True


def _small(**settings: Any) -> DistillConfig:
    return DistillConfig(max_start=4, augment=_MILD, **settings)


_SHORT = ExpertConfig(count=3, epochs=6, augment=_MILD)
_FOLDER = load_config(Path(__file__).parent / "covid_cxr.yaml")
FOLDER = Work(
    _FOLDER.distill,
    dataclasses.replace(_FOLDER.experts, count=3),
    _FOLDER.network.width,
    _FOLDER.ingest.image_size,
    10_000,
    _FOLDER.evaluate.small_set_training.steps,
)
SCALES = {
    "smoke": Work(
        _small(ipc=1, inner_steps=2, outer_steps=4, validate_every=2),
        dataclasses.replace(_SHORT, count=1),
        width=4,
        images=64,
        score_steps=5,
        compile=False,
    ),
    "cpu": Work(_small(ipc=5, inner_steps=20, outer_steps=150, validate_every=10), _SHORT, width=32),
    "gpu": Work(
        _small(ipc=10, inner_steps=30, outer_steps=200, validate_every=10),
        _SHORT,
        width=128,
        images=4096,
        score_steps=100,
    ),
}


def work_on(data: str, scale: str) -> Work:
    """Return the work of a scale; on a folder of X-rays, that of `benchmarks/covid_cxr.yaml` with three experts."""
    return FOLDER if data and Path(data).is_dir() else SCALES[scale]


def read(data: str, work: Work) -> dict[str, tuple[Tensor, Tensor]]:
    """Return normalised images and labels of `train` and `val`."""
    if not data:
        parts = {
            split: _made_up(count, work.side, stream(0, "data", split))
            for split, count in (("train", work.images), ("val", 512))
        }
    elif Path(data).is_dir():
        from medidistill.ingest import ingest  # MONAI takes seconds, and other data have no use for it

        found = ingest(Path(data), _FOLDER.ingest)
        return {
            "train": (found.normalisation.apply(found.train.images), found.train.labels),
            "val": (found.normalisation.apply(found.val.images), found.val.labels),
        }
    else:
        with np.load(data) as archive:
            parts = {
                split: (
                    torch.from_numpy(archive[f"{split}_images"]).float().unsqueeze(1) / 255,
                    torch.from_numpy(archive[f"{split}_labels"].astype(np.int64)).flatten(),
                )
                for split in ("train", "val")
            }
        chosen = torch.randperm(len(parts["train"][0]), generator=stream(0, "data", "chosen"))[: work.images]
        parts["train"] = (parts["train"][0][chosen], parts["train"][1][chosen])
    mean, deviation = parts["train"][0].mean(), parts["train"][0].std()
    return {split: ((images - mean) / deviation, labels) for split, (images, labels) in parts.items()}


def _made_up(count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 3
    line = torch.linspace(-1, 1, side)
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


def measure(scale: str, kind: str, data: str, device: str, threads: int, folder: str) -> None:
    """Distill in this process; at each score print it with the seconds so far, and wait for the next turn."""
    torch.set_num_threads(threads)
    where, ours, work = torch.device(device), kind != "reference", work_on(data, scale)
    raise_malloc_thresholds()
    splits = load_file(str(Path(folder) / "data.safetensors"))
    shape = _shape(work, splits["train_labels"])
    score = make_score(work, shape, (splits["val_images"].to(where), splits["val_labels"].to(where)))
    config = dataclasses.replace(
        work.distill,
        checkpoint_every=work.distill.outer_steps,
        gradient="adjoint" if ours else "stored",
        compile="on" if ours and work.compile else "off",
        precision="bfloat16" if kind.endswith("bfloat16") else "float32",
    )
    print("ready", flush=True)
    sys.stdin.readline()
    begun, scoring, steps = time.perf_counter(), 0.0, 0

    def tell(candidate: DistilledSet) -> float:
        nonlocal begun, scoring, steps
        clock = time.perf_counter()
        value = score(candidate)
        scoring += time.perf_counter() - clock
        steps += config.validate_every
        spent = time.perf_counter() - begun
        found = {"step": steps, "score": value, "seconds": spent, "scoring_seconds": scoring}
        print(json.dumps(found | {"cpu_seconds": time.process_time()}), flush=True)
        sys.stdin.readline()
        begun = time.perf_counter() - spent
        return value

    distill(
        DistillProblem(
            [expert_file(Path(folder), number) for number in range(work.experts.count)],
            class_names=[str(k) for k in range(shape.num_classes)],
            normalisation=Normalisation(),
            training=TrainingConfig(batch_size=256, augment=config.augment),
            seed=0,
        ),
        config,
        callbacks=Callbacks(score=tell),
        device=where,
    )


def _shape(work: Work, labels: Tensor) -> Architecture:
    return Architecture(NetworkConfig(width=work.width), 1, work.side, int(labels.max()) + 1)


def first_at(curve: list[dict[str, Any]], goal: float) -> dict[str, Any] | None:
    """Return the first point of a curve whose score is at least `goal`; None where there is none."""
    return next((point for point in curve if point["score"] >= goal), None)


def compare(scale: str, data: str, device: str, threads: int) -> dict[str, Any]:
    """Run all kinds, in turns, and return their curves and when each reached the goal."""
    work = work_on(data, scale)
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(place) / "compiled")  # empty, and shared by all kinds
        splits = read(data, work)
        images, labels = splits["train"]
        kept = {f"{split}_images": x.contiguous() for split, (x, _) in splits.items()}
        kept |= {f"{split}_labels": y.contiguous() for split, (_, y) in splits.items()}
        save_file(kept, str(Path(place) / "data.safetensors"))
        train_experts(
            images.to(device),
            labels.to(device),
            num_classes=_shape(work, labels).num_classes,
            network=NetworkConfig(width=work.width),
            config=work.experts,
            seed=0,
            folder=Path(place),
            compile="off",
        )
        asked = {"scale": scale, "data": data, "device": device, "threads": threads, "folder": place}
        teams = {kind: stack.enter_context(WorkerGroup("end_to_end", [{**asked, "kind": kind}])) for kind in KINDS}
        curves: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        for turn in range(work.distill.outer_steps // work.distill.validate_every):
            for kind, team in teams.items():
                curves[kind].append(team.work()[0])
                print(f"{kind}, turn {turn}: {curves[kind][-1]}", file=sys.stderr, flush=True)
    best = max(point["score"] for point in curves["reference"])
    reached = {kind: first_at(curve, best * (1 - _TOLERANCE)) for kind, curve in curves.items()}
    return {
        "work": dataclasses.asdict(work),
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
        measure(**json.loads(options.measure))
        return
    rows = [compare(options.scale, data, options.device, options.threads) for data in options.data.split(",")]
    options.data = ",".join(Path(data).name for data in options.data.split(","))  # not where they lie on this machine
    facts("end_to_end", options, rows)


if __name__ == "__main__":
    main()
