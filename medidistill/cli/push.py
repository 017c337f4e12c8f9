"""`medidistill push`: the DICOM part of a bundle to an archive."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command, add_tls, tls_of
from medidistill.errors import ConfigError

__all__ = ["add"]

_TOKEN = "MEDIDISTILL_DICOMWEB_TOKEN"  # noqa: S105 (a name, not a secret)


def add(commands: Any) -> None:
    """Describe the sub-command."""
    push = add_command(
        commands,
        "push",
        "send the DICOM part of a bundle to an archive",
        "Verifies a bundle and sends its Secondary Capture images, which are marked as synthetic, to a PACS (C-STORE) "
        "or a DICOMweb service (STOW-RS). Sending twice is safe: the identifiers follow from the content. Needs "
        f"`pip install 'medidistill[pacs]'`; a bearer token for DICOMweb is read from {_TOKEN}.",
        "medidistill push runs/first/bundle --pacs pacs.example:11112 --called-aet ARCHIVE\n"
        "  medidistill push runs/first/bundle --dicomweb https://pacs.example/dicom-web",
    )
    push.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `medidistill export` wrote")
    place = push.add_mutually_exclusive_group(required=True)
    place.add_argument("--pacs", metavar="HOST:PORT", help="archive that speaks DIMSE")
    place.add_argument("--dicomweb", metavar="URL", help="root of a DICOMweb service")
    push.add_argument("--called-aet", default="ANY-SCP", metavar="AET", help="AE title of the archive")
    push.add_argument("--calling-aet", default="MEDIDISTILL", metavar="AET", help="our AE title")
    add_tls(push, "with --pacs: use TLS, trust this authority (PEM)", "certificate to show to an archive that asks")
    push.add_argument("--timeout", type=float, default=30.0, metavar="S", help="seconds to wait for an answer")
    push.add_argument("--public-key", type=Path, metavar="FILE", help="send only what this key has signed")
    push.set_defaults(handler=_push)


def _push(arguments: Namespace, stop: Any) -> None:
    from medidistill.export import require_verified
    from medidistill.export.push import Peer, dicom_part, push_dicomweb, push_dimse
    from medidistill.pipeline.progress import Bar

    peer = None
    if arguments.pacs:
        peer = Peer(
            *_address(arguments.pacs),
            called=arguments.called_aet,
            calling=arguments.calling_aet,
            timeout=arguments.timeout,
            tls=tls_of(arguments),
        )
    require_verified(arguments.bundle, public_key=arguments.public_key)
    files = dicom_part(arguments.bundle)
    with Bar("push", len(files), "image", not arguments.quiet) as bar:
        if peer is not None:
            warnings = push_dimse(files, peer, bar.at)
        else:
            token = os.environ.get(_TOKEN, "")
            warnings = push_dicomweb(files, arguments.dicomweb, token=token, on_sent=bar.at, timeout=arguments.timeout)
    for warning in warnings:
        print(f"warning: {warning}")
    print(f"stored: {len(files)} images in {arguments.pacs or arguments.dicomweb}")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--pacs {text}: must be HOST:PORT, for example pacs.example:11112")
    return host.strip("[]"), int(port)
