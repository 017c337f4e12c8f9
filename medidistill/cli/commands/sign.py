"""`medidistill sign`: vouch for a bundle with a local key."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
    sign = add_command(
        commands,
        "sign",
        "sign a bundle with a local key",
        "Verifies a bundle and writes SHA256SUMS.sig, an Ed25519 signature of its checksums. "
        "The key stays where it is. An encrypted key is opened with the passphrase in MEDIDISTILL_SIGNING_PASSPHRASE.",
        "(umask 077; openssl genpkey -algorithm ed25519 -out site.key)\n"
        "  openssl pkey -in site.key -pubout -out site.pub\n"
        "  medidistill sign runs/first/bundle --key site.key",
    )
    sign.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `medidistill export` wrote")
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="Ed25519 private key, PEM, mode 0600")
    sign.set_defaults(handler=_sign)


def _sign(arguments: Namespace, stop: Any) -> None:
    from medidistill.export import require_verified, sign

    require_verified(arguments.bundle)
    print(f"signed by the key {sign(arguments.bundle, arguments.key)}")
