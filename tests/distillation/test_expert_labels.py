"""Labels by experts: the mean of the pool, corrected for the class frequencies, as computed network by network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import DistillConfig, ExpertConfig, ImportanceConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import DistillProblem, Experts, distill, expert_labels, train_experts
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout
from medidistill.seeding import stream

IMAGES = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0] * 5 + [1] * 10 + [2] * 15)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return train_experts(
        IMAGES,
        LABELS,
        num_classes=3,
        network=NetworkConfig(width=4, depth=1),
        config=ExpertConfig(count=3, epochs=4, batch_size=10),
        seed=0,
        folder=tmp_path_factory.mktemp("experts"),
    )


def test_equal_the_mean_posterior_over_the_class_frequencies(files: list[Path]) -> None:
    pool, x = Experts(files), torch.randn(7, 1, 8, 8)
    network = pool.architecture.make_network(stream(1))
    mean = torch.zeros(7, 3)
    for member in pool.members:
        ParameterLayout.of(network).load(network, member.snapshot(4))
        with torch.no_grad():
            mean += torch.softmax(network(x), dim=1) / 3
    wanted = mean / torch.tensor([5.0, 10.0, 15.0])
    found = expert_labels(pool, x, [5, 10, 15])
    torch.testing.assert_close(found, wanted / wanted.sum(1, keepdim=True))
    torch.testing.assert_close(found.sum(1), torch.ones(7))


@pytest.mark.parametrize("counts", [[5, 10], [5, 10, 0], [1, 2, 3, 4]])
def test_refuse_counts_that_are_not_of_the_classes(files: list[Path], counts: list[int]) -> None:
    with pytest.raises(ConfigError, match="needs 3 numbers, each at least 1"):
        expert_labels(Experts(files), IMAGES, counts)


def test_a_set_carries_the_labels_of_its_decoded_images(files: list[Path]) -> None:
    config = DistillConfig(
        objective="snapshots",
        ipc=1,
        factor=2,
        max_snapshot=2,
        outer_steps=3,
        max_start=1,
        importance=ImportanceConfig(enabled=False),
        expert_labels=True,
        validate_every=0,
    )
    made = {
        by: distill(
            DistillProblem(
                files,
                class_names=("a", "b", "c"),
                normalisation=Normalisation(),
                training=TrainingConfig(),
                seed=0,
                real=(IMAGES, LABELS),
            ),
            dataclasses.replace(config, expert_labels=by),
        ).distilled
        for by in (True, False)
    }
    assert made[False].soft_labels is None
    assert torch.equal(made[True].images, made[False].images)  # labels come after the matching and change no image
    assert made[True].soft_labels is not None
    torch.testing.assert_close(made[True].soft_labels, expert_labels(Experts(files), made[True].images, [5, 10, 15]))


@pytest.mark.parametrize("settings", [{"objective": "trajectory"}, {"objective": "statistics"}])
def test_refuse_methods_that_match_a_student(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expert_labels=True"):
        DistillConfig(**{"objective": "snapshots", "expert_labels": True, **settings})  # type: ignore[arg-type]
