"""Addresses of DICOMweb services, and where a token may go: never in the clear to another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medidistill.errors import ConfigError

if TYPE_CHECKING:
    import requests

__all__ = ["THIS_MACHINE", "authorize", "check_web_address"]

THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def check_web_address(url: str, token: str) -> None:
    """Refuse an address that names no service, or to which a token must not be sent.

    An address that is refused is not repeated: it may hold a password.

    Args:
        url: root of the service, for example https://pacs.example/dicom-web.
        token: bearer token; empty: none.

    Raises:
        ConfigError: no http or https address, or one with a user name; a token over http to another machine.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number
        host = None
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigError("--dicomweb: must be an address that begins with https:// or http:// and names a host")
    if "@" in parts.netloc:
        raise ConfigError(
            "--dicomweb: an address with a user name or a password is refused; state no user name, and pass a token "
            "apart from the address"
        )
    if token and parts.scheme == "http" and host not in THIS_MACHINE:
        raise ConfigError("--dicomweb: a token is only sent over https: over http it can be read on the way; use https")


def authorize(session: requests.Session, url: str, token: str) -> None:
    """Let a session send a token to an address that `check_web_address` passed; nothing where there is none."""
    if not token:
        return
    if urlsplit(url).scheme == "http":
        session.trust_env = False  # nor through a proxy
    session.headers["Authorization"] = f"Bearer {token}"  # requests takes it off where another host is named
