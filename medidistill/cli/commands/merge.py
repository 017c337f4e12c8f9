"""`medidistill merge`: the bundles of several hospitals as one."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command, number
from medidistill.cli.private_output import beside
from medidistill.errors import ConfigError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    merge = add_command(
        commands,
        "merge",
        "put bundles of several hospitals together",
        "Verifies each bundle and writes one with the images, sources and provenances of all. Normalisation, network "
        "and image size must agree, and the licences must go together; if not, the difference is named and nothing is "
        "written. Classes are matched by name; where hospitals use other names or other sets of classes, a mapping "
        "file translates them (docs/bundle.md). With --evaluate, fresh networks trained on the merged set and on each "
        "part alone are scored on a folder of labelled X-rays, and the card shows the table.",
        "medidistill merge north/bundle south/bundle --output both --rename COVID=COVID-19 --evaluate xrays",
    )
    merge.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="two or more bundles")
    merge.add_argument("--output", type=Path, required=True, metavar="DIR", help="new folder for the merged bundle")
    merge.add_argument("--name", default="Merged distilled set", metavar="TEXT", help="title of its card")
    merge.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="call a class of a bundle by another name; may be repeated",
    )
    merge.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="YAML file that maps the classes of each bundle, see docs/bundle.md",
    )
    merge.add_argument("--evaluate", type=Path, metavar="DIR", help="labelled X-rays to score merged set and parts on")
    merge.add_argument(
        "--networks", type=number(int, 1, 1000), default=5, metavar="N", help="fresh networks a set (default: 5)"
    )
    merge.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="of the evaluation (default: 0)")
    merge.set_defaults(handler=_merge, private=beside("output"))


def _merge(arguments: Namespace, stop: Any) -> None:
    from medidistill.pipeline import from_bundle

    folder, comparison = from_bundle.merge(
        arguments.bundles,
        arguments.output,
        name=arguments.name,
        rename=dict(map(_pair, arguments.rename)),
        classes=arguments.classes,
        evaluate=arguments.evaluate,
        networks=arguments.networks,
        seed=arguments.seed,
        progress=not arguments.quiet,
    )
    if comparison is not None:
        print(comparison.to_markdown())
    print(folder)


def _pair(text: str) -> tuple[str, str]:
    old, sign, new = text.partition("=")
    if not sign or not old or not new:
        raise ConfigError(f"--rename {text}: must look like OLD=NEW")
    return old, new
