"""`medidistill push`: the DICOM part of a bundle to an archive."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command, add_tls, number, tls_of
from medidistill.errors import ConfigError, PrivacyGateError
from medidistill.jsontypes import JsonObject  # a recipe of any version, checked by its schema

__all__ = ["add"]

_TOKEN = "MEDIDISTILL_DICOMWEB_TOKEN"  # noqa: S105 (a name, not a secret)


def add(commands: Any) -> None:
    """Describe the sub-command."""
    push = add_command(
        commands,
        "push",
        "send the DICOM part of a bundle to an archive",
        "Verifies a bundle and sends its Secondary Capture images, which are marked as synthetic, to a PACS (C-STORE) "
        "or a DICOMweb service (STOW-RS). Sending twice is safe: the identifiers follow from the content. A bundle "
        "that passed no privacy gate is refused; --unreleased sends it all the same. What is sent where is written "
        "into the log of releases, see `medidistill log`. Needs "
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
    push.add_argument(
        "--timeout", type=number(float, 0.1, 86_400), default=30.0, metavar="S", help="seconds to wait for an answer"
    )
    push.add_argument("--public-key", type=Path, metavar="FILE", help="send only what this key has signed")
    push.add_argument("--unreleased", action="store_true", help="send a bundle that no privacy gate released; logged")
    push.add_argument(
        "--log", type=Path, metavar="FILE", help="log of releases (default: that of the run, else beside the bundle)"
    )
    push.set_defaults(handler=_push)


def _push(arguments: Namespace, stop: Any) -> None:
    from medidistill.export import require_verified
    from medidistill.export.push import Peer, dicom_part, push_dicomweb, push_dimse
    from medidistill.files import sha256_file
    from medidistill.pipeline.release import release_log
    from medidistill.pipeline.runfolder.progress import Bar

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
    privacy = _privacy(arguments.bundle)
    if not privacy.get("released") and not arguments.unreleased:
        raise PrivacyGateError(
            f"{arguments.bundle}: not released: it passed no privacy gate and is for use inside; release it with "
            "`medidistill export --release`, or send it all the same with --unreleased"
        )
    files = dicom_part(arguments.bundle)
    log, where = arguments.log or release_log.log_of_bundle(arguments.bundle), arguments.pacs or arguments.dicomweb
    facts = {
        "bundle": sha256_file(arguments.bundle / "SHA256SUMS"),
        "set": privacy["set"],
        "released": bool(privacy.get("released")),
        "policy": privacy.get("policy", ""),
        "where": where,
    }
    release_log.note(log, "sending", **facts)
    with Bar("push", len(files), "image", not arguments.quiet) as bar:
        if peer is not None:
            sent = push_dimse(files, peer, bar.at)
        else:
            token = os.environ.get(_TOKEN, "")
            sent = push_dicomweb(files, arguments.dicomweb, token=token, on_sent=bar.at, timeout=arguments.timeout)
    for warning in sent.warnings:
        print(f"warning: {warning}")
    release_log.note(log, "sent", **facts, images=sent.files, present=sent.present)
    already = f", {sent.present} of them were there already" if sent.present else ""
    print(f"stored: {sent.files} images in {where}{already}")


def _privacy(bundle: Path) -> JsonObject:
    """Return what a verified bundle says of its release, and the digest of its set."""
    from medidistill.export import load
    from medidistill.privacy import set_digest

    loaded = load(bundle)
    section = loaded.facts.get("privacy")
    return {**(section if isinstance(section, dict) else {}), "set": set_digest(loaded)}


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"--pacs {text}: must be HOST:PORT, for example pacs.example:11112")
    return host.strip("[]"), int(port)
