"""Options that several sub-commands share."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.config.fields import Range
from medidistill.tls import Tls

if TYPE_CHECKING:
    from medidistill.pipeline.config_io.config_file import Setting

__all__ = [
    "add_again",
    "add_command",
    "add_config",
    "add_machine",
    "add_output",
    "add_release_check",
    "add_settings",
    "add_tls",
    "machine_settings",
    "number",
    "tls_of",
]


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return what reads a number of an option; argparse names the option where it is none or out of range.

    Args:
        kind: int or float.
        low: the least that is allowed.
        high: the greatest.
    """
    allowed = Range(low, high)

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            raise argparse.ArgumentTypeError(f"{text}: must be a {'whole ' if kind is int else ''}number {allowed}")
        return value

    return read


def add_command(commands: Any, name: str, title: str, text: str, example: str) -> argparse.ArgumentParser:
    """Return the parser of a new sub-command, with its title, text and example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=title,
        description=textwrap.fill(text, 96),
        epilog=f"Example:\n  {example}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML file, or a ready-made one: demo, quick, standard, covid-cxr, private, paper (default: all defaults)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--output`, the run folder."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the run folder")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        metavar="NAME",
        help="float32 or bfloat16, the same as --set distill.precision",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change one setting, for example distill.ipc=10; may be repeated",
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add what a machine decides and results do not rest on, but for rounding."""
    group = parser.add_argument_group("this machine")
    group.add_argument("--threads", type=int, metavar="N", help="CPU cores used at once; 0: each stage chooses")
    group.add_argument("--device", choices=("cpu", "cuda", "auto"), metavar="NAME", help="cpu, cuda or auto")
    group.add_argument("--deterministic", action="store_const", const="true", help="repeat bit for bit, on a GPU too")


def add_release_check(parser: argparse.ArgumentParser) -> None:
    """Add `--no-release-check`."""
    parser.add_argument(
        "--no-release-check",
        action="store_const",
        const="false",
        dest="release_check",
        help="go on where the privacy gate would refuse the release whatever the audit finds; the same as "
        "--set privacy.release_check=false",
    )


def machine_settings(arguments: argparse.Namespace) -> list[Setting]:
    """Return the settings that the options of `add_machine`, `--precision` and `--no-release-check` stand for."""
    from medidistill.pipeline.config_io.config_file import Setting

    options = {name: (name, f"--{name}") for name in ("threads", "device", "deterministic")}
    options["precision"] = ("distill.precision", "--precision")
    options["release_check"] = ("privacy.release_check", "--no-release-check")
    given = {name: getattr(arguments, name, None) for name in options}
    return [
        Setting(f"{options[name][0]}={value}", options[name][1]) for name, value in given.items() if value is not None
    ]


def add_again(parser: argparse.ArgumentParser) -> None:
    """Add `--resume` and `--force`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--resume", action="store_true", help="continue the run that the output folder holds")
    group.add_argument("--force", action="store_true", help="delete the run that the output folder holds, start again")


def add_tls(parser: argparse.ArgumentParser | argparse._ArgumentGroup, authority: str, certificate: str) -> None:
    """Add the options of TLS, with what the authority and the certificate do for this sub-command."""
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help=authority)
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help=certificate)
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, where not in the same file")


def tls_of(arguments: argparse.Namespace) -> Tls:
    """Return what `add_tls` read. Raises `ConfigError`."""
    return Tls(arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
