"""`medidistill pipelines`: the ready-made pipelines that travel with the package."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "pipelines",
        "list or copy the ready-made pipelines",
        "`list` prints the pipelines that this installation carries: cron and systemd, PACS intake, SLURM, Kubernetes, "
        "Airflow, container, processing module, several hospitals. `copy` writes the files of one into a new folder, "
        "where they can be edited. docs/pipelines.md says which one is for whom.",
        "medidistill pipelines list\n  medidistill pipelines copy nightly /usr/local/lib/medidistill",
    )
    parser.add_argument("action", choices=("list", "copy"), metavar="ACTION")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one to copy")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="new folder for its files")
    parser.set_defaults(handler=_pipelines)


def _pipelines(arguments: Namespace, stop: Any) -> None:
    from medidistill.errors import ConfigError, did_you_mean
    from medidistill.pipeline.config_io.resources import PIPELINES, copy_pipeline, pipeline_folders

    folders = pipeline_folders()
    if arguments.action == "list":
        if arguments.name is not None:
            raise ConfigError(f"pipelines list {arguments.name}: takes no further argument; use `copy` to get files")
        wide = max(map(len, folders))
        print("\n".join(f"{name:<{wide}}  {PIPELINES[name]}" for name in folders))
        return
    if arguments.name not in folders:
        what = f"pipelines copy {arguments.name or ''}".strip()
        guess = did_you_mean(arguments.name or "", folders)
        raise ConfigError(f"{what}: name one of {', '.join(folders)}{guess}")
    if arguments.folder is None:
        raise ConfigError(f"pipelines copy {arguments.name}: name the new folder for its files")
    for file in copy_pipeline(arguments.name, arguments.folder):
        print(file)
