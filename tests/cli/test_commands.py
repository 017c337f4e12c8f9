"""The one list of sub-commands, and that a module and a line are all that a new one needs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from medidistill.cli import commands as listed
from medidistill.cli import main, parser
from medidistill.cli.commands import COMMANDS
from medidistill.cli.options import add_command
from medidistill.cli.parser import make_parser
from medidistill.cli.private_output import private_file
from medidistill.errors import ConfigError

PUBLIC = {"app", "config", "log", "phantom", "pipelines", "push", "sign", "verify"}  # these read no patients' data
NEEDED = {
    "audit": ["RUN"],
    "clean": ["RUN"],
    "config": ["show"],
    "deidentify": ["IN", "OUT"],
    "intake": ["process", "ROOT"],
    "log": ["show", "LOG"],
    "merge": ["A", "B", "--output", "OUT"],
    "phantom": ["OUT"],
    "pipelines": ["list"],
    "pull": ["FOLDER", "--dicomweb", "https://pacs.example"],
    "push": ["BUNDLE", "--dicomweb", "https://pacs.example"],
    "status": ["RUN"],
    "support": ["RUN"],
}


def arguments_of(name: str, tmp_path: Path) -> list[str]:
    needed = NEEDED.get(name)
    if needed is not None:
        return [name, *needed]
    action = make_parser()._subparsers._group_actions[0].choices[name]
    typed = [name]
    for one in action._actions:
        if one.required:
            value = one.choices[0] if one.choices else str(tmp_path / one.dest)
            typed += [one.option_strings[0], value] if one.option_strings else [value]
    return typed


def test_the_list_names_every_module_once():
    modules = {path.stem for path in Path(listed.__file__).parent.glob("*.py")} - {"__init__"}
    assert sorted(COMMANDS) == sorted(modules)
    assert list(make_parser()._subparsers._group_actions[0].choices) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_handler_and_a_private_file_where_it_reads_patients_data(name, tmp_path):
    arguments = make_parser().parse_args(arguments_of(name, tmp_path))
    assert arguments.command == name
    assert callable(arguments.handler)
    assert (private_file(arguments) is None) == (name in PUBLIC)
    assert getattr(arguments, "shares_ranks", False) == (name in ("experts", "distill"))


def test_a_new_command_is_typed_helped_and_fails_as_the_others_do(monkeypatch, capsys):
    def add(commands):
        made = add_command(commands, "greet", "say hello", "Says hello.", "medidistill greet")
        made.add_argument("name")
        made.set_defaults(handler=greet)

    def greet(arguments, stop):
        if arguments.name == "nobody":
            raise ConfigError("name 'nobody': must be somebody")
        print(f"hello {arguments.name}")

    module = ModuleType("medidistill.cli.commands.greet")
    module.add = add  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(parser, "COMMANDS", (*COMMANDS, "greet"))
    assert main(["greet", "Ada"]) == 0
    assert capsys.readouterr().out == "hello Ada\n"
    assert main(["greet", "nobody"]) == 2
    assert capsys.readouterr().err == "medidistill: error: name 'nobody': must be somebody\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "say hello" in capsys.readouterr().out
