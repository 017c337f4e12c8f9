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
from medidistill.ingest.pacs.query import Query, answers, nothing_fits
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
    """What came.

    Args:
        series: how many were asked for.
        objects: how many arrived.
        failed: series that the PACS did not send whole.
        other: studies that it named and that are not what was asked for; nothing of them is fetched.
    """

    series: int
    objects: int
    failed: int
    other: int = 0


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
        IngestError: the PACS cannot be reached, refuses, answers a query with an error, or with other studies alone.
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
            before, (wanted, other), failed = receiver.spool.count, _series(link, peer, query), 0
            for done, ((study, series), size) in enumerate(wanted.items(), 1):
                arrived = receiver.spool.count
                sent = _move(link, receiver.title, study, series)
                # an object is in the spool before its sender hears of it, and so before the series has ended
                failed += not sent or receiver.spool.count - arrived < max(size, 1)
                on_series(done, len(wanted))
            return Pulled(len(wanted), receiver.spool.count - before, failed, other)
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


def _series(link: Association, peer: Peer, query: Query) -> tuple[dict[tuple[str, str], int], int]:
    """Return the series of the modalities asked for, and how many studies were answered that were not.

    A series is (study UID, series UID) with the number of its objects, 0 where the PACS does not say.
    """
    found: dict[tuple[str, str], int] = {}
    fitting, other = 0, 0
    for keys in query.filters():
        asked = {"StudyInstanceUID": "", "AccessionNumber": "", "StudyDate": "", **keys}
        # the answers are read whole before the next query: an association holds one operation at a time
        for study in list(_find(link, peer, "STUDY", asked)):
            uid = _text(study, "StudyInstanceUID")
            if not uid:
                continue
            if not answers(keys, _text(study, "AccessionNumber"), _text(study, "StudyDate")):
                other += 1
                continue
            fitting += 1
            asked = dict.fromkeys(("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"), "")
            for one in list(_find(link, peer, "SERIES", {"StudyInstanceUID": uid, **asked})):
                series = _text(one, "SeriesInstanceUID")
                here = _text(one, "StudyInstanceUID") in ("", uid)
                if here and series and _text(one, "Modality") in query.modalities:
                    size = _text(one, "NumberOfSeriesRelatedInstances")
                    found[uid, series] = int(size) if size.isdecimal() else 0
    if other and not fitting:
        raise nothing_fits(f"PACS {peer.title}", other)
    return found, other


def _text(answer: Dataset, keyword: str) -> str:
    """Return a value as text, empty where it is absent or damaged."""
    try:
        value = answer.get(keyword)
    except Exception:  # noqa: BLE001 (pydicom converts on access, and damaged values raise anything)
        return ""
    return "" if value is None else str(value).strip(" \0")


def _move(link: Association, title: str, study: str, series: str) -> bool:
    """Ask for one series; returns whether the PACS says that all of it was sent."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
    last = None
    try:
        for status, _ in link.send_c_move(identifier, title, StudyRootQueryRetrieveInformationModelMove):
            last = status
    except (RuntimeError, ValueError):  # it has ended the association, or takes no C-MOVE
        return False
    if last is None or last.get("Status") != 0x0000:
        return False
    return not last.get("NumberOfFailedSuboperations")
