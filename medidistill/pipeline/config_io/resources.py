"""Files that travel with the package: ready-made configurations and pipelines, and the app.

An installed wheel carries them inside the package; a checkout keeps them beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from medidistill.errors import ConfigError, ResourceError
from medidistill.files import write_bytes

__all__ = ["PIPELINES", "app_file", "copy_pipeline", "pipeline_folders", "preset_files", "schema_file"]

# Ready-made pipelines: folder -> what it is for.
PIPELINES: Mapping[str, str] = {
    "airflow": "DAG for Apache Airflow: one task a stage",
    "container": "Dockerfile: folder in, folder out, not root, no network",
    "kubernetes": "Jobs for a Kubernetes cluster, the experts in parallel",
    "mercure": "processing module for mercure and MONAI Deploy",
    "multi_hospital": "scripts for several hospitals: each distills, one place merges",
    "nightly": "one run a night by systemd or cron",
    "pacs": "intake by C-STORE from a PACS, de-identification, run",
    "slurm": "jobs for a SLURM cluster, the experts in parallel",
}


def _folder(packaged: str, checkout: str) -> Path:
    package = Path(__file__).resolve().parent.parent.parent
    for folder in (package / packaged, package.parent / checkout):
        if folder.is_dir():
            return folder
    raise ResourceError(f"{package / packaged}: not found; install medidistill again")


def preset_files() -> dict[str, Path]:
    """Return the ready-made configurations: name -> YAML file; those in a sub-folder as `folder/name`."""
    folder = _folder("_configs", "pipelines/configs")
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in sorted(folder.rglob("*.yaml"))}


def schema_file() -> Path:
    """Return the JSON Schema of the configuration, `config_schema` as a file for editors."""
    return _folder("_configs", "pipelines/configs") / "medidistill.schema.json"


def pipeline_folders() -> dict[str, Path]:
    """Return the ready-made pipelines that this installation carries: name -> folder."""
    folder = _folder("_pipelines", "pipelines")
    return {name: folder / name for name in PIPELINES if (folder / name).is_dir()}


def copy_pipeline(name: str, target: Path) -> list[Path]:
    """Copy the files of a ready-made pipeline; scripts stay executable. Returns the new files.

    Args:
        name: one of `pipeline_folders()`.
        target: new or empty folder.

    Raises:
        ConfigError: `target` holds something.
        ResourceError: it cannot be written.
    """
    source = pipeline_folders()[name]
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: exists and is not an empty folder; nothing is overwritten, name another")
    files = [path for path in sorted(source.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    written = []
    for file in files:
        content, new = file.read_bytes(), target / file.relative_to(source)
        write_bytes(new, content, mode=0o755 if content.startswith(b"#!") else 0o644)
        written.append(new)
    return written


def app_file() -> Path:
    """Return the Streamlit script of the app."""
    return _folder("_apps", "apps") / "streamlit_app.py"
