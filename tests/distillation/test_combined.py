"""Trajectories and features matched in one step: the sum of both, with the segments of plain trajectory matching."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import DistillConfig, ImportanceConfig, RunConfig
from medidistill.distillation import Callbacks, Experts, distill
from medidistill.distillation.objective import LearningObjective, Sample
from medidistill.distillation.objectives import ObjectiveInputs, make_objective
from medidistill.distillation.ranks import Ranks
from medidistill.distillation.unroll import InnerStep
from medidistill.distilled_set import DistilledSet
from medidistill.errors import ConfigError, StoppedError
from medidistill.networks import ParameterLayout
from medidistill.pipeline.stages.distill import _use_of
from medidistill.results.history import HistoryEntry
from medidistill.seeding import stream

from .feature_example import CPU, IMAGES, LABELS, MILD, make_experts, make_problem, make_state

PLAIN = DistillConfig(
    ipc=2,
    outer_steps=3,
    inner_steps=2,
    expert_epochs=1,
    max_start=2,
    augment=MILD,
    importance=ImportanceConfig(enabled=False),
    compile="off",
    validate_every=0,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_experts(tmp_path_factory.mktemp("experts"))


def sample(files: list[Path], config: DistillConfig, generator: torch.Generator) -> Sample:
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0, "layout"))
    layout, step = ParameterLayout.of(network), InnerStep(network)
    given = ObjectiveInputs(experts, config, step, layout, 0, CPU, False, (IMAGES, LABELS))
    return make_objective(given)(make_state(experts, config), generator)


def test_loss_and_gradient_are_those_of_both_and_the_rest_is_the_trajectory_s(files: list[Path]) -> None:
    both = sample(files, dataclasses.replace(PLAIN, snapshot_weight=0.5), stream(0, "step"))
    generator = stream(0, "step")
    segment = sample(files, PLAIN, generator)
    beside = sample(files, dataclasses.replace(PLAIN, objective="snapshots"), generator)
    assert both.loss == pytest.approx(segment.loss + 0.5 * beside.loss)
    torch.testing.assert_close(both.images, segment.images + 0.5 * beside.images)
    assert torch.equal(both.alpha, segment.alpha)
    assert both.parts is not None
    assert segment.parts is not None
    assert torch.equal(both.parts, segment.parts)


def test_a_set_is_made_with_it_and_differs_from_the_one_without(files: list[Path]) -> None:
    problem = make_problem(files, seed=3)
    with_features = distill(problem, dataclasses.replace(PLAIN, snapshot_weight=1.0)).distilled
    without = distill(problem, PLAIN).distilled
    assert with_features.recipe["method"] == without.recipe["method"] == "mtt"
    assert not torch.equal(with_features.images, without.images)


def test_features_are_read_of_real_images_and_the_data_access_log_says_so() -> None:
    config = dataclasses.replace(PLAIN, snapshot_weight=1.0)
    assert config.requires_real
    assert not PLAIN.requires_real
    assert _use_of(config) == "match_features"
    hypergradient = ImportanceConfig(kind="hypergradient")
    assert _use_of(dataclasses.replace(config, importance=hypergradient)) == "real_batches"


def test_draws_that_trajectories_refine_are_named_in_the_data_access_log() -> None:
    drawn = dataclasses.replace(PLAIN, init="gaussian")
    assert _use_of(drawn) == "fit_gaussians"
    assert _use_of(dataclasses.replace(drawn, snapshot_weight=1.0)) == "match_features"
    assert _use_of(dataclasses.replace(drawn, objective="snapshots")) == "match_features"
    assert _use_of(dataclasses.replace(drawn, objective="snapshots", outer_steps=0)) == "fit_gaussians"


def test_methods_of_other_objectives_take_no_notice_of_it() -> None:
    run = RunConfig(distill=dataclasses.replace(PLAIN, snapshot_weight=0.5))
    assert run.distill_by("mtt").requires_real
    assert not run.distill_by("dp_stats").requires_real
    assert run.distill_by("kernel").objective == "kernel"


def test_learned_feature_weights_go_on_from_a_checkpoint(files: list[Path], tmp_path: Path) -> None:
    config = dataclasses.replace(
        PLAIN, snapshot_weight=1.0, feature_weights="ascend", outer_steps=8, checkpoint_every=4
    )

    def run(folder: Path, stop_at: int = 0, resume: bool = False) -> DistilledSet:
        def on_step(entry: HistoryEntry) -> None:
            if entry["step"] == stop_at:
                raise StoppedError("stopped", 15)

        problem = make_problem(files, seed=3)
        return distill(problem, config, callbacks=Callbacks(on_step=on_step), folder=folder, resume=resume).distilled

    whole = run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", stop_at=6)
    assert torch.equal(run(tmp_path / "stopped", resume=True).images, whole.images)


def test_learned_feature_weights_are_refused_on_several_ranks_and_frozen_ones_are_not(files: list[Path]) -> None:
    config = dataclasses.replace(PLAIN, snapshot_weight=1.0, feature_weights="ascend", segments=2)
    with pytest.raises(ConfigError, match=r"feature_weights='ascend' on 2 ranks"):
        distill(make_problem(files, seed=3), config, ranks=Ranks(0, 2))
    experts = Experts(files)
    network = experts.architecture.make_network(stream(0, "layout"))
    frozen = dataclasses.replace(config, feature_weights="inverse_variance")
    for chosen, learns in ((config, True), (frozen, False)):
        layout, step = ParameterLayout.of(network), InnerStep(network)
        objective = make_objective(ObjectiveInputs(experts, chosen, step, layout, 0, CPU, False, (IMAGES, LABELS)))
        assert isinstance(objective, LearningObjective)
        assert objective.learns is learns
