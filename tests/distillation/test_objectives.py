"""The list of objectives agrees with the settings that choose from it."""

from __future__ import annotations

import dataclasses

import pytest

from medidistill.config import METHODS, DistillConfig, ImportanceConfig, RunConfig
from medidistill.config.fields import rules
from medidistill.distillation.objectives import OBJECTIVES, objective_kind
from medidistill.errors import ConfigError

CHOICES = rules(DistillConfig)["objective"].options


def test_every_choice_but_released_statistics_is_an_objective():
    assert set(OBJECTIVES) == set(CHOICES) - {"statistics"}
    with pytest.raises(ConfigError, match=r"objective='statistics' matches no experts"):
        objective_kind(DistillConfig(objective="statistics"))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_set_without_a_name_is_called_after_a_method_with_its_objective(objective):
    for importance in (ImportanceConfig(), ImportanceConfig(enabled=False)):
        config = DistillConfig(objective=objective, importance=importance)
        method = METHODS[objective_kind(config).method(config)]
        assert RunConfig().distill_by(method.name).objective == objective
    plain = dataclasses.replace(config, importance=ImportanceConfig(enabled=True))
    assert (objective_kind(plain).method(plain) == "iadd") == (objective == "trajectory")
