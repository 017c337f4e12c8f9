"""The stages in order, from files to report, resumable: configuration file, run folder, stages.

The names below are imported on first use: `medidistill status` reads a run without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medidistill.extras import require_extra

if TYPE_CHECKING:
    from medidistill.pipeline.comparison.arms import methods
    from medidistill.pipeline.config_io.config_file import dump_config, environment_settings, load_config
    from medidistill.pipeline.config_io.resources import app_file, preset_files, schema_file
    from medidistill.pipeline.config_io.schema import config_schema, config_template
    from medidistill.pipeline.runfolder.cleaning import clean
    from medidistill.pipeline.runfolder.run_folder import RunFolder
    from medidistill.pipeline.runfolder.sinks import make_sinks
    from medidistill.pipeline.runfolder.status import describe, read_status
    from medidistill.pipeline.runfolder.support import make_support_package
    from medidistill.pipeline.runner import plan, run, train_shard, working
    from medidistill.pipeline.stages import stage_names
    from medidistill.pipeline.stopping import GracefulShutdown

__all__ = [
    "GracefulShutdown",
    "RunFolder",
    "app_file",
    "clean",
    "config_schema",
    "config_template",
    "describe",
    "dump_config",
    "environment_settings",
    "load_config",
    "make_sinks",
    "make_support_package",
    "methods",
    "plan",
    "preset_files",
    "read_status",
    "run",
    "schema_file",
    "stage_names",
    "train_shard",
    "working",
]

_HOME = {
    "RunFolder": "runfolder.run_folder",
    "GracefulShutdown": "stopping",
    "app_file": "config_io.resources",
    "clean": "runfolder.cleaning",
    "config_schema": "config_io.schema",
    "config_template": "config_io.schema",
    "describe": "runfolder.status",
    "dump_config": "config_io.config_file",
    "environment_settings": "config_io.config_file",
    "load_config": "config_io.config_file",
    "make_sinks": "runfolder.sinks",
    "make_support_package": "runfolder.support",
    "methods": "comparison.arms",
    "plan": "runner",
    "preset_files": "config_io.resources",
    "read_status": "runfolder.status",
    "run": "runner",
    "schema_file": "config_io.resources",
    "stage_names": "stages",
    "train_shard": "runner",
    "working": "runner",
}


require_extra("run")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
