"""Fetch by DICOMweb: QIDO-RS for the series, WADO-RS for their instances (PS3.18)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from email.message import Message
from urllib.parse import quote

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.filereader import dcmread
from requests.adapters import HTTPAdapter, Retry

from medidistill.errors import IngestError
from medidistill.ingest.pacs.pull import Pulled
from medidistill.ingest.pacs.query import Query, answers, nothing_fits
from medidistill.ingest.pacs.spool import Spool
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.jsontypes import JsonObject  # the DICOM JSON model
from medidistill.web_address import authorize, check_web_address

__all__ = ["pull_web"]

_STUDY, _SERIES, _MODALITY = "0020000D", "0020000E", "00080060"
_ACCESSION, _DATE, _SIZE = "00080050", "00080020", "00201209"
# in whatever transfer syntax the archive holds it
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_CHUNK = 1 << 20  # bytes
# what may pass: too slow, too many requests, overloaded
_RETRY = Retry(
    total=None,
    connect=0,
    read=False,
    other=0,
    status=2,
    status_forcelist=(408, 429, 503, 504),
    backoff_factor=0.25,
    respect_retry_after_header=False,
    raise_on_status=False,
)


def pull_web(
    url: str,
    query: Query,
    spool: Spool,
    *,
    token: str = "",
    timeout: float = 60.0,
    on_series: Callable[[int, int], None] = lambda done, total: None,
) -> Pulled:
    """Fetch the series that a query finds.

    Args:
        url: the root of the service, for example `https://pacs.example.org/dicom-web`.
        query: which studies and modalities.
        spool: where objects go.
        token: a bearer token; from the environment or a file, never from a command line that others can list.
        timeout: seconds without an answer.
        on_series: called with (series done, series in all).

    Raises:
        ConfigError: no http or https address, or one with a user name; a token over http to another machine.
        IngestError: the service cannot be reached, answers with an error, or with other studies alone.
        ResourceError: the spool cannot be written.
    """
    session = _session(url, token)
    try:
        with silence_pydicom(), session:
            client = DICOMwebClient(url, session=session, timeout=timeout)
            client.set_http_retry_params(retry=False)  # the session does
            (wanted, other), before, failed = _series(client, query, url), spool.count, 0
            for done, ((study, series), size) in enumerate(wanted.items(), 1):
                address = f"{url.rstrip('/')}/studies/{quote(study, safe='')}/series/{quote(series, safe='')}"
                failed += not _fetch(session, address, timeout, size, spool)
                on_series(done, len(wanted))
    except (requests.RequestException, ValueError, KeyError) as error:
        # the text of the error holds the address with its query: an accession number
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = f"status {status}" if status else type(error).__name__
        raise IngestError(f"DICOMweb service at {url}: the query failed ({said})") from error
    return Pulled(len(wanted), spool.count - before, failed, other)


def _session(url: str, token: str) -> requests.Session:
    """Return a session that sends the token to the host of an address alone. Raises `ConfigError`."""
    check_web_address(url, token)
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=_RETRY))
    authorize(session, url, token)
    return session


def _value(answer: JsonObject, tag: str) -> str:
    """Return the first value of an attribute as text, empty where it is absent or of another form."""
    element = answer.get(tag) if isinstance(answer, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]).strip() if isinstance(values, list) and values and values[0] is not None else ""


def _series(client: DICOMwebClient, query: Query, url: str) -> tuple[dict[tuple[str, str], int], int]:
    """Return the series of the modalities asked for, and how many studies were answered that were not.

    A series is (study UID, series UID) with the number of its objects, 0 where the service does not say.
    """
    found: dict[tuple[str, str], int] = {}
    fitting, other = 0, 0
    for keys in query.filters():
        for study in client.search_for_studies(search_filters=keys, get_remaining=True):
            uid = _value(study, _STUDY)
            if not uid or not answers(keys, _value(study, _ACCESSION), _value(study, _DATE)):
                other += 1
                continue
            fitting += 1
            for one in client.search_for_series(uid, get_remaining=True):
                here = _value(one, _STUDY) in ("", uid)
                if here and _value(one, _SERIES) and _value(one, _MODALITY) in query.modalities:
                    size = _value(one, _SIZE)
                    found[uid, _value(one, _SERIES)] = int(size) if size.isdecimal() else 0
    if other and not fitting:
        raise nothing_fits(f"DICOMweb service at {url}", other)
    return found, other


def _fetch(session: requests.Session, address: str, timeout: float, size: int, spool: Spool) -> bool:
    """Fetch one series of `size` objects, 0: unknown; returns whether all of it came."""
    came: set[str] = set()
    damaged = False
    try:
        with session.get(address, headers={"Accept": _AS_STORED}, stream=True, timeout=timeout) as answer:
            answer.raise_for_status()
            for part in _parts(answer):
                if uid := _instance(part):
                    spool.add(uid, part)
                    came.add(uid)
                else:
                    damaged = True
            partial = answer.status_code == requests.codes.partial_content  # it says itself that some are missing
    except (requests.RequestException, ValueError):
        return False
    return not damaged and not partial and len(came) >= max(size, 1)


def _instance(part: bytes) -> str:
    """Return the SOP Instance UID of a DICOM file, empty where it cannot be read."""
    try:
        header = dcmread(io.BytesIO(part), stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        return str(header.get("SOPInstanceUID") or "")
    except Exception:  # noqa: BLE001 (damaged data raise anything, and one object never ends the others)
        return ""


def _parts(answer: requests.Response) -> Iterator[bytes]:
    """Yield the bodies of a multipart answer (RFC 2046) as they arrive.

    Raises:
        ValueError: it is none, or ends before its closing delimiter.
    """
    head = Message()
    head["Content-Type"] = answer.headers.get("Content-Type", "")
    if head.get_content_type() == "application/dicom":  # the one object of a series, as it is
        yield answer.content
        return
    boundary = head.get_boundary()
    if head.get_content_maintype() != "multipart" or not boundary:
        raise ValueError("not multipart")
    delimiter = b"\r\n--" + boundary.encode()
    # the first delimiter may stand at the very beginning; what is before it is no part
    data, looked, begun = bytearray(b"\r\n"), 0, False
    for chunk in answer.iter_content(_CHUNK):
        data += chunk
        # two bytes more tell the delimiter that closes
        while 0 <= (end := data.find(delimiter, looked)) <= len(data) - len(delimiter) - 2:
            if begun:
                yield bytes(data[:end]).partition(b"\r\n\r\n")[2]
            del data[: end + len(delimiter)]
            looked, begun = 0, True
            if data.startswith(b"--"):
                return
        looked = max(0, len(data) - len(delimiter) - 2)
    raise ValueError("no closing delimiter")
