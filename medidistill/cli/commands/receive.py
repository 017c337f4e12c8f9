"""`medidistill receive`: wait for X-rays that a PACS sends."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medidistill.cli.options import add_command, add_tls, number, tls_of
from medidistill.cli.private_output import beside
from medidistill.errors import ResourceError
from medidistill.extras import require_extra

if TYPE_CHECKING:
    from medidistill.ingest.pacs.receive import Receiver

__all__ = ["add", "add_listening", "listen", "load_pacs"]


def load_pacs() -> None:
    """Check that the extra `pacs` is there. Raises `MissingExtraError`."""
    require_extra("pacs")


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "receive",
        "wait for X-rays that a PACS sends (C-STORE)",
        "Listens for CR and DX images and writes each into FOLDER (mode 0700) as it came, whole or not at all, under a "
        "name that tells nothing of the patient. Stops by Ctrl-C, after --count objects or after --idle seconds of "
        "silence. Without --tls-cert anybody on the way can read along. The folder is a source for `ingest`.",
        "medidistill receive incoming --bind 0.0.0.0 --port 11112 --ae-title MEDIDISTILL --from PACS",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the objects go")
    add_listening(parser)
    add_tls(parser, "take calls only from those that this authority vouches for (PEM)", "be called by TLS; show this")
    parser.add_argument(
        "--from", action="append", default=[], metavar="AET", dest="callers", help="AE title that may send; repeatable"
    )
    parser.add_argument(
        "--count", type=number(int, 0), default=0, metavar="N", help="stop after N objects (default: never)"
    )
    parser.add_argument(
        "--idle", type=number(float, 0), default=0, metavar="SECONDS", help="stop after this long without one"
    )
    parser.set_defaults(handler=_receive, private=beside("folder", read=True))


def add_listening(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the options of an AE that is sent to."""
    parser.add_argument("--ae-title", default="MEDIDISTILL", metavar="AET", help="our AE title (default: MEDIDISTILL)")
    parser.add_argument(
        "--port",
        type=number(int, 0, 65535),
        default=11112,
        metavar="N",
        help="port we listen on, 0: a free one (default: 11112)",
    )
    parser.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1, this machine alone")


def _receive(arguments: argparse.Namespace, stop: Any) -> None:
    load_pacs()
    from medidistill.ingest.pacs.receive import Receiver
    from medidistill.ingest.pacs.spool import Spool

    spool = Spool(arguments.folder)
    title, port, bind = arguments.ae_title, arguments.port, arguments.bind
    listen(Receiver(spool, title, port, bind, arguments.callers, tls_of(arguments)), arguments)
    print(f"received: {spool.count} objects in {spool.folder}")


def listen(receiver: Receiver, arguments: argparse.Namespace) -> None:
    """Let a receiver work until `--count` objects, `--idle` seconds of silence, or a signal.

    Raises:
        ResourceError: an object could not be written.
    """
    with receiver:
        if not arguments.quiet:
            print(f"listening as {receiver.title} on {receiver.bind} port {receiver.port}", file=sys.stderr, flush=True)
        spool = receiver.spool
        seen, last = 0, time.monotonic()
        while not (arguments.count and spool.count >= arguments.count):
            time.sleep(0.1)
            if receiver.failed:
                raise ResourceError(receiver.failed)
            if spool.count != seen:
                seen, last = spool.count, time.monotonic()
            if arguments.idle and time.monotonic() - last > arguments.idle:
                break
