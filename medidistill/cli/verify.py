"""`medidistill verify` and `medidistill sign`: whether a bundle is as it was written, and who vouches for it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command
from medidistill.errors import IngestError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe both sub-commands."""
    verify = add_command(
        commands,
        "verify",
        "check a bundle",
        "Compares every file of a bundle with its checksums, the recipe with its schema and with the tensors, and the "
        "signature with a public key that you got by another way than with the bundle. Names each file that is "
        "missing, changed or extra; ends with exit code 3 if there is one.",
        "medidistill verify runs/first/bundle --public-key hospital.pub",
    )
    verify.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder that `medidistill export` wrote")
    verify.add_argument("--public-key", type=Path, metavar="FILE", help="Ed25519 public key of the signer, PEM")
    verify.set_defaults(handler=_verify)
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


def _verify(arguments: Namespace, stop: Any) -> None:
    from medidistill.export import examine

    found = examine(arguments.bundle, public_key=arguments.public_key)
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems:
        print(problem)
    if found.problems:
        raise IngestError(f"{arguments.bundle}: {len(found.problems)} problem(s), first: {found.problems[0]}")
    print(f"verified: {arguments.bundle}")


def _sign(arguments: Namespace, stop: Any) -> None:
    from medidistill.export import require_verified, sign

    require_verified(arguments.bundle)
    print(f"signed by the key {sign(arguments.bundle, arguments.key)}")
