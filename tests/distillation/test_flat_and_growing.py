"""FTD (sharpness-aware experts, averaged images) and DATM (growing start epochs, labels that begin at an expert's)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import DistillConfig, ExpertConfig, ImportanceConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import Callbacks, DistillProblem, DistillResult, Experts, distill, train_experts
from medidistill.distillation.experts import expert_digest
from medidistill.distillation.label_init import correctly_classified, expert_logits, mean_logits
from medidistill.distillation.matching import max_start_epoch
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.trajectory import Architecture
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError, StoppedError
from medidistill.networks import ParameterLayout, gradient_function, make_network
from medidistill.seeding import stream

NETWORK = NetworkConfig(width=4, depth=1)
LABELS = torch.arange(24) % 3
IMAGES = torch.randn(24, 1, 8, 8, generator=stream(0, "d")) + LABELS.view(-1, 1, 1, 1)
CONFIG = DistillConfig(
    ipc=1,
    outer_steps=8,
    inner_steps=2,
    expert_epochs=1,
    max_start=3,
    importance=ImportanceConfig(enabled=False),
    validate_every=0,
    compile="off",
)


def train(folder: Path, **settings: object) -> list[Path]:
    config = ExpertConfig(**({"count": 1, "epochs": 4, "batch_size": 24, "lr": 0.05} | settings))
    return train_experts(IMAGES, LABELS, num_classes=3, network=NETWORK, config=config, seed=0, folder=folder)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return train(tmp_path_factory.mktemp("experts"))


def make(files: list[Path], config: DistillConfig, **extra: object) -> DistillResult:
    given: dict[str, object] = {"real": (IMAGES, LABELS), "seed": 0} | extra
    calls = Callbacks(score=given.pop("score", None), on_step=given.pop("on_step", None))  # type: ignore[arg-type]
    options = {name: given.pop(name) for name in ("folder", "resume", "ranks") if name in given}
    problem = DistillProblem(files, ("a", "b", "c"), Normalisation(), TrainingConfig(), **given)  # type: ignore[arg-type]
    return distill(problem, config, callbacks=calls, **options)  # type: ignore[arg-type]


def test_a_sharpness_aware_step_is_the_gradient_at_the_worst_point_nearby(tmp_path: Path) -> None:
    # one batch an epoch: the first snapshot is one step from the start
    start, after = (Experts(train(tmp_path / "flat", rho=0.3)).members[0].snapshot(epoch) for epoch in (0, 1))
    network = make_network(NETWORK, channels=1, image_size=8, num_classes=3, generator=stream(0))
    gradient = gradient_function(network)
    _, direction = gradient(start, IMAGES, LABELS)
    _, worst = gradient(start + 0.3 * direction / direction.norm(), IMAGES, LABELS)
    torch.testing.assert_close(after, start - 0.05 * worst, rtol=1e-4, atol=1e-6)
    plain = Experts(train(tmp_path / "plain")).members[0].snapshot(1)
    assert float((plain - after).norm()) > 1e-4


def test_sharpness_aware_training_lowers_the_worst_loss_nearby(tmp_path: Path) -> None:
    network = make_network(NETWORK, channels=1, image_size=8, num_classes=3, generator=stream(0))
    gradient = gradient_function(network)
    expert = Experts(train(tmp_path, rho=0.5, epochs=30, lr=0.2)).members[0]

    def worst(epoch: int) -> float:
        theta = expert.snapshot(epoch)
        _, direction = gradient(theta, IMAGES, LABELS)
        return float(gradient(theta + 0.5 * direction / direction.norm(), IMAGES, LABELS)[0])

    assert worst(30) < 0.7 * worst(0)


def test_without_rho_an_expert_keeps_the_name_it_had() -> None:
    shape = Architecture(NETWORK, 1, 8, 3)

    def name(**settings: object) -> str:
        return expert_digest(IMAGES, LABELS, shape, ExpertConfig(**settings), 0)

    assert name() == name(flat_rho=0.5)
    assert name() != name(rho=0.1) != name(rho=0.2)


def test_the_delivered_images_are_the_moving_average(experts: list[Path]) -> None:
    seen: list[torch.Tensor] = []
    config = dataclasses.replace(CONFIG, ema=0.6, validate_every=1)

    def score(candidate: object) -> float:
        seen.append(candidate.images)  # type: ignore[attr-defined]
        return float(len(seen))

    averaged = make(experts, config, score=score)
    plain = make(experts, CONFIG)
    path = dict(make(experts, dataclasses.replace(CONFIG, outer_steps=8)).evolution)
    expected = path[0]
    for step in range(8):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * path[step + 1]
        torch.testing.assert_close(seen[step], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(averaged.distilled.images, expected, rtol=1e-4, atol=1e-5)
    assert float((averaged.distilled.images - plain.distilled.images).abs().max()) > 1e-3


def test_an_averaged_run_goes_on_to_the_same_bytes(experts: list[Path], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, ema=0.6, start_growth=0.5, checkpoint_every=3)
    make(experts, config, folder=tmp_path / "whole")

    def stop(entry: dict) -> None:
        if entry["step"] == 4:
            raise StoppedError("stop", 15)

    with pytest.raises(StoppedError):
        make(experts, config, folder=tmp_path / "cut", on_step=stop)
    make(experts, config, folder=tmp_path / "cut", resume=True)
    whole, cut = ((tmp_path / name / "distilled.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    # the growth depends on the number of steps: more of them are another run
    with pytest.raises(ConfigError, match="other settings"):
        make(experts, dataclasses.replace(config, outer_steps=9), folder=tmp_path / "cut", resume=True)


def test_the_range_of_starts_grows_linearly_and_then_stays() -> None:
    config = DistillConfig(outer_steps=20, min_start=1, max_start=6, start_growth=0.5)
    assert [max_start_epoch(config, step) for step in range(12)] == [2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6]
    assert max_start_epoch(dataclasses.replace(config, first_max_start=5), 0) == 5
    assert {max_start_epoch(dataclasses.replace(config, start_growth=0.0), step) for step in range(20)} == {6}
    with pytest.raises(ConfigError, match=r"first_max_start=7.*\[2, 6\]"):
        dataclasses.replace(config, first_max_start=7)


def test_labels_of_a_real_start_are_what_the_expert_says_of_those_images(experts: list[Path]) -> None:
    pool = Experts(experts)
    config = dataclasses.replace(
        CONFIG, init="real", soft_labels=True, label_init="expert", outer_steps=1, lr_labels=0.0, lr_images=0.0
    )
    result = make(experts, config).distilled
    said = torch.softmax(expert_logits(pool, result.images, pool.epochs), dim=1)
    torch.testing.assert_close(result.soft_labels, said, rtol=1e-4, atol=1e-5)
    network = make_network(NETWORK, channels=1, image_size=8, num_classes=3, generator=stream(1))
    ParameterLayout.of(network).load(network, pool.members[0].snapshot(4))
    torch.testing.assert_close(said, torch.softmax(network(result.images), dim=1).detach(), rtol=1e-4, atol=1e-5)
    right = correctly_classified(expert_logits(pool, IMAGES, 4), LABELS, 3, least=1)
    for image in result.images:
        (place,) = torch.nonzero((image - IMAGES).flatten(1).abs().amax(1) < 1e-4).flatten().tolist()
        assert bool(right[place])


def test_labels_of_a_noise_start_are_class_means_of_correctly_classified_images() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[3.0, 1.0], [1.0, 2.0], [0.0, 2.0], [1.0, 4.0]])  # the second image is misread
    assert correctly_classified(logits, labels, 2, least=1).tolist() == [True, False, True, True]
    assert correctly_classified(logits, labels, 2, least=2).tolist() == [True, True, True, True]
    assert mean_logits(logits, labels, 2, ipc=2).tolist() == [[3, 1], [3, 1], [0.5, 3], [0.5, 3]]


def test_expert_labels_need_real_images_and_soft_labels(experts: list[Path]) -> None:
    with pytest.raises(ConfigError, match="hard labels have no start"):
        dataclasses.replace(CONFIG, label_init="expert")
    config = dataclasses.replace(CONFIG, soft_labels=True, label_init="expert")
    with pytest.raises(ConfigError, match="needs the real images"):
        make(experts, config, real=None)
    assert config.requires_real
    assert make(experts, config).distilled.soft_labels is not None


@pytest.mark.parametrize("objective", ["gradient", "distribution"])
def test_objectives_that_read_real_images_run_in_the_loop_and_say_so(experts: list[Path], objective: str) -> None:
    config = dataclasses.replace(CONFIG, objective=objective, real_batch=6)
    result = make(experts, config, recipe={"method": "dc"})
    assert result.status == "completed"
    assert result.distilled.recipe["method"] == "dc"
    assert result.distilled.alpha == TrainingConfig().lr != CONFIG.alpha  # no student's rate belongs to it
    with pytest.raises(ConfigError, match=f"{objective}.*needs the real images"):
        make(experts, config, real=None)


@pytest.mark.parametrize("kind", ["prune", "progressive", "random"])
def test_masks_and_controls_run_in_the_loop_and_are_shipped(experts: list[Path], kind: str, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, importance=ImportanceConfig(kind=kind, growth_every=2))
    result = make(experts, config, folder=tmp_path)
    assert result.status == "completed"
    assert result.history[-1]["effective_sample_size"] <= 1
    shipped = torch.cat([value.flatten() for value in result.distilled.importance.values()])
    assert float(shipped.std()) > 0
    values = set(shipped.tolist())
    assert values <= {0.0, 1.0} if kind != "random" else len(values) > 10


def test_a_mask_that_grows_with_every_segment_is_refused_on_several_ranks(experts: list[Path]) -> None:
    config = dataclasses.replace(CONFIG, importance=ImportanceConfig(kind="progressive"), segments=2)
    with pytest.raises(ConfigError, match="progressive' on 2 ranks"):
        make(experts, config, ranks=Ranks(0, 2))
