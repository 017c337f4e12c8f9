"""The stages in order, from files to report, resumable: configuration file, run folder, stages."""

from __future__ import annotations

from medidistill.pipeline import auditing, comparing, delivery, stages
from medidistill.pipeline.arms import methods
from medidistill.pipeline.cleaning import clean
from medidistill.pipeline.config_file import dump_config, load_config
from medidistill.pipeline.resources import app_file, preset_files
from medidistill.pipeline.run_folder import RunFolder
from medidistill.pipeline.status import describe, read_status
from medidistill.pipeline.stopping import Stop
from medidistill.pipeline.whole import run, working

__all__ = [
    "RunFolder",
    "Stop",
    "app_file",
    "auditing",
    "clean",
    "comparing",
    "delivery",
    "describe",
    "dump_config",
    "load_config",
    "methods",
    "preset_files",
    "read_status",
    "run",
    "stages",
    "working",
]
