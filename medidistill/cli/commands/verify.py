"""`medidistill verify`: whether a bundle is as it was written, and who vouches for it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from medidistill.cli.options import add_command
from medidistill.errors import IngestError

__all__ = ["add"]


def add(commands: Any) -> None:
    """Describe the sub-command."""
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
