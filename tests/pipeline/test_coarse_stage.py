"""A set that is distilled at a smaller side first."""

from __future__ import annotations

import dataclasses

import pytest

from medidistill.config import ExpertConfig
from medidistill.errors import DivergedError
from medidistill.files import read_json
from medidistill.pipeline.stages.distill import distill
from medidistill.pipeline.stages.experts import experts

from .comparison_example import ready_run


def test_a_coarse_set_that_diverged_is_not_gone_on_from(tmp_path):
    run = ready_run(tmp_path / "run", arms=("full", "random", "mtt"), size=16, images=24)
    diverging = {"ipc": 1, "coarse": 2, "coarse_steps": 8, "outer_steps": 1, "inner_steps": 2, "max_start": 1}
    diverging |= {"expert_epochs": 1, "alpha": 0.5, "lr_alpha": 11.0, "max_rollbacks": 0, "validate_every": 0}
    config = dataclasses.replace(
        run.config,
        experts=ExpertConfig(count=1, epochs=2, batch_size=16),
        distill=dataclasses.replace(run.config.distill, **diverging),
    )
    run = dataclasses.replace(run, config=config)
    experts(run)
    for _ in range(2):
        with pytest.raises(DivergedError, match="distill mtt: diverged"):
            distill(run, "mtt")
        coarse = run.folder.distill("mtt") / "coarse"
        assert (coarse / "distilled.safetensors").is_file()
        assert read_json(coarse / "history.json")["status"] == "diverged"
    assert "distill/mtt" not in run.record.stages
