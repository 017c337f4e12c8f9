"""Settings as the command line reads them: the environment is stronger than a file, and weaker than `--set`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from medidistill.config import RunConfig
from medidistill.pipeline import environment_settings, load_config

__all__ = ["effective_config"]


def effective_config(config: str | None = None, settings: Sequence[str] = ()) -> RunConfig:
    """Return the configuration that a job of the app will work with.

    Args:
        config: name or file of a configuration; None: the defaults.
        settings: as `--set` takes them.

    Raises:
        ConfigError: one of them is wrong, or a variable of the environment is.
    """
    return load_config(config, [*environment_settings(os.environ), *settings])
