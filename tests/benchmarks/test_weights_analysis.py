"""The analysis of W: correlations by hand, a tiny run from end to end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import weights_page
from benchmarks.weights_analysis import Measured, analyse, by_layer, correlations
from medidistill.config import DistillConfig, EvaluateConfig, ExpertConfig, NetworkConfig, RunConfig, TrainingConfig
from medidistill.distillation import Callbacks, DistillProblem, ImportanceWeights, distill, train_experts
from medidistill.distilled_set import LabelledImages
from medidistill.errors import ConfigError
from medidistill.files import write_text
from medidistill.networks import ParameterLayout
from medidistill.normalisation import Normalisation
from medidistill.pipeline import RunFolder, dump_config
from medidistill.pipeline.prepared import PreparedData
from medidistill.seeding import stream

LAYOUT = ParameterLayout.of(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)))
P = len(LAYOUT)


def measured() -> Measured:
    movement = torch.ones(P, dtype=torch.float64)
    movement[6:8] = 0.0  # the first layer's bias never moves
    return Measured(torch.arange(P).double(), movement, torch.arange(P).double().flip(0))


def test_layers_by_hand() -> None:
    first, bias, *_ = by_layer(LAYOUT, torch.arange(P).double(), measured())
    assert (first["name"], first["elements"], first["depth"]) == ("0.weight", 6, 0)
    assert first["residual_over_movement"] == pytest.approx(2.5)
    assert first["residual_spread"]["q95"] == pytest.approx(4.75)  # of 0, 1, ... 5
    assert first["w"]["median"] == pytest.approx(2.5)
    assert bias["residual_over_movement"] is bias["residual_spread"] is None


def test_correlations_leave_out_what_never_moves_and_what_is_constant() -> None:
    w = -torch.arange(P).double()
    w[6:8] = 100.0
    found = correlations(LAYOUT, w, measured())
    assert found["residual d^2"] == {"all": pytest.approx(-1.0), "within_layers": pytest.approx(-1.0)}
    assert found["Fisher information"]["all"] == pytest.approx(1.0)
    assert found["movement m^2"] == {"all": None, "within_layers": None}
    assert found["depth of the layer"]["within_layers"] is None
    assert found["depth of the layer"]["all"] < -0.9


@pytest.mark.parametrize("granularity", ["element", "tensor"])
def test_given_weights_are_where_w_begins(granularity: str) -> None:
    from medidistill.config import ImportanceConfig

    def made() -> ImportanceWeights:
        return ImportanceWeights(LAYOUT, ImportanceConfig(granularity=granularity), torch.ones(P, dtype=torch.bool))

    one, other = made(), made()
    one.s += torch.randn(len(one.s), generator=stream(0), dtype=torch.float64) * 0.2
    other.set_weights(one.by_name())
    torch.testing.assert_close(other.vector(), one.vector(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"weights\['1.bias'\]"):
        other.set_weights({name: value for name, value in one.by_name().items() if name != "1.bias"})


def test_a_run_is_analysed_from_end_to_end(tmp_path: Path) -> None:
    def split(name: str, count: int) -> LabelledImages:
        labels = torch.arange(count) % 2
        images = torch.rand(count, 1, 16, 16, generator=stream(0, name)) * 0.5 + labels.view(-1, 1, 1, 1) * 0.3
        return LabelledImages(images, labels, ("a", "b"), tuple(f"{name}-{i}" for i in range(count)))

    config = RunConfig(
        network=NetworkConfig(width=3, depth=1),
        experts=ExpertConfig(count=1, epochs=3, batch_size=8),
        distill=DistillConfig(
            ipc=1, outer_steps=4, inner_steps=2, max_start=2, expert_epochs=1, validate_every=2, compile="off"
        ),
        evaluate=EvaluateConfig(small_set_training=TrainingConfig(steps=2), bootstrap=100),
    )
    folder = RunFolder(tmp_path / "run")
    parts = {name: split(name, count) for name, count in (("train", 24), ("val", 6), ("test", 6))}
    read = SimpleNamespace(**parts, digest="d", normalisation=Normalisation(), write_tables=lambda folder: None)
    data = PreparedData.write(read, folder.ingest)  # type: ignore[arg-type]
    write_text(folder.config_file, dump_config(config))
    with pytest.raises(ConfigError, match="holds no set of iadd"):
        analyse(folder, 1, 1, 0)
    images = data.normalisation.apply(data.train.images)
    files = train_experts(
        images, data.train.labels, num_classes=2, network=config.network, config=config.experts, seed=0,
        folder=folder.experts,
    )  # fmt: skip
    problem = DistillProblem(files, ("a", "b"), data.normalisation, training=config.evaluate.small_set_training, seed=0)
    calls = Callbacks(score=lambda made: 0.5)
    distill(problem, config.distill, callbacks=calls, folder=folder.distill("iadd"))
    result = {"name": "tiny", **analyse(folder, segments=2, fisher_images=3, seeds=1)}
    assert result["layers"][0]["name"] == "features.0.weight"
    assert {entry["step"] for entry in result["over_time"]} == {2, 4}
    assert set(result["restart"]["scores"]) == {"mtt", "iadd", "frozen"}
    assert result["restart"]["frozen_minus_mtt"]["low"] is None
    text = weights_page.page([result])
    assert "| `classifier.weight` |" in text
    assert "Frozen minus `mtt`" in text
    made = weights_page.figures(result)
    for name, figure in made.items():
        assert f"pictures/{name}" in text
        figure.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
