"""The secret key, and what is derived from it: pseudonyms, UIDs, date offsets, names of files.

Everything is HMAC-SHA256 of a labelled message (RFC 2104), so that without the key one can neither compute
nor try out a pseudonym, and the same key gives the same pseudonym in every run.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import stat
import uuid
from pathlib import Path

from medidistill.errors import ConfigError

__all__ = ["KEY_VARIABLE", "Key", "load_key"]

KEY_VARIABLE = "MEDIDISTILL_DEIDENTIFY_KEY"
_MIN_BYTES = 32
_MIN_DISTINCT = 8
_OFFSET_DAYS = (30, 3650)
_MAKE = "make one with: (umask 077; openssl rand -hex 32 > site.key)"


class Key:
    """A secret of a site; shows itself in no representation and cannot be pickled.

    Args:
        secret: at least 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _MIN_BYTES:
            raise ConfigError(f"the key has {len(secret)} bytes: must be >= {_MIN_BYTES}; {_MAKE}")
        if len(set(secret)) < _MIN_DISTINCT:
            raise ConfigError(f"the key repeats fewer than {_MIN_DISTINCT} different bytes; {_MAKE}")
        self._secret = secret

    def __repr__(self) -> str:
        return "Key(...)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written to files")

    def digest(self, label: str, message: str) -> bytes:
        """Return 32 bytes for a message of a kind."""
        return hmac.new(self._secret, f"{label}\x1f{message}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the key: 16 hexadecimal digits that do not reveal it."""
        return self.digest("fingerprint", "").hex()[:16]

    def token(self, label: str, message: str) -> str:
        """Return 16 hexadecimal digits for a message of a kind."""
        return self.digest(label, message).hex()[:16]

    def patient(self, identifier: str) -> str:
        """Return the pseudonym of a patient: ``P-`` and 16 hexadecimal digits."""
        return f"P-{self.token('patient', identifier.strip())}"

    def uid(self, original: str) -> str:
        """Return the UID below 2.25 (ITU-T X.667) that stands for another one."""
        return f"2.25.{uuid.UUID(bytes=self.digest('uid', original.strip())[:16], version=5).int}"

    def offset(self, identifier: str) -> datetime.timedelta:
        """Return how far a patient's dates move: 30 to 3650 days into the past."""
        low, high = _OFFSET_DAYS
        number = int.from_bytes(self.digest("date offset", identifier.strip())[:8], "big")
        return -datetime.timedelta(days=low + number % (high - low + 1))


def load_key(path: Path | None = None) -> Key:
    """Read the key from a file that its owner alone can read, or from MEDIDISTILL_DEIDENTIFY_KEY.

    Raises:
        ConfigError: no key, one that is too short or too simple, or a file that others can read.
    """
    if path is None:
        text = os.environ.get(KEY_VARIABLE, "")
        if not text:
            raise ConfigError(f"no key: name a file with --key-file or set {KEY_VARIABLE}; {_MAKE}")
        return Key(text.strip().encode("utf-8", "surrogateescape"))
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ConfigError(f"--key-file {path}: is no file; {_MAKE}")
        if mode & 0o077:
            raise ConfigError(f"--key-file {path}: others can read it (mode {mode & 0o777:03o}); chmod 600 {path}")
        return Key(path.read_bytes().strip())
    except FileNotFoundError as error:
        raise ConfigError(f"--key-file {path}: no such file; {_MAKE}") from error
    except OSError as error:
        raise ConfigError(f"--key-file {path}: cannot be read ({error.strerror})") from error
