from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medidistill.config import (
    AugmentConfig,
    DistillConfig,
    ExpertConfig,
    ImportanceConfig,
    NetworkConfig,
    TrainingConfig,
)
from medidistill.distillation import (
    Callbacks,
    DistillProblem,
    DistillResult,
    MetaGradient,
    distill,
    train_experts,
    unroll,
)
from medidistill.distillation.state import DistillState
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.errors import ConfigError, DivergedError, IngestError, StoppedError
from medidistill.seeding import stream

MILD = AugmentConfig(shift=0.1, rotate=5, contrast=0.1)
CONFIG = DistillConfig(
    ipc=2,
    outer_steps=12,
    inner_steps=3,
    batch_size=4,
    expert_epochs=2,
    max_start=2,
    soft_labels=True,
    augment=MILD,
    checkpoint_every=4,
    validate_every=3,
    compile="off",
    basis="pixels",
)
COSINE = dataclasses.replace(CONFIG, basis="cosine")
MTT = dataclasses.replace(CONFIG, importance=ImportanceConfig(enabled=False))
LABELS = torch.arange(24) % 3
IMAGES = torch.randn(24, 1, 16, 16, generator=stream(0, "d")) + LABELS.view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    config = ExpertConfig(count=2, epochs=4, batch_size=8, lr=0.05)
    folder = tmp_path_factory.mktemp("experts")
    network = NetworkConfig(width=4, depth=2)
    return train_experts(IMAGES, LABELS, num_classes=3, network=network, config=config, seed=0, folder=folder)


def score(candidate: DistilledSet) -> float:
    """A deterministic stand-in for validation."""
    return -abs(float(candidate.images.std()) - 1.03)


Make = Callable[..., DistillResult]


@pytest.fixture
def make(experts: list[Path]) -> Make:
    def call(config: DistillConfig = CONFIG, **extra: Any) -> DistillResult:
        given: dict[str, Any] = {"seed": 0, "score": score, "class_names": ("a", "b", "c"), "experts": experts} | extra
        calls = Callbacks(given.pop("score"), given.pop("on_step", None))
        options = {name: given.pop(name) for name in ("folder", "resume", "device", "ranks") if name in given}
        problem = DistillProblem(normalisation=Normalisation(), training=TrainingConfig(), **given)
        return distill(problem, config, callbacks=calls, **options)

    return call


def test_same_seed_same_bytes_and_another_seed_others(make: Make, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make(folder=tmp_path / name, seed=seed)
    read = {name: (tmp_path / name / "distilled.safetensors").read_bytes() for name in "abc"}
    assert read["a"] == read["b"]
    assert read["a"] != read["c"]


def test_weights_of_one_are_exactly_mtt(make: Make) -> None:
    mtt = make(MTT)
    frozen = make(dataclasses.replace(CONFIG, importance=ImportanceConfig(lr=0.0)))
    learned = make()
    assert torch.equal(mtt.distilled.images, frozen.distilled.images)
    assert mtt.distilled.alpha == frozen.distilled.alpha
    assert [entry["loss"] for entry in mtt.history] == [entry["loss"] for entry in frozen.history]
    assert not torch.equal(mtt.distilled.images, learned.distilled.images)
    assert mtt.history[0]["loss"] == learned.history[0]["loss"]


@pytest.mark.parametrize("config", [CONFIG, MTT, COSINE], ids=["iadd", "mtt", "cosine"])
def test_adjoint_and_stored_graph_make_the_same_set(make: Make, config: DistillConfig) -> None:
    ours = make(config)
    reference = make(dataclasses.replace(config, gradient="stored"))
    torch.testing.assert_close(ours.distilled.images, reference.distilled.images, rtol=1e-3, atol=1e-4)
    assert ours.distilled.alpha == pytest.approx(reference.distilled.alpha, rel=1e-4)


@pytest.mark.parametrize("stop_at", [1, 3, 4, 6, 11])
@pytest.mark.parametrize(("optimizer", "basis"), [("adam", "cosine"), ("sgd", "pixels")])
def test_a_run_stopped_anywhere_goes_on_to_the_same_bytes(
    make: Make, tmp_path: Path, stop_at: int, optimizer: str, basis: str
) -> None:
    config = dataclasses.replace(CONFIG, image_optimizer=optimizer, basis=basis)
    make(config, folder=tmp_path / "whole")

    def stop(entry: dict[str, Any]) -> None:
        if entry["step"] == stop_at:
            raise StoppedError("stop", 15)

    with pytest.raises(StoppedError):
        make(config, folder=tmp_path / "cut", on_step=stop)
    assert (tmp_path / "cut" / "stopped.safetensors").is_file()
    steps: list[int] = []
    make(config, folder=tmp_path / "cut", resume=True, on_step=lambda entry: steps.append(entry["step"]))
    assert steps == list(range(stop_at + 1, 13))
    for name in ("distilled.safetensors", "evolution.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "cut" / "stopped.safetensors").exists()


def test_resume_refuses_the_checkpoint_of_another_configuration(make: Make, tmp_path: Path) -> None:
    make(folder=tmp_path)
    with pytest.raises(ConfigError, match=r"checkpoint.*other settings"):
        make(dataclasses.replace(CONFIG, lr_images=0.5), folder=tmp_path, resume=True)


def test_the_set_is_the_one_with_the_best_validation_score(make: Make) -> None:
    seen: list[DistilledSet] = []

    def ranked(candidate: DistilledSet) -> float:
        seen.append(candidate)
        return [0.2, 0.9, 0.9, 0.1][len(seen) - 1]

    result = make(score=ranked)
    scored = {entry["step"]: entry["score"] for entry in result.history if "score" in entry}
    assert scored == {3: 0.2, 6: 0.9, 9: 0.9, 12: 0.1}
    assert result.best_step == 6
    assert result.distilled.recipe["outer_step"] == 6
    assert torch.equal(result.distilled.images, seen[1].images)
    assert result.distilled.alpha == seen[1].alpha != seen[3].alpha


def test_without_a_score_the_last_step_is_taken(make: Make) -> None:
    result = make(score=None)
    assert result.best_step == 12
    assert torch.equal(result.distilled.images, result.evolution[-1][1])


class _Spoiled:
    """Replaces part of the gradient at given calls, by values that are not finite where nothing else is said."""

    def __init__(self, calls: set[int], value: float = float("nan"), part: str = "images") -> None:
        self.calls, self.value, self.part, self.count, self.true = calls, value, part, 0, unroll.adjoint_gradient

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        found = self.true(*args)
        spoiled = {self.part: getattr(found, self.part) * self.value}
        return dataclasses.replace(found, **spoiled) if self.count in self.calls else found


def test_a_non_finite_gradient_rolls_back_and_the_run_completes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({7}))
    result = make(folder=tmp_path)
    assert result.status == "completed"
    assert result.events == [{"step": 7, "problem": "nonfinite", "back_to": 4}]
    assert [entry["step"] for entry in result.history] == list(range(1, 13))
    assert bool(torch.isfinite(DistilledSet.load(tmp_path / "distilled.safetensors").images).all())


def test_a_step_tried_again_draws_anew(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled, plans = _Spoiled({1}), []

    def noted(*args: Any) -> MetaGradient:
        plans.append(args[5])
        return spoiled(*args)

    monkeypatch.setattr(unroll, "adjoint_gradient", noted)
    make(dataclasses.replace(CONFIG, outer_steps=1))
    first, second = plans
    assert not torch.equal(first.parameters, second.parameters)


def test_log_alpha_gets_alpha_times_the_gradient_of_alpha(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Adam hides the size of a gradient from every other test
    true, seen, applied = unroll.adjoint_gradient, [], []

    def noted(*args: Any) -> MetaGradient:
        seen.append(true(*args))
        return seen[-1]

    apply = DistillState.apply

    def watched(state: DistillState, gradients: dict[str, torch.Tensor]) -> None:
        applied.append(dict(gradients))
        apply(state, gradients)

    monkeypatch.setattr(unroll, "adjoint_gradient", noted)
    monkeypatch.setattr(DistillState, "apply", watched)
    make(dataclasses.replace(CONFIG, outer_steps=1))
    assert float(applied[0]["log_alpha"]) == pytest.approx(CONFIG.alpha * float(seen[0].alpha))
    # a softmax takes no notice of a shift of all logits of an image
    torch.testing.assert_close(applied[0]["logits"].sum(1), torch.zeros(6), atol=1e-6, rtol=0)
    assert float(applied[0]["logits"].abs().max()) > 0


def test_rates_are_halved_by_a_roll_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = dataclasses.replace(CONFIG, outer_steps=1, image_optimizer="adam")
    start = make(one).evolution[0][1]
    plain = make(one).evolution[-1][1]
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({1}))
    after = make(one).evolution[-1][1]
    # Adam's first step has the size of its rate wherever the gradient is not tiny
    assert float((after - start).abs().median() / (plain - start).abs().median()) == pytest.approx(0.5, abs=0.01)


def test_never_ending_trouble_ends_in_a_status_without_nan_on_disk(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled(set(range(6, 100)), float("inf")))
    result = make(folder=tmp_path)
    assert result.status == "nonfinite"
    assert len(result.events) == CONFIG.max_rollbacks
    saved = DistilledSet.load(tmp_path / "distilled.safetensors")
    assert bool(torch.isfinite(saved.images).all())


def test_a_loss_beyond_reason_is_divergence(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({2}, 1e6, "loss"))
    result = make(dataclasses.replace(CONFIG, outer_steps=3))
    assert result.status == "completed"
    assert result.events == [{"step": 2, "problem": "diverged", "back_to": 0}]


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_alpha_beyond_its_bounds_is_divergence(make: Make, monkeypatch: pytest.MonkeyPatch, direction: float) -> None:
    # Adam's first step moves log alpha by the rate, 100: exp(+-100) is finite, and no learning rate
    true = unroll.adjoint_gradient

    def pushed(*args: Any) -> MetaGradient:
        found = true(*args)
        return dataclasses.replace(found, alpha=found.alpha.abs() * direction)

    monkeypatch.setattr(unroll, "adjoint_gradient", pushed)
    result = make(dataclasses.replace(CONFIG, lr_alpha=100.0, max_rollbacks=1), score=None)
    assert result.status == "diverged"
    assert result.distilled.alpha == pytest.approx(CONFIG.alpha)


def test_giving_up_returns_the_best_set_and_says_which_step_it_is_of(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the best set, of step 6, is younger than the last checkpoint, of step 4
    config = dataclasses.replace(CONFIG, max_rollbacks=0)
    seen: dict[int, DistilledSet] = {}

    def rising(candidate: DistilledSet) -> float:
        seen[3 * (len(seen) + 1)] = candidate
        return float(len(seen))

    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({8}))
    result = make(config, score=rising, folder=tmp_path)
    assert (result.status, result.best_step) == ("nonfinite", 6)
    assert torch.equal(result.distilled.images, seen[6].images)
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({8}))
    unscored = make(config, score=None)
    assert unscored.best_step == unscored.distilled.recipe["outer_step"] == 4
    assert torch.equal(
        unscored.distilled.images, make(dataclasses.replace(config, outer_steps=4), score=None).distilled.images
    )


def test_a_roll_back_after_an_odd_stop_returns_to_the_same_step(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({7}))
    whole = make(folder=tmp_path / "whole")

    def stop(entry: dict[str, Any]) -> None:
        if entry["step"] == 6:
            raise StoppedError("stop", 15)

    monkeypatch.undo()
    with pytest.raises(StoppedError):
        make(folder=tmp_path / "cut", on_step=stop)
    monkeypatch.setattr(unroll, "adjoint_gradient", _Spoiled({1}))
    cut = make(folder=tmp_path / "cut", resume=True)
    assert cut.events == whole.events == [{"step": 7, "problem": "nonfinite", "back_to": 4}]
    for name in ("distilled.safetensors", "evolution.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_set_that_cannot_be_scored_is_passed_over(make: Make) -> None:
    answers = iter([DivergedError("no network"), float("nan"), 0.4, 0.3])

    def score_or_fail(candidate: DistilledSet) -> float:
        answer = next(answers)
        if isinstance(answer, DivergedError):
            raise answer
        return answer

    result = make(score=score_or_fail)
    assert {entry["step"]: entry["score"] for entry in result.history if "score" in entry} == {9: 0.4, 12: 0.3}
    assert result.best_step == 9


def test_a_checkpoint_beyond_the_last_step_is_refused_and_a_damaged_one_is_named(make: Make, tmp_path: Path) -> None:
    make(folder=tmp_path)
    with pytest.raises(ConfigError, match=r"is at step 12, distill\.outer_steps=8"):
        make(dataclasses.replace(CONFIG, outer_steps=8), folder=tmp_path, resume=True)
    assert len(make(dataclasses.replace(CONFIG, outer_steps=14), folder=tmp_path, resume=True).history) == 14
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(IngestError, match=r"checkpoint.*damaged.*delete it"):
        make(folder=tmp_path, resume=True)


@pytest.mark.parametrize("change", [{"lr_schedule": "cosine"}, {"start_growth": 0.5}], ids=["cosine", "growth"])
def test_a_schedule_over_all_steps_is_not_gone_on_with_when_they_grow(
    make: Make, tmp_path: Path, change: dict[str, Any]
) -> None:
    config = dataclasses.replace(CONFIG, **change)
    make(config, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"checkpoint.*other settings"):
        make(dataclasses.replace(config, outer_steps=14), folder=tmp_path, resume=True)


def test_start_from_real_images_is_asked_for_and_recorded(make: Make) -> None:
    real = dataclasses.replace(CONFIG, init="real")
    result = make(real, real=(IMAGES, LABELS))
    assert result.distilled.recipe["init"] == "real"
    start = result.evolution[0][1]
    assert all(any(torch.equal(image, source) for source in IMAGES) for image in start)
    assert make().distilled.recipe["init"] == "noise"
    with pytest.raises(ConfigError, match="needs the real images"):
        make(real)
    with pytest.raises(ConfigError, match=r"ipc=9.*only 8"):
        make(dataclasses.replace(real, ipc=9), real=(IMAGES, LABELS))
    with pytest.raises(ConfigError, match="prepare them alike"):
        make(real, real=(IMAGES[..., :8, :8], LABELS))


def test_set_carries_what_a_receiver_needs(make: Make) -> None:
    result = make()
    ours = result.distilled
    assert ours.training.lr == ours.alpha == pytest.approx(result.history[result.best_step - 1]["alpha"])
    assert ours.soft_labels is not None
    torch.testing.assert_close(ours.soft_labels.sum(1), torch.ones(6))
    assert set(ours.importance) == set(result.history[-1]["w"])
    assert ours.recipe["method"] == "iadd"
    hard = make(dataclasses.replace(MTT, soft_labels=False)).distilled
    assert hard.soft_labels is None
    assert hard.importance == {}


def test_several_segments_average_their_gradients(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    true, seen = unroll.adjoint_gradient, []

    def noted(*args: Any) -> MetaGradient:
        seen.append(true(*args))
        return seen[-1]

    monkeypatch.setattr(unroll, "adjoint_gradient", noted)
    config = dataclasses.replace(CONFIG, segments=2, outer_steps=1, image_optimizer="sgd", lr_images=3.0)
    result = make(config, score=None)
    first, second = seen
    assert not torch.equal(first.images, second.images)
    moved = result.evolution[-1][1] - result.evolution[0][1]
    torch.testing.assert_close(moved, -3.0 * (first.images + second.images) / 2, rtol=1e-3, atol=1e-6)
    assert result.history[0]["loss"] == pytest.approx((first.loss + second.loss) / 2)


def test_settings_must_fit_the_experts(make: Make) -> None:
    with pytest.raises(ConfigError, match="needs snapshot 5"):
        make(dataclasses.replace(CONFIG, max_start=4))
