"""`medidistill intake`: from a PACS to runs, with nobody watching."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.commands.receive import add_listening, listen, load_pacs
from medidistill.cli.options import add_command, add_machine, add_settings, add_tls, number, tls_of
from medidistill.cli.private_output import Private
from medidistill.errors import ConfigError, MedidistillError

if TYPE_CHECKING:
    from medidistill.pipeline import GracefulShutdown

__all__ = ["add"]

_ACTIONS = ("listen", "process", "purge")


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "intake",
        "X-rays from a PACS to runs, unattended",
        "`listen` takes what a PACS sends (C-STORE) into ROOT, study by study, for as long as it is let. `process` "
        "makes a batch of the studies that have settled (no association is sending of them, and --settle seconds of "
        "silence) and that a row of --labels names, de-identifies it, runs it and delivers the bundle. It goes on "
        "where an earlier process was stopped or killed, and removes images by age. `purge` removes the images of one "
        "batch. `medidistill status ROOT` says how all stands. Put `listen` into a service and `process` into a timer.",
        "medidistill intake listen /data/intake --bind 0.0.0.0 --from PACS\n"
        "  medidistill intake process /data/intake --key-file site.key --labels labels.csv --config standard",
    )
    parser.add_argument("action", choices=_ACTIONS, metavar="ACTION", help=", ".join(_ACTIONS))
    parser.add_argument("root", type=Path, metavar="ROOT", help="folder of the intake")
    parser.add_argument("batch", nargs="?", metavar="BATCH", help="with purge: its name, as `status` shows it")
    listening = parser.add_argument_group("listen")
    add_listening(listening)
    add_tls(
        listening, "take calls only from those that this authority vouches for (PEM)", "be called by TLS; show this"
    )
    listening.add_argument(
        "--from", action="append", default=[], metavar="AET", dest="callers", help="AE title that may send; repeatable"
    )
    listening.add_argument(
        "--count", type=number(int, 0), default=0, metavar="N", help="stop after N objects (default: never)"
    )
    listening.add_argument(
        "--idle", type=number(float, 0), default=0, metavar="S", help="stop after S seconds of silence"
    )
    processing = parser.add_argument_group("process")
    processing.add_argument("--labels", type=Path, metavar="CSV", help="labels by sop_instance_uid or accession_number")
    processing.add_argument("--key-file", type=Path, metavar="FILE", help="key of the de-identification")
    processing.add_argument("--recipe", type=Path, metavar="FILE", help="YAML of the de-identification")
    processing.add_argument(
        "--config", default="standard", metavar="FILE", help="YAML file, or a ready-made one (default: standard)"
    )
    processing.add_argument(
        "--settle", type=number(float, 0), default=600, metavar="S", help="seconds of silence (default: 600)"
    )
    processing.add_argument(
        "--min-studies", type=number(int, 1), default=1, metavar="N", help="smallest batch (default: 1)"
    )
    processing.add_argument("--deliver", type=Path, metavar="DIR", help="copy each bundle to DIR/BATCH")
    processing.add_argument("--unreleased", action="store_true", help="deliver what no privacy gate released; logged")
    processing.add_argument(
        "--keep-identified",
        type=number(float, 0),
        default=7,
        metavar="DAYS",
        help="received images, after delivery (default: 7)",
    )
    processing.add_argument(
        "--keep-clean",
        type=number(float, 0),
        default=30,
        metavar="DAYS",
        help="de-identified copies, likewise (default: 30)",
    )
    processing.add_argument("--retry", action="store_true", help="try again what failed with the same settings")
    processing.add_argument("--prometheus", type=Path, metavar="FILE.prom", help="metrics for a node exporter")
    add_settings(parser)
    add_machine(parser)
    parser.set_defaults(handler=_intake, private=Private(_errors, _sources))


def _errors(arguments: argparse.Namespace) -> Path:
    from medidistill.pipeline.runfolder.redaction import DETAILS

    return Path(arguments.root / DETAILS)


def _sources(arguments: argparse.Namespace) -> list[Path]:
    return [arguments.root / "spool", *arguments.root.glob("batches/*/identified")]


def _intake(arguments: argparse.Namespace, stop: GracefulShutdown) -> None:
    if arguments.batch is not None and arguments.action != "purge":
        raise ConfigError(f"intake {arguments.action}: takes no BATCH")
    {"listen": _listen, "process": _process, "purge": _purge}[arguments.action](arguments, stop)


def _listen(arguments: argparse.Namespace, stop: GracefulShutdown) -> None:
    load_pacs()
    from medidistill.files import private_umask
    from medidistill.ingest.pacs.receive import Receiver
    from medidistill.ingest.pacs.study_spool import StudySpool
    from medidistill.pipeline.unattended.intake_folder import IntakeFolder

    with private_umask():
        folder = IntakeFolder.create(arguments.root)
        with folder.locked("receiver") as mine:
            if not mine:
                raise ConfigError(f"{arguments.root}: another process listens for this intake")
            spool = StudySpool(folder.root)
            title, port, bind = arguments.ae_title, arguments.port, arguments.bind
            listen(Receiver(spool, title, port, bind, arguments.callers, tls_of(arguments)), arguments)
    print(f"received: {spool.count} objects in {spool.folder}")


def _process(arguments: argparse.Namespace, stop: GracefulShutdown) -> None:
    from medidistill.cli.shared import settings_of
    from medidistill.pipeline import load_config, make_sinks
    from medidistill.pipeline.unattended.intake import IntakeSettings, process
    from medidistill.pipeline.unattended.intake_folder import IntakeFolder

    if arguments.labels is None:
        raise ConfigError("--labels is missing: name the CSV of labels by sop_instance_uid or accession_number")
    settings = IntakeSettings(
        load_config(arguments.config, settings_of(arguments)),
        arguments.labels,
        key_file=arguments.key_file,
        recipe=arguments.recipe,
        settle=arguments.settle,
        smallest=arguments.min_studies,
        deliver=arguments.deliver,
        unreleased=arguments.unreleased,
        keep_identified=arguments.keep_identified,
        keep_clean=arguments.keep_clean,
        retry=arguments.retry,
    )
    done = process(
        IntakeFolder.open(arguments.root),
        settings,
        progress=not arguments.quiet,
        stop=stop,
        command=f"medidistill intake process --config {Path(arguments.config).name} ROOT",
        sinks=make_sinks(prometheus=arguments.prometheus),
    )
    for line in done.lines:
        print(line)
    if done.exit_code:
        held = sum("held up" in line for line in done.lines)
        error = MedidistillError(
            f"{held} of {len(done.lines)} batches held up; see `medidistill status {arguments.root}`"
        )
        error.exit_code = done.exit_code
        raise error


def _purge(arguments: argparse.Namespace, stop: GracefulShutdown) -> None:
    from medidistill.pipeline.unattended.intake import purge
    from medidistill.pipeline.unattended.intake_folder import IntakeFolder

    if arguments.batch is None:
        raise ConfigError("BATCH is missing: name the batch whose images are to be removed")
    for line in purge(IntakeFolder.open(arguments.root), arguments.batch):
        print(f"removed {line}")
