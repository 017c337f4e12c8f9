"""`medidistill demo`: the whole job on phantom X-rays."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_again, add_command, add_machine, add_release_check, add_settings
from medidistill.cli.private_output import IN_RUN
from medidistill.cli.shared import make_phantoms, resume_hint, run_all_stages, settings_of

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]

_DEMO_PATIENTS = 80  # in each class: enough for intervals that say something, seconds to draw


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "demo",
        "the whole job on phantom X-rays, a few minutes",
        "Makes phantom chest X-rays as DICOM studies of patients who do not exist, and does the whole job on them with "
        "the ready-made configuration `demo`: experts, two distillations, the comparison, bundle and report. Needs no "
        "network and no data.",
        "medidistill demo --output demo-output",
    )
    parser.add_argument("--output", type=Path, default=Path("demo-output"), metavar="DIR", help="default: demo-output")
    add_again(parser)
    add_settings(parser)
    add_machine(parser)
    add_release_check(parser)
    parser.set_defaults(handler=_demo, resume_hint=resume_hint, private=IN_RUN)


def _demo(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.config import PhantomConfig
    from medidistill.files import private_umask
    from medidistill.pipeline import load_config

    arguments.config = "demo"
    phantoms, output = arguments.output / "phantoms", arguments.output / "run"
    config = load_config("demo", settings_of(arguments))
    with private_umask():  # nobody's images, but a folder as a run on patients' would make it
        if not (phantoms / "labels.csv").is_file():
            make_phantoms(phantoms, PhantomConfig(patients_per_class=_DEMO_PATIENTS, seed=config.seed), arguments)
        run_all_stages(arguments, stop, config, phantoms, output)
