"""Progress that goes elsewhere: numbers and stage names, and never the end of the work."""

from __future__ import annotations

import re

import pytest

from medidistill.config import RunConfig
from medidistill.errors import ConfigError
from medidistill.pipeline.runfolder.journal import Journal
from medidistill.pipeline.runfolder.run_folder import RunFolder
from medidistill.pipeline.runfolder.sinks import PrometheusFile, make_sinks


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "out", RunConfig())


def _work(folder, *sinks):
    journal = Journal(folder, "run", ("ingest", "experts"), sinks)
    journal.begin(())
    journal.stage_started("experts")
    journal.at(3, 10, "epoch", loss=0.25)
    return journal


def test_prometheus_file_is_in_the_text_format(folder, tmp_path):
    file = tmp_path / "night.prom"
    journal = _work(folder, PrometheusFile(file))
    journal.end(None)
    text = file.read_text()
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+\{(\w+="[^"]*",?)+\} [-\d.e+]+)')
    assert all(line.fullmatch(one) for one in text.splitlines())
    assert text.endswith("\n")
    assert 'medidistill_run_state{run="night",state="completed"} 1' in text
    assert 'medidistill_run_state{run="night",state="running"} 0' in text
    assert 'medidistill_exit_code{run="night"} 0' in text
    names = re.findall(r"# TYPE (\w+)", text)
    assert len(names) == len(set(names))


def test_prometheus_reads_it_where_its_client_is_installed(folder, tmp_path):
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    file = tmp_path / "night.prom"
    _work(folder, PrometheusFile(file)).end(None)
    families = {family.name for family in parser.text_string_to_metric_families(file.read_text())}
    assert "medidistill_run_state" in families


def test_a_name_that_no_collector_reads_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.prom"):
        make_sinks(prometheus=tmp_path / "x.txt")


def test_tensorboard_gets_every_figure(folder, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra `track` is not installed"
    )
    (sink,) = make_sinks(tensorboard=tmp_path / "logs")
    _work(folder, sink).end(None)
    found = accumulator.EventAccumulator(str(tmp_path / "logs"))
    found.Reload()
    (point,) = found.Scalars("experts/loss")
    assert (point.step, point.value) == (3, 0.25)


def test_mlflow_gets_every_figure(folder, tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path}/mlruns"
    (sink,) = make_sinks(mlflow=uri, name="night")
    _work(folder, sink).end(None)
    client = tracking.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("medidistill").experiment_id])
    assert run.data.metrics == {"experts/loss": 0.25}
    assert run.info.status == "FINISHED"


def test_an_address_that_mlflow_refuses_is_named(tmp_path, monkeypatch):
    pytest.importorskip("mlflow.tracking", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for uri in ("http://localhost:1", "nonsense://here"):
        with pytest.raises(ConfigError, match=rf"--mlflow {uri}: MLflow refuses it"):
            make_sinks(mlflow=uri)


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match="pip install mlflow-skinny"):
        make_sinks(mlflow="file:///nowhere")


class _Broken:
    def step(self, stage, step, figures):
        raise ConnectionError("gone")

    def status(self, status):
        return None


def test_a_tracker_that_is_gone_is_dropped_and_noted(folder):
    journal = _work(folder, _Broken())
    assert journal.sinks == ()
    journal.at(4, 10, "epoch", loss=0.2)
    assert '"event": "sink_lost", "sink": "_Broken", "error": "ConnectionError"' in folder.events_file.read_text()
