"""What each process of the torchrun tests does: `rank_program.py EXPERTS OUT SEGMENTS [DIE_AT]`."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from medidistill.config import AugmentConfig, DistillConfig, TrainingConfig
from medidistill.distillation import Callbacks, DistillProblem, distill, join_ranks
from medidistill.distilled_set import DistilledSet, Normalisation

CONFIG = DistillConfig(
    ipc=1,
    outer_steps=8,
    inner_steps=2,
    max_start=2,
    segments=2,
    soft_labels=True,
    augment=AugmentConfig(shift=0.1),
    checkpoint_every=2,
    validate_every=2,
    compile="off",
)


def score(candidate: DistilledSet) -> float:
    return -abs(float(candidate.images.std()) - 0.5)


def work(experts: Path, out: Path, segments: int, die_at: int | None = None) -> None:
    """Distill; the process of rank 1 dies at once at step `die_at` of its first life."""
    ranks = join_ranks()
    torch.set_num_threads(1)
    first_life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"

    def on_step(entry: dict[str, Any]) -> None:
        if first_life and ranks.index == 1 and entry["step"] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    distill(
        DistillProblem(
            sorted(experts.glob("expert-*.safetensors")),
            class_names=("a", "b", "c"),
            normalisation=Normalisation(),
            training=TrainingConfig(steps=5),
            seed=0,
        ),
        dataclasses.replace(CONFIG, segments=segments),
        callbacks=Callbacks(score=score, on_step=on_step),
        folder=out,
        resume=True,
        ranks=ranks,
    )


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
