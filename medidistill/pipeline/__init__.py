"""The stages in order, from files to report, resumable: configuration file, run folder, stages.

The names below are imported on first use: `medidistill status` reads a run without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medidistill.extras import require_extra

if TYPE_CHECKING:
    from medidistill.pipeline.arms import methods
    from medidistill.pipeline.cleaning import clean
    from medidistill.pipeline.config_file import dump_config, environment_settings, load_config
    from medidistill.pipeline.resources import app_file, preset_files, schema_file
    from medidistill.pipeline.run_folder import RunFolder
    from medidistill.pipeline.runner import plan, run, train_shard, working
    from medidistill.pipeline.schema import config_schema, config_template
    from medidistill.pipeline.sinks import make_sinks
    from medidistill.pipeline.stages import stage_names
    from medidistill.pipeline.status import describe, read_status
    from medidistill.pipeline.stopping import GracefulShutdown
    from medidistill.pipeline.support import make_support_package

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
    "RunFolder": "run_folder",
    "GracefulShutdown": "stopping",
    "app_file": "resources",
    "clean": "cleaning",
    "config_schema": "schema",
    "config_template": "schema",
    "describe": "status",
    "dump_config": "config_file",
    "environment_settings": "config_file",
    "load_config": "config_file",
    "make_sinks": "sinks",
    "make_support_package": "support",
    "methods": "arms",
    "plan": "runner",
    "preset_files": "resources",
    "read_status": "status",
    "run": "runner",
    "schema_file": "resources",
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
