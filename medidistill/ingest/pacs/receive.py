"""A C-STORE receiver (storage SCP) that spools CR and DX images into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from medidistill.dimse import SILENCE, end_when_silent
from medidistill.errors import ConfigError, ResourceError
from medidistill.ingest.pacs.spool import Spool
from medidistill.tls import Tls

__all__ = ["STORAGE", "Receiver", "check_title"]

STORAGE = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)
# PS3.4 B.2.3
_SUCCESS, _OUT_OF_RESOURCES, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000


def check_title(title: str, option: str) -> str:
    """Return an AE title that PS3.5 allows. Raises `ConfigError`."""
    if not 1 <= len(title.strip()) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ConfigError(f"{option} {title!r}: an AE title has 1 to 16 ASCII characters and no backslash")
    return title.strip()


@dataclass
class Receiver:
    """Listens while its `with` block runs; each object lies in the spool before the sender hears of success.

    An object is written as it came, byte for byte behind a new file header: nothing is decoded, and the reader
    judges it later. A title proves nothing about who calls: DICOM without TLS is for a closed network.

    Args:
        spool: where objects go.
        title: our AE title; calls to another one are refused.
        port: TCP port; 0: any free one, see `port` inside the block.
        bind: address to listen on.
        callers: AE titles that may send; empty: any.
        tls: with a certificate calls are taken by TLS alone, with an authority from those that it vouches for.
        silence: seconds without a byte within a message after which a caller is taken for gone.
        failed: the last reason why an object could not be stored; empty: none.
    """

    spool: Spool
    title: str = "MEDIDISTILL"
    port: int = 11112
    bind: str = "127.0.0.1"
    callers: Sequence[str] = ()
    tls: Tls = Tls()
    silence: float = SILENCE
    failed: str = ""

    def __enter__(self) -> Receiver:
        entity = AE(ae_title=check_title(self.title, "--ae-title"))
        entity.require_called_aet = True
        entity.require_calling_aet = [check_title(name, "--from") for name in self.callers]
        entity.add_supported_context(Verification)
        for uid in STORAGE:
            entity.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
        context = self.tls.server()
        try:
            server = entity.start_server(
                (self.bind, self.port),
                block=False,
                ssl_context=context,
                evt_handlers=[
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_CONN_CLOSE, self._closed),
                    end_when_silent(self.silence),
                ],
            )
        except OSError as error:
            raise ResourceError(
                f"{self.bind} port {self.port}: cannot listen ({error.strerror}); choose another --port"
            ) from error
        assert server is not None
        self._server: ThreadedAssociationServer = server
        self.port = server.socket.getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # a peer that vanished would keep this process until its timeout
        for link in self._server.active_associations:
            if link.dul.socket is not None:
                link.dul.socket.close()
        self._server.shutdown()

    def _store(self, event: Event) -> int:
        try:
            uid = str(event.request.AffectedSOPInstanceUID)
            self.spool.add(uid, event.encoded_dataset(), id(event.assoc))
        except ResourceError as error:
            self.failed = str(error)
            return _OUT_OF_RESOURCES
        except Exception:  # noqa: BLE001 (one object never ends the receiver, and the message could quote it)
            return _NOT_UNDERSTOOD
        return _SUCCESS

    def _closed(self, event: Event) -> None:
        self.spool.closed(id(event.assoc))
