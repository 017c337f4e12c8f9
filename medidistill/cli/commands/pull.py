"""`medidistill pull`: fetch X-rays from a PACS."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from medidistill.cli.commands.receive import add_listening, load_pacs
from medidistill.cli.options import add_command, add_tls, tls_of
from medidistill.cli.private_output import beside
from medidistill.errors import IngestError

__all__ = ["add"]

_TOKEN = "MEDIDISTILL_DICOMWEB_TOKEN"  # noqa: S105 (the name of a variable)


def add(commands: Any) -> None:
    """Describe the sub-command."""
    parser = add_command(
        commands,
        "pull",
        "fetch X-rays from a PACS (C-MOVE or DICOMweb)",
        "Finds studies by date or by the accession numbers of a CSV and fetches their CR and DX series into FOLDER "
        "(mode 0700). By DIMSE the PACS sends to the address that it knows for --ae-title. By DICOMweb a bearer token "
        f"is taken from the environment variable {_TOKEN}.",
        "medidistill pull incoming --peer pacs.example.org:104 --peer-ae PACS --accessions labels.csv",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the objects go")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--peer", metavar="HOST:PORT", help="the PACS, by DIMSE")
    way.add_argument("--dicomweb", metavar="URL", help="the PACS, by DICOMweb")
    parser.add_argument("--peer-ae", default="ANY-SCP", metavar="AET", help="AE title of the PACS")
    add_listening(parser)
    add_tls(
        parser,
        "with --peer: query by TLS, trust this authority (PEM)",
        "with --tls-ca: our certificate; the images come back by TLS too",
    )
    parser.add_argument("--dates", default="", metavar="DATES", help="study dates: 20260101 or 20260101-20260331")
    parser.add_argument("--accessions", type=Path, metavar="CSV", help="table with a column accession_number")
    parser.add_argument(
        "--modality", action="append", default=[], metavar="NAME", help="repeatable (default: CR and DX)"
    )
    parser.set_defaults(handler=_pull, private=beside("folder", read=True))


def _pull(arguments: argparse.Namespace, stop: Any) -> None:
    load_pacs()
    from tqdm import tqdm

    from medidistill.ingest.pacs.pull import Peer, pull
    from medidistill.ingest.pacs.query import Query, read_accessions
    from medidistill.ingest.pacs.receive import Receiver
    from medidistill.ingest.pacs.spool import Spool
    from medidistill.ingest.pacs.web import pull_web

    accessions = read_accessions(arguments.accessions) if arguments.accessions else ()
    query = Query(arguments.dates, accessions, tuple(arguments.modality) or ("CR", "DX"))
    spool = Spool(arguments.folder)
    with tqdm(desc="fetching", unit="series", file=sys.stderr, disable=arguments.quiet) as bar:

        def at(done: int, total: int) -> None:
            bar.total, bar.n = total, done
            bar.refresh()

        if arguments.dicomweb:
            pulled = pull_web(arguments.dicomweb, query, spool, token=os.environ.get(_TOKEN, ""), on_series=at)
        else:
            tls = tls_of(arguments)
            peer = Peer.parse(arguments.peer, arguments.peer_ae, tls)
            with Receiver(spool, arguments.ae_title, arguments.port, arguments.bind, tls=tls) as receiver:
                pulled = pull(peer, query, receiver, at)
    if not pulled.series:
        raise IngestError("the PACS found no series for this query; check --dates, --accessions and --modality")
    print(f"received: {pulled.objects} objects of {pulled.series} series in {spool.folder}")
    if pulled.other:
        print(f"not asked for: {pulled.other} studies that do not match the query were answered and left there")
    if pulled.failed:
        raise IngestError(
            f"{pulled.failed} of {pulled.series} series did not come whole; does the PACS know the address of "
            f"{arguments.ae_title}? Run the same command again: what is there is kept"
        )
