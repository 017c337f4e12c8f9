"""Fisher information: in closed form, one image at a time, and as the start of W in a distillation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medidistill.config import DistillConfig, ExpertConfig, ImportanceConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import DistillProblem, DistillResult, Experts, distill, train_experts
from medidistill.distillation.fisher import fisher_information, mean_diagonal_fisher
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError
from medidistill.networks import ParameterLayout, loss_function
from medidistill.seeding import stream

LABELS = torch.arange(36) % 3
IMAGES = torch.randn(36, 1, 16, 16, generator=stream(0, "d")) + LABELS.view(-1, 1, 1, 1)
FISHER = ImportanceConfig(start="fisher", lr=0.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    config = ExpertConfig(count=2, epochs=4, batch_size=8, lr=0.05)
    network, folder = NetworkConfig(width=4, depth=2), tmp_path_factory.mktemp("experts")
    return train_experts(IMAGES, LABELS, num_classes=3, network=network, config=config, seed=0, folder=folder)


def make(files: list[Path], importance: ImportanceConfig, seed: int = 0, real: bool = True) -> DistillResult:
    settings = DistillConfig(
        ipc=1, outer_steps=3, inner_steps=2, max_start=2, importance=importance, compile="off", validate_every=0
    )
    return distill(
        DistillProblem(
            files,
            class_names=("a", "b", "c"),
            normalisation=Normalisation(),
            training=TrainingConfig(),
            seed=seed,
            real=(IMAGES, LABELS) if real else None,
        ),
        settings,
    )


def test_of_a_linear_classifier_in_closed_form() -> None:
    # the gradient of -log p(y | x) by W is (p - e_y) x^T, by the bias p - e_y; 20 images are more than one chunk
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    x, y = torch.randn(20, 1, 2, 2, generator=stream(0)), torch.eye(3)[torch.arange(20) % 3]
    gap = (torch.softmax(network(x), 1) - y).detach()
    weight = (gap[:, :, None] * x.flatten(1)[:, None, :]).square().mean(0)
    expected = torch.cat([weight.flatten(), gap.square().mean(0)]).double()
    found = fisher_information(network, ParameterLayout.of(network).flatten(network), x, y)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_of_a_convnet_one_image_at_a_time(files: list[Path]) -> None:
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0))
    theta, targets = experts.members[0].snapshot(2), torch.eye(3)[LABELS[:5]]
    gradient = torch.func.grad(loss_function(network))
    one_by_one = [gradient(theta, x[None], y[None]).double().square() for x, y in zip(IMAGES, targets, strict=False)]
    found = fisher_information(network, theta, IMAGES[:5], targets)
    torch.testing.assert_close(found, torch.stack(one_by_one).mean(0), rtol=1e-3, atol=1e-9)


def test_of_a_pool_is_drawn_from_the_epochs_asked_for(files: list[Path]) -> None:
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0))
    found = [
        mean_diagonal_fisher(experts, network, epochs, (IMAGES, LABELS), stream(0), torch.device("cpu"))
        for epochs in (range(4, 5), range(4, 5), range(1))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], rtol=0.5)
    assert bool((found[0] >= 0).all())


def test_w_begins_there_and_stays_where_its_rate_is_zero(files: list[Path]) -> None:
    found = make(files, FISHER)
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0))
    information = mean_diagonal_fisher(
        experts, network, range(2, 4), (IMAGES, LABELS), stream(0, "fisher"), torch.device("cpu")
    )
    square = torch.cat([w.double().flatten() for w in found.distilled.importance.values()]).square()
    inside = (square > 0.011) & (square < 99)
    ratio = square[inside] / information[inside]
    assert int(inside.sum()) > len(square) / 2
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=0)
    learned = make(files, ImportanceConfig(start="fisher", lr=0.1))
    name = "classifier.weight"
    assert not torch.equal(found.distilled.importance[name], learned.distilled.importance[name])


def test_no_real_images_no_information(files: list[Path]) -> None:
    with pytest.raises(ConfigError, match="start='fisher' needs the real images"):
        make(files, FISHER, real=False)


@pytest.mark.parametrize(
    ("importance", "reads"),
    [
        (FISHER, True),
        (ImportanceConfig(start="fisher", enabled=False), False),
        (ImportanceConfig(start="fisher", kind="prune"), False),
        (ImportanceConfig(), False),
    ],
)
def test_only_what_uses_it_reads_real_images(importance: ImportanceConfig, reads: bool) -> None:
    assert DistillConfig(importance=importance).requires_real is reads
