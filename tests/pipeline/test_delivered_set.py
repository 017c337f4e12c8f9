"""The set that is handed over carries the training that validation chose, where validation may choose."""

from __future__ import annotations

import dataclasses

import pytest

from medidistill.api.result import Result
from medidistill.config import DPConfig, EvaluateConfig, ExpertConfig, RunConfig, TrainingConfig
from medidistill.distilled_set import DistilledSet
from medidistill.evaluate import ArmRun
from medidistill.pipeline import RunFolder
from medidistill.pipeline.comparison.arms import cell_file, delivery
from medidistill.pipeline.stages.export import delivered_set

from ..export.bundle_example import make_set

CHOSEN = TrainingConfig(steps=7, lr=0.123)
RUN = RunConfig(evaluate=EvaluateConfig(arms=("full", "mtt", "iadd")))


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    for method, score in (("mtt", 0.6), ("iadd", 0.8)):
        made = make_set(recipe={"method": method, "init": "noise"})
        made.save(folder.distill(method) / "distilled.safetensors")
        training = CHOSEN if method == "iadd" else TrainingConfig()
        ArmRun(method, "convnet", 0, training, 9, 3, (score,)).save(cell_file(folder, method, "convnet"))
    return folder


def test_the_delivered_set_has_the_training_of_its_cell_and_says_what_it_was_chosen_among(folder):
    found = delivered_set(RUN, folder, delivery(RUN, folder), DistilledSet.load)
    assert found.training == CHOSEN
    assert found.recipe == {"method": "iadd", "init": "noise", "chosen_among": {"iadd": 0.8, "mtt": 0.6}}
    named = dataclasses.replace(RUN, deliver="mtt")
    found = delivered_set(named, folder, delivery(named, folder), DistilledSet.load)
    assert (found.training, found.recipe) == (TrainingConfig(), {"method": "mtt", "init": "noise"})


def test_the_training_is_that_of_the_network_that_the_bundle_names(folder):
    training = TrainingConfig(steps=77)
    ArmRun("iadd", "resnet18", 0, training, 9, 3, (0.9,)).save(cell_file(folder, "iadd", "resnet18"))
    ArmRun("mtt", "resnet18", 0, training, 9, 3, (0.1,)).save(cell_file(folder, "mtt", "resnet18"))
    rules = dataclasses.replace(RUN.evaluate, architectures=("resnet18", "convnet"))
    both = dataclasses.replace(RUN, evaluate=rules)
    found = delivered_set(both, folder, delivery(both, folder), DistilledSet.load)
    assert (found.network.name, found.training) == ("convnet", CHOSEN)
    alone = dataclasses.replace(RUN, evaluate=dataclasses.replace(rules, architectures=("resnet18",)))
    assert delivered_set(alone, folder, delivery(alone, folder), DistilledSet.load).training == training


def test_a_set_that_was_not_evaluated_keeps_its_training(folder):
    for method in ("mtt", "iadd"):
        cell_file(folder, method, "convnet").unlink()
    found = delivered_set(RUN, folder, delivery(RUN, folder), DistilledSet.load)
    assert found.training == make_set().training


def test_where_experts_are_private_the_configured_training_stays(folder):
    private = dataclasses.replace(
        RUN, experts=ExpertConfig(dp=DPConfig(enabled=True, noise_multiplier=1.0)), deliver="iadd"
    )
    found = delivered_set(private, folder, delivery(private, folder), DistilledSet.load)
    assert found.training == make_set().training


def test_a_result_reads_the_delivered_set(folder):
    found = Result.read(folder, RUN).set
    assert (found.training, found.recipe["chosen_among"]) == (CHOSEN, {"iadd": 0.8, "mtt": 0.6})
