"""Files that travel with the package: ready-made configurations and the app.

An installed wheel carries them inside the package; a checkout keeps them beside it.
"""

from __future__ import annotations

from pathlib import Path

import medidistill
from medidistill.errors import ResourceError

__all__ = ["app_file", "preset_files", "schema_file"]


def _folder(packaged: str, checkout: str) -> Path:
    package = Path(medidistill.__file__).resolve().parent
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


def app_file() -> Path:
    """Return the Streamlit script of the app."""
    return _folder("_apps", "apps") / "streamlit_app.py"
