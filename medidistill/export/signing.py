"""Ed25519 signatures of a bundle with a local key pair.

What is signed is `SHA256SUMS`, byte for byte, and so every file that it lists. The signature is 64 plain bytes:
`openssl pkeyutl -verify -rawin -pubin -inkey site.pub -in SHA256SUMS -sigfile SHA256SUMS.sig` checks it too.
A signature says who vouches only to somebody who got the public key by another way than with the bundle.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medidistill.errors import ConfigError
from medidistill.export.sums import SIGNATURE, SUMS
from medidistill.extras import require_extra
from medidistill.files import write_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["PASSPHRASE", "sign", "signature_problem"]

PASSPHRASE = "MEDIDISTILL_SIGNING_PASSPHRASE"  # noqa: S105 (a name, not a secret)
_LENGTH = 64
_LARGEST_KEY = 65536


def sign(folder: Path, key_file: Path) -> str:
    """Write `SHA256SUMS.sig` into a bundle and return the fingerprint of the key. The caller has verified the bundle.

    Args:
        folder: the bundle.
        key_file: Ed25519 private key in PEM, readable by its owner alone.

    Raises:
        ConfigError: not such a key, others can read it, or the bundle is signed already.
        ResourceError: the signature cannot be written.
    """
    target = folder / SIGNATURE
    if os.path.lexists(target):
        raise ConfigError(f"{target}: exists; the bundle is signed already, remove the file to sign it again")
    key = _private_key(Path(key_file))
    write_bytes(target, key.sign((folder / SUMS).read_bytes()))
    return fingerprint(key.public_key())


def signature_problem(folder: Path, public_key: Path | None) -> tuple[str, str]:
    """Check the signature of a bundle: `(problem, note)`, one of them or both empty.

    Args:
        folder: the bundle.
        public_key: Ed25519 public key in PEM, from a source that is trusted; None: the signature is not checked.

    Raises:
        ConfigError: the key file is not one, or `cryptography` is not installed.
    """
    file = folder / SIGNATURE
    present = file.is_file() and not file.is_symlink()
    if public_key is None:
        return "", "signed, not checked: give the signer's --public-key" if present else "not signed"
    key = _public_key(Path(public_key))
    if not present:
        return f"{SIGNATURE}: missing, the bundle is not signed", ""
    if file.stat().st_size != _LENGTH:
        return f"{SIGNATURE}: must be {_LENGTH} bytes, found {file.stat().st_size}", ""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(file.read_bytes(), (folder / SUMS).read_bytes())
    except InvalidSignature:
        return f"{SIGNATURE}: not made by this key for this {SUMS}", ""
    return "", f"signed by the key {fingerprint(key)}"


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the 32 bytes of a public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_KEY)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as a key ({error.strerror})") from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    data = _read(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others than its owner can read this key; run: chmod 600 {path}")
    require_extra("sign")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    passphrase = os.environ.get(PASSPHRASE, "").encode() or None
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError as error:
        encrypted = "is encrypted" in str(error)
        advice = f"it is encrypted: set {PASSPHRASE}" if encrypted else f"it is not encrypted: unset {PASSPHRASE}"
        raise ConfigError(f"{path}: {advice}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: not a private key in PEM, or a wrong passphrase{_HOW}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: must be an Ed25519 key, found {type(key).__name__}{_HOW}")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    data = _read(path)
    require_extra("sign")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path}: not a public key in PEM; make it with: openssl pkey -in KEY -pubout") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: must be an Ed25519 public key, found {type(key).__name__}")
    return key


_HOW = "; make one with: openssl genpkey -algorithm ed25519 -out KEY"
