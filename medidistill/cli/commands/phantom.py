"""`medidistill phantom`: chest X-rays of patients who do not exist."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, number
from medidistill.cli.shared import make_phantoms
from medidistill.config import PhantomConfig
from medidistill.config.fields import rules

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "phantom",
        "make phantom chest X-rays",
        "Writes phantom chest X-rays as DICOM studies with a labels.csv: three classes (normal, lobar pneumonia, "
        "bilateral peripheral opacities), several patients with several images, names that are plainly synthetic.",
        "medidistill phantom phantoms --patients-per-class 40",
    )
    parser.add_argument("folder", type=Path, metavar="OUT", help="new folder for the studies")
    defaults = PhantomConfig()
    for name in ("patients_per_class", "images_per_patient", "size", "monochrome1_share", "seed"):
        default = getattr(defaults, name)
        rule = rules(PhantomConfig)[name]
        assert rule.range is not None
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=number(rule.kind, rule.range.low, rule.range.high),
            default=default,
            metavar="X" if isinstance(default, float) else "N",
            help=f"{rule.help}, {rule.range} (default: {default})",
        )
    parser.set_defaults(handler=_phantom, resume_hint="")


def _phantom(arguments: Namespace, stop: GracefulShutdown) -> None:
    config = PhantomConfig(
        patients_per_class=arguments.patients_per_class,
        images_per_patient=arguments.images_per_patient,
        size=arguments.size,
        monochrome1_share=arguments.monochrome1_share,
        seed=arguments.seed,
    )
    print(make_phantoms(arguments.folder, config, arguments))
