"""Fetch from a PACS: C-FIND for the series, C-MOVE of each to a receiver of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from medidistill.dimse import end_when_silent
from medidistill.errors import ConfigError, IngestError
from medidistill.ingest.pacs.query import Query
from medidistill.ingest.pacs.receive import Receiver, check_title
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.tls import Tls

__all__ = ["Peer", "Pulled", "pull"]

_PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True)
class Peer:
    """A PACS.

    Args:
        host: name or address.
        port: 1 to 65535.
        title: its AE title.
        tls: with an authority the queries go by TLS.
    """

    host: str
    port: int
    title: str
    tls: Tls = Tls()

    @classmethod
    def parse(cls, text: str, title: str, tls: Tls | None = None) -> Peer:
        """Return the peer of `HOST:PORT`. Raises `ConfigError`."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ConfigError(f"--peer {text}: must look like pacs.example.org:104")
        return cls(host, int(port), check_title(title, "--peer-ae"), tls or Tls())


@dataclass(frozen=True)
class Pulled:
    """What came: series asked for, objects that arrived, series that the PACS did not send whole."""

    series: int
    objects: int
    failed: int


def pull(
    peer: Peer, query: Query, receiver: Receiver, on_series: Callable[[int, int], None] = lambda done, total: None
) -> Pulled:
    """Fetch the series that a query finds into the spool of a running receiver.

    The PACS sends to the address that it knows for the receiver's AE title: configure that at the PACS first.

    Args:
        peer: the PACS.
        query: which studies and modalities.
        receiver: listening.
        on_series: called with (series done, series in all).

    Raises:
        IngestError: the PACS cannot be reached, refuses, or answers a query with an error.
        ConfigError: files for TLS that cannot be used.
    """
    entity = AE(ae_title=receiver.title)
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    context = peer.tls.client()
    tls = (context, peer.host) if context is not None else None
    with silence_pydicom():
        limits = [end_when_silent()]
        link = entity.associate(peer.host, peer.port, ae_title=peer.title, tls_args=tls, evt_handlers=limits)
        if not link.is_established:
            reason = "it refused the AE titles or the kind of query" if link.is_rejected else "no answer"
            raise IngestError(f"PACS {peer.title} at {peer.host}:{peer.port}: no association ({reason})")
        try:
            before, wanted, failed = receiver.spool.count, list(dict.fromkeys(_series(link, peer, query))), 0
            for done, (study, series) in enumerate(wanted, 1):
                failed += not _move(link, receiver.title, study, series)
                on_series(done, len(wanted))
            return Pulled(len(wanted), receiver.spool.count - before, failed)
        finally:
            link.release()


def _find(link: Association, peer: Peer, level: str, keys: dict[str, str]) -> Iterator[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    for status, answer in link.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind):
        code = status.get("Status")
        if code is None or code not in (*_PENDING, 0x0000):
            said = "it ended the association" if code is None else f"status 0x{code:04X}"
            raise IngestError(f"PACS {peer.title}: the query failed ({said})")
        if code in _PENDING and answer is not None:
            yield answer


def _series(link: Association, peer: Peer, query: Query) -> Iterator[tuple[str, str]]:
    """Yield (study UID, series UID) of each series of the modalities asked for."""
    for keys in query.filters():
        # the answers are read whole before the next query: an association holds one operation at a time
        for study in list(_find(link, peer, "STUDY", {"StudyInstanceUID": "", **keys})):
            uid = str(study.get("StudyInstanceUID", "") or "")
            if not uid:
                continue
            for one in list(
                _find(link, peer, "SERIES", {"StudyInstanceUID": uid, "SeriesInstanceUID": "", "Modality": ""})
            ):
                if str(one.get("Modality", "")) in query.modalities and one.get("SeriesInstanceUID"):
                    yield uid, str(one.SeriesInstanceUID)


def _move(link: Association, title: str, study: str, series: str) -> bool:
    """Ask for one series; returns whether all of it was sent."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
    last = None
    for status, _ in link.send_c_move(identifier, title, StudyRootQueryRetrieveInformationModelMove):
        last = status
    return last is not None and last.get("Status") == 0x0000
