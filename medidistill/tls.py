"""TLS for DIMSE: one certificate authority, one certificate, either way of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medidistill.errors import ConfigError

if TYPE_CHECKING:
    import ssl

__all__ = ["Tls"]


@dataclass(frozen=True)
class Tls:
    """The PEM files of a connection; none: no TLS. At least TLS 1.2 (DICOM PS3.15 B.12).

    Args:
        authority: certificates of the authority that the other side's must come from.
        certificate: our certificate, with those between it and its authority.
        key: its private key, not encrypted; None: in the file of the certificate.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.key is not None and self.certificate is None:
            raise ConfigError("--tls-key: needs the certificate that it belongs to, --tls-cert")

    def client(self) -> ssl.SSLContext | None:
        """Return the context of who calls, None for no TLS. It checks the other side's certificate and host name.

        Raises:
            ConfigError: a certificate without an authority to check the answer by, or a file that is not usable.
        """
        import ssl  # slow to load, and most commands never need it

        if self.authority is None:
            if self.certificate is not None:
                raise ConfigError("--tls-cert: needs the authority of the other side as well, --tls-ca")
            return None
        return self._with_certificate(self._with_authority(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))

    def server(self) -> ssl.SSLContext | None:
        """Return the context of who is called, None for no TLS. With an authority, callers must show a certificate.

        Raises:
            ConfigError: an authority without a certificate to show, or a file that is not usable.
        """
        import ssl

        if self.certificate is None:
            if self.authority is not None:
                raise ConfigError("--tls-ca: to be called by TLS needs a certificate to show as well, --tls-cert")
            return None
        context = self._with_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        if self.authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context = self._with_authority(context)
        return context

    def _with_authority(self, context: ssl.SSLContext) -> ssl.SSLContext:
        import ssl

        try:
            context.load_verify_locations(self.authority)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"--tls-ca {self.authority}: no PEM file of certificates ({error})") from error
        return context

    def _with_certificate(self, context: ssl.SSLContext) -> ssl.SSLContext:
        import ssl

        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            try:
                # an encrypted key would ask at the terminal, where nobody sits
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"--tls-cert {self.certificate}, --tls-key {self.key or self.certificate}: no certificate with its "
                    f"key in PEM, without a password ({error})"
                ) from error
        return context
