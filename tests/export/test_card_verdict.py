"""The verdict in a bundle: on its card, in its recipe, and absent from bundles of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medidistill.errors import ConfigError
from medidistill.export import load, verify
from medidistill.export.card import card_text
from medidistill.export.recipe import steps_behind
from medidistill.results.verdict import Verdict

from ..evaluate.verdict_example import criterion, good, verdict
from .bundle_example import write
from .test_verifying import change_recipe

WARNED = verdict([*good(), criterion(None)], warnings=("The site alone | tells the class.",))


@pytest.mark.parametrize("told", [verdict(good()), WARNED], ids=["green", "amber"])
def test_card_and_recipe_say_the_same_words(tmp_path: Path, told: Verdict) -> None:
    folder = write(tmp_path / "bundle", verdict=told)
    assert verify(folder) == []
    assert Verdict.from_dict(load(folder).facts["verdict"]) == told
    card = (folder / "README.md").read_text()
    assert card.index("May I train on this set") < card.index("What it is worth")
    for words in (told.sentence, *told.missing, *told.warnings, told.chosen_by):
        assert words in card
    assert (
        "| all real X-rays | AUROC | 0.800 | 0.800 | +0.005 [-0.020, +0.030] | lose less than 0.05 | 120 | yes |"
        in card
    )
    table = [line for line in card.splitlines() if line.startswith("| all real X-rays")]
    assert {line.count("|") for line in table} == {9}


def test_a_bundle_of_an_earlier_version_has_no_verdict_and_is_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "bundle", verdict=verdict(good()))
    recipe = json.loads((folder / "recipe.json").read_text())
    del recipe["verdict"]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    change_recipe(folder)
    assert verify(folder) == []
    assert "verdict" not in load(folder).facts
    assert "No verdict: this set was not compared" in card_text(recipe, "x.npz")


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        ({"outer_step": 0}, 0),
        ({"outer_step": 40, "distill": {"coarse": 1, "start_from": ""}}, 40),
        ({"outer_step": 0, "distill": {"coarse": 1, "start_from": "snapshots"}}, None),
        ({"outer_step": 0, "distill": {"coarse": 2, "start_from": ""}}, None),
        ({}, None),
    ],
)
def test_steps_before_those_of_the_recipe_are_not_overlooked(recipe: dict[str, object], steps: int | None) -> None:
    assert steps_behind(recipe) == steps


@pytest.mark.parametrize(("steps", "says"), [(0, False), (40, True)])
def test_the_card_of_a_drawn_set_does_not_say_that_it_was_optimised(tmp_path: Path, steps: int, says: bool) -> None:
    recipe = json.loads((write(tmp_path / "bundle") / "recipe.json").read_text())
    recipe["distillation"]["outer_step"] = steps
    recipe |= {"init": "mixture", "method": "mixture"}
    card = card_text(recipe, "x.npz")
    assert ("they were optimised, starting from draws of Gaussians of patient groups" in card) == says
    assert ("they are draws of a Gaussian for each group of alike patients, labelled by the experts." in card) != says


@pytest.mark.parametrize(
    "changes", [{"colour": "blue"}, {"sentence": ""}, {"criteria": [{}]}, {"missing": "much"}, {"test_patients": -1}]
)
def test_a_verdict_that_does_not_fit_the_schema_is_not_verified(tmp_path: Path, changes: dict) -> None:
    folder = write(tmp_path / "whole", verdict=verdict(good()))
    change_recipe(folder, verdict=verdict(good()).to_dict() | changes)
    assert any("$.verdict" in problem for problem in verify(folder))


def test_a_verdict_that_does_not_fit_the_schema_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"recipe.json: \$.verdict"):
        write(tmp_path / "bundle", verdict=verdict(good(), test_patients=-1))
