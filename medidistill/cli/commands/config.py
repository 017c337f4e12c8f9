"""`medidistill config`: schema, init, check, show."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command, add_settings

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "config",
        "write, check and show configurations",
        "`init` prints every setting with its help, to start a file from; `check` reads a file as a run would and says "
        "what is wrong; `show` prints what a run would use once file, environment and --set are put together; `schema` "
        "prints the JSON Schema for editors. Secrets have no setting: keys are read from files that their own options "
        "name.",
        "medidistill config init --config quick\n"
        "  medidistill config check mine.yaml\n"
        "  medidistill config show quick --set distill.ipc=10\n"
        "  medidistill config schema",
    )
    parser.add_argument("action", choices=("init", "check", "show", "schema"), metavar="ACTION")
    parser.add_argument("file", nargs="?", metavar="FILE", help="YAML file or the name of a ready-made one")
    parser.add_argument("--config", metavar="FILE", help="the same as FILE")
    add_settings(parser)
    parser.set_defaults(handler=_config)


def _config(arguments: Namespace, stop: Any) -> None:
    import json

    from medidistill.cli.shared import settings_of
    from medidistill.errors import ConfigError
    from medidistill.pipeline import config_schema, config_template, dump_config, load_config, schema_file
    from medidistill.pipeline.comparison.arms import methods
    from medidistill.pipeline.planning.named_files import check_named_files

    if arguments.action == "schema":
        print(json.dumps(config_schema(), indent=2))
        return
    file = arguments.file or arguments.config
    if arguments.action == "check" and file is None:
        raise ConfigError("config check: name the FILE to check")
    config = load_config(Path(file) if file else None, settings_of(arguments))
    if arguments.action == "init":
        print(config_template(config, schema_file().as_uri()), end="")
    elif arguments.action == "show":
        print(dump_config(config), end="")
    else:
        methods(config)
        check_named_files(config)
        print(f"{file}: good")
