"""What students are compared with: continuations of experts, straight paths, and what is kept on disk."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
import torch

from medidistill.config import (
    AugmentConfig,
    DistillConfig,
    DPConfig,
    ExpertConfig,
    ImportanceConfig,
    NetworkConfig,
    TrainingConfig,
)
from medidistill.distillation import DistillProblem, DistillResult, Experts, distill, train_experts
from medidistill.distillation.continuations import Continuations, continuation_file
from medidistill.distillation.experts import train_further
from medidistill.distillation.targets import StraightLine, make_targets
from medidistill.distilled_set import Normalisation
from medidistill.errors import ConfigError, IngestError
from medidistill.files import load_tensors
from medidistill.networks import ParameterLayout, augment, draw, gradient_function
from medidistill.seeding import stream

LABELS = torch.arange(24) % 3
IMAGES = torch.randn(24, 1, 16, 16, generator=stream(0, "d")) + LABELS.view(-1, 1, 1, 1)
TRAINING = ExpertConfig(count=2, epochs=4, batch_size=8, lr=0.05, momentum=0.5, augment=AugmentConfig(shift=0.1))
EPOCHS = 2
MTT = DistillConfig(
    ipc=1,
    outer_steps=3,
    inner_steps=2,
    expert_epochs=EPOCHS,
    max_start=2,
    importance=ImportanceConfig(enabled=False),
    compile="off",
    validate_every=0,
)
CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    network = NetworkConfig(width=4, depth=2)
    return train_experts(IMAGES, LABELS, num_classes=3, network=network, config=TRAINING, seed=5, folder=tmp_path)


def continuations(files: list[Path], count: int = 3, **changes: object) -> Continuations:
    given = {"training": TRAINING, "real": (IMAGES, LABELS), "epochs": EPOCHS, "count": count, "device": CPU}
    return Continuations(Experts(files), **(given | changes))  # type: ignore[arg-type]


def make(files: list[Path], config: DistillConfig, *, real: bool = True) -> DistillResult:
    problem = DistillProblem(
        files,
        class_names=("a", "b", "c"),
        normalisation=Normalisation(),
        training=TrainingConfig(),
        seed=0,
        real=(IMAGES, LABELS) if real else None,
        expert_training=TRAINING if real else None,
    )
    return distill(problem, config)


def test_a_continuation_is_plain_sgd_from_the_snapshot_with_momentum_at_rest(files: list[Path]) -> None:
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0))
    generator = stream(9)
    begin = experts.members[1].snapshot(1)
    *_, (found, losses) = train_further(IMAGES, LABELS, network, TRAINING, begin[None], EPOCHS, [generator])
    theta, velocity, generator, gradient = begin.clone(), torch.zeros_like(begin), stream(9), gradient_function(network)
    for _ in range(EPOCHS):
        order = torch.randperm(24, generator=generator).view(3, 8)
        strengths = [draw(8, generator) for _ in order]
        for index, strength in zip(order, strengths, strict=True):
            velocity = (
                0.5 * velocity + gradient(theta, augment(IMAGES[index], TRAINING.augment, strength), LABELS[index])[1]
            )
            theta = theta - 0.05 * velocity
    torch.testing.assert_close(found[0], theta, rtol=1e-5, atol=1e-7)
    assert losses.shape == (1,)
    assert torch.equal(begin, experts.members[1].snapshot(1))


def test_side_by_side_equals_one_after_another(files: list[Path]) -> None:
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0))
    begin = experts.members[0].snapshot(1)
    *_, (both, _) = train_further(
        IMAGES, LABELS, network, TRAINING, begin.expand(2, -1), EPOCHS, [stream(1), stream(2)]
    )
    for order in (1, 2):
        *_, (alone, _) = train_further(IMAGES, LABELS, network, TRAINING, begin[None], EPOCHS, [stream(order)])
        torch.testing.assert_close(both[order - 1], alone[0], rtol=1e-4, atol=1e-6)


def test_mean_and_variance_are_those_of_the_ends(files: list[Path]) -> None:
    made = continuations(files)
    spread = made(1, 1)
    ends = made.ends(made.experts.members[1], 1, range(3))
    assert float((ends[0] - ends[1]).abs().max()) > 1e-3  # the orders differ
    torch.testing.assert_close(spread.mean, (ends[0] + ends[1] + ends[2]) / 3)
    centred = ends - spread.mean
    torch.testing.assert_close(spread.variance, centred.square().sum(0) / 2)
    few = continuations(files, count=2)(1, 1)
    torch.testing.assert_close(few.mean, (ends[0] + ends[1]) / 2)  # more of them are the same ones and others


def test_the_mean_of_many_is_nearer_to_further_ones_than_one_is(files: list[Path]) -> None:
    made = continuations(files)
    ends = made.ends(made.experts.members[0], 0, range(9))
    mean, others = ends[:6].mean(0), ends[6:]
    by_mean = float((others - mean).square().sum(1).mean())
    by_one = float((others[:, None] - ends[None, :6]).square().sum(2).mean())
    assert by_mean < 0.75 * by_one  # (1 + 1/6) / 2 of the variance expected


def test_files_are_private_used_again_and_made_anew_for_others(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = continuations(files)(0, 1)
    path = continuation_file(files[0], 1, EPOCHS, 3)
    assert path.parent == files[0].parent / "continuations"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    _, header = load_tensors(path)
    assert header["expert_digest"] == Experts(files).members[0].header["digest"]
    assert (header["expert"], header["start"], header["epochs"], header["count"]) == (0, 1, EPOCHS, 3)
    with monkeypatch.context() as patch:
        patch.setattr(Continuations, "ends", lambda *_: pytest.fail("trained again"))
        again = continuations(files)(0, 1)
    assert torch.equal(first.mean, again.mean)
    assert torch.equal(first.variance, again.variance)
    path.write_bytes(path.read_bytes()[:-4])  # damaged: made again, with the same bytes
    repaired = continuations(files)(0, 1)
    assert torch.equal(first.mean, repaired.mean)
    load_tensors(path)
    other = train_experts(
        IMAGES,
        LABELS,
        num_classes=3,
        network=NetworkConfig(width=4, depth=2),
        config=TRAINING,
        seed=6,
        folder=files[0].parent,
    )
    assert not torch.equal(continuations(other)(0, 1).mean, first.mean)  # the file of the former expert is not used


@pytest.mark.parametrize(
    "changes",
    [
        {"training": dataclasses.replace(TRAINING, lr=0.04)},
        {"training": dataclasses.replace(TRAINING, rho=0.01)},
        {"real": (IMAGES + 1, LABELS)},
    ],
)
def test_experts_of_other_images_or_settings_are_refused(files: list[Path], changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="other images or by other settings"):
        continuations(files, **changes)


def test_experts_with_differential_privacy_are_refused(files: list[Path]) -> None:
    private = dataclasses.replace(TRAINING, dp=DPConfig(enabled=True, noise_multiplier=1.0))
    with pytest.raises(ConfigError, match="without the privacy mechanism"):
        continuations(files, training=private)


def test_the_line_by_hand(files: list[Path]) -> None:
    experts = Experts(files)
    theta = [experts.members[0].snapshot(epoch) for epoch in range(5)]
    for span, start, expected in ((0, 0, theta[0] + (theta[4] - theta[0]) / 2), (0, 2, theta[4]), (3, 1, None)):
        begin, target = StraightLine(experts, 2, span)(0, start)
        wanted = theta[1] + 2 / 3 * (theta[4] - theta[1]) if expected is None else expected
        assert torch.equal(begin, theta[start])
        torch.testing.assert_close(target, wanted)


def test_each_target_is_what_the_student_is_compared_with(files: list[Path]) -> None:
    experts = Experts(files)
    made = {name: dataclasses.replace(MTT, target=name) for name in ("expert", "mean_continuation", "line")}
    spreads = continuations(files, count=4)
    targets = {name: make_targets(experts, config, spreads)(1, 1)[1] for name, config in made.items()}
    assert torch.equal(targets["expert"], experts.members[1].snapshot(3))
    assert torch.equal(targets["mean_continuation"], spreads(1, 1).mean)
    results = {name: make(files, config) for name, config in made.items()}
    losses = {name: [entry["loss"] for entry in result.history] for name, result in results.items()}
    assert len({tuple(loss) for loss in losses.values()}) == 3
    assert results["line"].distilled.recipe["distill"]["target"] == "line"


def test_a_mean_needs_the_real_images(files: list[Path]) -> None:
    config = dataclasses.replace(MTT, target="mean_continuation")
    assert config.requires_real
    with pytest.raises(ConfigError, match="needs the real images"):
        make(files, config, real=False)
    assert not dataclasses.replace(
        config, objective="kernel", importance=ImportanceConfig(enabled=False)
    ).continues_experts


def test_the_snapshot_and_its_target_may_not_be_equal(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    spreads = continuations(files)
    still = dataclasses.replace(spreads(0, 0), mean=spreads.experts.members[0].snapshot(0))
    monkeypatch.setattr(Continuations, "__call__", lambda *_: still)
    with pytest.raises(IngestError, match="mean of its continuations"):
        make_targets(Experts(files), dataclasses.replace(MTT, target="mean_continuation"), spreads)(0, 0)


def test_weights_by_inverse_variance_are_frozen_and_high_where_continuations_agree(files: list[Path]) -> None:
    config = dataclasses.replace(MTT, importance=ImportanceConfig(kind="inverse_variance", variance_floor=0.5))
    result = make(files, config)
    experts = Experts(files)
    layout = ParameterLayout.of(experts.architecture.make_network(stream(0)))
    w = torch.cat([result.distilled.importance[name].flatten() for name in layout.names]).double()
    made = continuations(files, count=4)
    pairs = [(number, start) for number in range(2) for start in range(2)]
    variance = sum(
        made(number, start).variance.double()
        / (made(number, start).mean - experts.members[number].snapshot(start)).double().square().sum()
        for number, start in pairs
    ) / len(pairs)
    assert isinstance(variance, torch.Tensor)
    moving = experts.moving(layout)
    square = 1 / (variance + 0.5 * variance[moving].mean())
    square = square / square[moving].mean()
    torch.testing.assert_close(w.square()[moving], square[moving], rtol=1e-4, atol=1e-6)
    assert float(w.std()) > 0.05
    assert len({entry["effective_sample_size"] for entry in result.history}) == 1


def test_weights_by_the_real_loss_learn_and_need_the_real_images(files: list[Path]) -> None:
    importance = ImportanceConfig(kind="hypergradient", lr=0.5)
    config = dataclasses.replace(MTT, importance=importance)
    assert config.requires_real
    assert config.optimizes_on_real
    learned, frozen = (
        make(files, dataclasses.replace(config, importance=dataclasses.replace(importance, lr=lr))) for lr in (0.5, 0.0)
    )
    assert learned.history[0]["loss"] == frozen.history[0]["loss"]
    assert learned.history[0]["effective_sample_size"] < frozen.history[0]["effective_sample_size"] == 1
    again = make(files, config)
    assert torch.equal(again.distilled.images, learned.distilled.images)
    with pytest.raises(ConfigError, match="needs the real images"):
        make(files, config, real=False)


def test_weights_by_the_real_loss_rest_between_their_updates(files: list[Path]) -> None:
    importance = ImportanceConfig(kind="hypergradient", lr=0.5, hypergradient_every=2)
    history = make(files, dataclasses.replace(MTT, importance=importance, outer_steps=4)).history
    spread = [entry["effective_sample_size"] for entry in history]
    assert spread[0] == spread[1] != spread[2] == spread[3]


def test_a_span_shorter_than_the_way_is_refused() -> None:
    with pytest.raises(ConfigError, match="line_epochs=1: must be 0 or >= expert_epochs=2"):
        DistillConfig(target="line", line_epochs=1, expert_epochs=2)
