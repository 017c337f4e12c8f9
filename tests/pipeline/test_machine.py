from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from medidistill.cli import main
from medidistill.cli.options import machine_settings
from medidistill.cli.parser import make_parser
from medidistill.config import DistillConfig, RunConfig
from medidistill.errors import ConfigError, as_known
from medidistill.pipeline import RunFolder
from medidistill.pipeline.planning.machine import device_named, set_up
from medidistill.record import RunRecord


@pytest.fixture
def untouched() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_a_process_is_set_up_as_the_configuration_says(untouched) -> None:
    assert set_up(RunConfig(threads=3, deterministic=True)) == torch.device("cpu")
    assert torch.get_num_threads() == 3
    assert torch.are_deterministic_algorithms_enabled()
    set_up(RunConfig())
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_gpu_that_is_not_there_is_refused_and_auto_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_named("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="device='cuda': torch sees no CUDA GPU here"):
        device_named("cuda")


def test_an_operation_that_cannot_repeat_itself_is_a_setting_to_change() -> None:
    known = as_known(
        RuntimeError("grid_sampler_2d_backward_cuda does not have a deterministic implementation, but ...")
    )
    assert isinstance(known, ConfigError)
    assert str(known).startswith("deterministic=true: grid_sampler_2d_backward_cuda cannot repeat itself")


def test_options_of_the_machine_are_settings() -> None:
    begin = ["--output", "out", "--threads", "3", "--device", "auto"]
    assert machine_settings(make_parser().parse_args(["experts", *begin])) == ["threads=3", "device=auto"]
    run = make_parser().parse_args(["run", *begin, "--deterministic", "--precision", "bfloat16"])
    assert machine_settings(run)[2:] == ["deterministic=true", "distill.precision=bfloat16"]
    assert machine_settings(make_parser().parse_args(["report", "--output", "out"])) == []


def test_a_run_goes_on_with_other_threads_and_device_but_not_another_precision(tmp_path) -> None:
    RunFolder.create(tmp_path, RunConfig(threads=1))
    RunFolder.create(tmp_path, RunConfig(threads=4, device="auto", deterministic=True), resume=True)
    other = RunConfig(distill=DistillConfig(precision="bfloat16"))
    record = RunRecord()
    record.stage("ingest", inputs="x")
    record.save(tmp_path / "record.json")
    with pytest.raises(ConfigError, match=r"differs from .* in distill\.precision"):
        RunFolder.create(tmp_path, other, resume=True)


def test_a_run_that_will_not_fit_is_refused_before_it_reads_or_writes_anything(tmp_path, capsys) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    arguments = ["run", "--input", str(source), "--output", str(out), "--quiet", "--set", "distill.ipc=100000"]
    assert main(arguments) == 5
    error = capsys.readouterr().err
    assert "distill/mtt: needs about" in error
    assert "try a smaller distill.batch_size" in error
    assert not out.exists()
    assert main([*arguments, "--set", "memory_check=false"]) == 3  # goes on, and finds no image
