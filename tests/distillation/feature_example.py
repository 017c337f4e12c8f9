"""Two classes of small images, two experts and the state of a distillation: for the objectives that match features."""

from __future__ import annotations

from pathlib import Path

import torch

from medidistill.config import (
    AugmentConfig,
    DistillConfig,
    ExpertConfig,
    ImportanceConfig,
    NetworkConfig,
    TrainingConfig,
)
from medidistill.distillation import DistillProblem, Experts, train_experts
from medidistill.distillation.importance import ImportanceWeights
from medidistill.distillation.state import DistillState, initial_images
from medidistill.distilled_set import Normalisation
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=4, depth=2)
LABELS = torch.arange(24) % 2
IMAGES = torch.randn(24, 1, 16, 16, generator=stream(0, "real")) + LABELS.view(-1, 1, 1, 1)
CPU = torch.device("cpu")
PLAIN = ImportanceConfig(enabled=False)
MILD = AugmentConfig(shift=0.1, contrast=0.2, brightness=0.1)
CLASSES = 2


def make_experts(folder: Path) -> list[Path]:
    config = ExpertConfig(count=2, epochs=5, batch_size=8, lr=0.05)
    return train_experts(IMAGES, LABELS, num_classes=2, network=NETWORK, config=config, seed=0, folder=folder)


def make_problem(files: list[Path], seed: int) -> DistillProblem:
    return DistillProblem(
        files,
        class_names=("a", "b"),
        normalisation=Normalisation(),
        training=TrainingConfig(),
        seed=seed,
        real=(IMAGES, LABELS),
    )


def make_state(experts: Experts, config: DistillConfig) -> DistillState:
    layout = ParameterLayout.of(experts.architecture.make_network(stream(0, "layout")))
    weights = ImportanceWeights(layout, config.importance, torch.ones(len(layout), dtype=torch.bool))
    labels = torch.arange(2).repeat_interleave(config.images_per_class)
    return DistillState(config, initial_images(config, (1, 16, 16), 2, None, 0), 16, labels, 2, weights)
