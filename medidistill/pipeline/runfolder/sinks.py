"""Where a run's progress may go besides its own folder: Prometheus, TensorBoard, MLflow.

Each is off unless asked for, gets numbers and stage names only, and never stops the work.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from medidistill.errors import ConfigError, MedidistillError
from medidistill.extras import require_extra
from medidistill.files import write_text
from medidistill.results.run_status import RunStatus

__all__ = ["Mlflow", "PrometheusFile", "Sink", "TensorBoard", "make_sinks"]

_STATES = ("running", "stopped", "failed", "completed", "not_released")
_MLFLOW_STATES = {"completed": "FINISHED", "not_released": "FINISHED", "stopped": "KILLED"}


class Sink(Protocol):
    """Receives what a run says about itself."""

    def step(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of one step of a stage."""

    def status(self, status: RunStatus) -> None:
        """Take the status, about once a second and at each change of stage or state."""


class PrometheusFile:
    """Metrics in the text format, for the textfile collector of a node exporter.

    Args:
        path: the file, replaced as a whole; its name must end in `.prom`, and is the label `run`.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".prom":
            raise ConfigError(f"--prometheus {path}: the name must end in .prom, or no collector reads it")
        self._path = path

    def step(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Nothing: a scraper sees the status."""

    def status(self, status: RunStatus) -> None:
        """Write the file."""
        run, stage = _label(self._path.stem), _label(status.get("stage", ""))
        lines = [
            "# HELP medidistill_run_state 1 for the state that the run is in.",
            "# TYPE medidistill_run_state gauge",
        ]
        lines += [
            f'medidistill_run_state{{run="{run}",state="{state}"}} {int(status.get("state") == state)}'
            for state in _STATES
        ]
        gauges = {
            "stages_finished": ("Stages that have finished.", len(status.get("finished", ()))),
            "stages": ("Stages of the run.", len(status.get("stages", ()))),
            "stage_step": ("Units done in the stage at work.", status.get("step", 0)),
            "stage_total": ("Units of the stage at work; 0 where unknown.", status.get("total", 0)),
            "stage_eta_seconds": ("Estimated seconds left in the stage.", status.get("eta_seconds")),
            "exit_code": ("Exit code of the run, once it has ended.", status.get("exit_code")),
            "updated_timestamp_seconds": ("When this was written.", round(time.time(), 3)),
        }
        for name, (text, value) in gauges.items():
            if value is not None:
                label = f',stage="{stage}"' if name.startswith("stage_") else ""
                lines += [f"# HELP medidistill_{name} {text}", f"# TYPE medidistill_{name} gauge"]
                lines.append(f'medidistill_{name}{{run="{run}"{label}}} {value}')
        with contextlib.suppress(MedidistillError):
            # numbers and stage names alone, and the collector is another user
            write_text(self._path, "\n".join([*lines, ""]), mode=0o644)


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class TensorBoard:
    """Curves for TensorBoard: one scalar a figure, `stage/figure`.

    Args:
        folder: the log folder.
    """

    def __init__(self, folder: Path) -> None:
        require_extra("track")
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))

    def step(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{stage}/{name}", value, step)

    def status(self, status: RunStatus) -> None:
        """Flush at the end."""
        if status.get("state") != "running":
            self._writer.flush()


class Mlflow:
    """Figures in an MLflow run. Only numbers, stage names and the state are sent.

    Args:
        uri: the tracking server, for example `http://mlflow.hospital.example:5000`. MLflow 3 takes a folder
            (`file:///data/mlruns`) only with the environment variable MLFLOW_ALLOW_FILE_STORE=true.
        name: name of the MLflow run.

    Raises:
        ConfigError: MLflow is not installed, or does not take this address.
    """

    def __init__(self, uri: str, name: str) -> None:
        try:
            from mlflow.exceptions import MlflowException
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise ConfigError("--mlflow: not installed; pip install mlflow-skinny") from error
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name("medidistill")
            experiment = found.experiment_id if found else self._client.create_experiment("medidistill")
            self._run = self._client.create_run(experiment, run_name=name).info.run_id
        except MlflowException as error:
            raise ConfigError(f"--mlflow {uri}: MLflow refuses it: {error.message}") from error

    def step(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Log one point of each figure."""
        for name, value in figures.items():
            self._client.log_metric(self._run, f"{stage}/{name}", value, step=step)

    def status(self, status: RunStatus) -> None:
        """Close the MLflow run when the work has ended."""
        if status.get("state") != "running":
            ended = _MLFLOW_STATES.get(status.get("state", ""), "FAILED")
            self._client.set_terminated(self._run, ended)


def make_sinks(
    *, prometheus: Path | None = None, tensorboard: Path | None = None, mlflow: str | None = None, name: str = ""
) -> tuple[Sink, ...]:
    """Return the sinks that were asked for. Raises `ConfigError` where one is not installed."""
    sinks: list[Sink] = []
    if prometheus is not None:
        sinks.append(PrometheusFile(prometheus))
    if tensorboard is not None:
        sinks.append(TensorBoard(tensorboard))
    if mlflow is not None:
        sinks.append(Mlflow(mlflow, name))
    return tuple(sinks)
