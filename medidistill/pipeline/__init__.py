"""The stages in order, from files to report, resumable: configuration file, run folder, stages."""

from __future__ import annotations

from medidistill.pipeline import auditing, comparing, delivery, stages
from medidistill.pipeline.arms import methods
from medidistill.pipeline.cleaning import clean
from medidistill.pipeline.config_file import dump_config, environment_settings, load_config
from medidistill.pipeline.resources import app_file, preset_files, schema_file
from medidistill.pipeline.run_folder import RunFolder
from medidistill.pipeline.schema import config_schema, config_template
from medidistill.pipeline.sinks import make_sinks
from medidistill.pipeline.status import describe, read_status
from medidistill.pipeline.stopping import Stop
from medidistill.pipeline.support import make_support_package
from medidistill.pipeline.whole import plan, run, stage_names, train_shard, working

__all__ = [
    "RunFolder",
    "Stop",
    "app_file",
    "auditing",
    "clean",
    "comparing",
    "config_schema",
    "config_template",
    "delivery",
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
    "stages",
    "train_shard",
    "working",
]
