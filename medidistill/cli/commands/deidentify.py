"""`medidistill deidentify`: remove what identifies a patient from DICOM chest X-rays."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command
from medidistill.cli.private_output import beside
from medidistill.errors import ConfigError

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "deidentify",
        "de-identify a folder of DICOM chest X-rays",
        "Removes or replaces what identifies a patient (PS3.15 basic profile, dates moved by an offset a patient), "
        "reads each result again to check it, and lists in OUT/quarantine.csv what must not leave, by keyed names. "
        "The key comes from --key-file or MEDIDISTILL_DEIDENTIFY_KEY; whoever has it can recompute the pseudonyms.",
        "(umask 077; openssl rand -hex 32 > site.key)\n"
        "  medidistill deidentify xrays clean --key-file site.key --recipe site.yaml",
    )
    parser.add_argument("input", type=Path, metavar="IN", help="folder of DICOM files")
    parser.add_argument("output", type=Path, metavar="OUT", nargs="?", help="new or empty folder")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the secret key, readable by its owner alone")
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="YAML with the options and elements of this site")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="labels by path, SOP Instance UID or accession number: OUT/images/labels.csv gets them by the new paths",
    )
    parser.add_argument(
        "--locate", metavar="NAME", help="print the input file that a name in quarantine.csv stands for"
    )
    parser.set_defaults(handler=_deidentify, resume_hint="", private=beside("output"))


def _deidentify(arguments: Namespace, stop: GracefulShutdown) -> None:
    from medidistill.ingest import deidentify as clean

    key = clean.load_key(arguments.key_file)
    if arguments.locate:
        print(clean.locate(arguments.input, arguments.locate, key))
        return
    if arguments.output is None:
        raise ConfigError("OUT is missing: name a new or empty folder")
    config = clean.load_recipe(arguments.recipe) if arguments.recipe else clean.DeidentifyConfig()
    result = clean.deidentify_folder(
        arguments.input, arguments.output, config, key, labels=arguments.labels, progress=not arguments.quiet
    )
    images = arguments.output / "images"
    print(f"de-identified: {len(result.written)} images of {result.patients} patients in {images}")
    print(f"quarantined: {len(result.quarantine)}, see {arguments.output / 'quarantine.csv'}")
    if result.others:
        print(f"no images: {len(result.others)} other files, neither read nor copied")
    if result.labels is not None:
        print(f"labels: {result.labels.rows} of {len(result.written)} images, see {images / 'labels.csv'}")
        if result.labels.withheld:
            print(f"labels withheld: {result.labels.withheld}, which hold an identifier of their image")
    elif (table := arguments.input / "labels.csv").is_file():
        print(f"labels: none written; to carry those of {table} over, add --labels {table}")
