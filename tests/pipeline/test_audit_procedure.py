"""The procedure that shadow runs repeat: what makes it fast changes nothing of what it makes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from medidistill.config import DistillConfig, ExpertConfig, NetworkConfig, TrainingConfig
from medidistill.distillation import train_experts
from medidistill.distilled_set import DistilledSet, Normalisation
from medidistill.pipeline.release import auditing
from medidistill.pipeline.release.auditing import Procedure, until_chosen
from medidistill.privacy.shadows import log_probabilities

DISTILL = DistillConfig(
    ipc=2, outer_steps=6, inner_steps=3, expert_epochs=2, max_start=2, validate_every=0, compile="off"
)


def procedure(scratch: Path, **changes: object) -> Procedure:
    values: dict[str, object] = {
        "network": NetworkConfig(width=4, depth=1),
        "experts": ExpertConfig(count=2, epochs=9, batch_size=8),
        "distillation": DISTILL,
        "training": TrainingConfig(steps=20, batch_size=6),
        "class_names": ("a", "b", "c"),
        "normalisation": Normalisation(),
        "scratch": scratch,
    }
    return Procedure(**(values | changes))  # type: ignore[arg-type]


def make(one: Procedure, seed: int = 3) -> DistilledSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(24, 1, 16, 16, generator=generator)
    return one(images, torch.arange(24) % 3, [str(i) for i in range(24)], seed)


def test_experts_are_trained_as_far_as_the_distillation_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = procedure(tmp_path)
    assert one._epochs == 3  # starts 0 and 1, two epochs on
    short = make(one)
    monkeypatch.setattr(Procedure, "_epochs", property(lambda self: self.experts.epochs))
    whole = make(one)
    assert torch.equal(short.images, whole.images)
    assert short.alpha == whole.alpha
    assert {name: w.tolist() for name, w in short.importance.items()} == {
        name: w.tolist() for name, w in whole.importance.items()
    }


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({}, 3),
        ({"max_start": 7}, 8),
        ({"soft_labels": True, "label_init": "expert"}, 9),  # labels start at the last snapshot
        ({"objective": "gradient"}, 9),
        ({"target": "mean_continuation"}, 3),
        ({"snapshot_weight": 1.0}, 9),  # features are matched at snapshots up to the last
        ({"target": "line"}, 9),  # its far end is the last snapshot
        ({"target": "line", "line_epochs": 4}, 5),
    ],
)
def test_how_far_that_is(tmp_path: Path, changes: dict[str, object], epochs: int) -> None:
    assert procedure(tmp_path, distillation=dataclasses.replace(DISTILL, **changes))._epochs == epochs


def test_finished_shadow_runs_of_either_speed_are_the_same_procedure(tmp_path: Path) -> None:
    assert procedure(tmp_path, compile=True).digest == procedure(tmp_path).digest


def test_a_set_that_begins_with_anothers_shares_its_experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Path] = []

    def on_training(*arguments: object, **named: object) -> list[Path]:
        before = len(list(Path(str(named["folder"])).glob("expert-*")))
        files: list[Path] = train_experts(*arguments, **named)  # type: ignore[arg-type]
        trained.extend(files[before:])
        return files

    first = procedure(tmp_path, distillation=dataclasses.replace(DISTILL, objective="snapshots"))
    one = procedure(
        tmp_path, first=first, distillation=dataclasses.replace(DISTILL, objective="kernel", soft_labels=True)
    )
    monkeypatch.setattr(auditing, "train_experts", on_training)
    make(one)
    assert len(trained) == 2  # not two for the set that it begins with and two more
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, 4),
        ({"outer_steps": 3}, 3),
        ({"lr_schedule": "cosine"}, 6),  # a schedule is laid out over all steps
        ({"start_growth": 0.5}, 6),
    ],
)
def test_a_shadow_ends_at_the_step_that_the_set_was_taken_from(changes: dict[str, object], steps: int) -> None:
    assert until_chosen(dataclasses.replace(DISTILL, **changes), 4).outer_steps == steps


@pytest.mark.parametrize(("coarse_steps", "kept"), [(0, 6), (5, 5)])
def test_the_steps_at_the_coarse_side_stay_as_many_as_in_the_run(coarse_steps: int, kept: int) -> None:
    plan = until_chosen(dataclasses.replace(DISTILL, coarse=2, coarse_steps=coarse_steps), 4)
    assert (plan.outer_steps, plan.at_coarse_side().outer_steps) == (4, kept)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_steps_give_the_same_scores_but_for_rounding(tmp_path: Path) -> None:
    images = torch.randn(40, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    found = [
        log_probabilities(make(procedure(tmp_path, compile=mode)), images, 2, 5, compile=mode) for mode in (False, True)
    ]
    assert float((found[0] - found[1]).abs().max()) < 1e-3
