"""Fetch by DICOMweb: QIDO-RS for the series, WADO-RS for their instances (PS3.18)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from medidistill.errors import ConfigError, IngestError
from medidistill.ingest.pacs.pull import Pulled
from medidistill.ingest.pacs.query import Query
from medidistill.ingest.pacs.spool import Spool
from medidistill.ingest.silence_pydicom import silence_pydicom
from medidistill.jsontypes import JsonObject  # the DICOM JSON model

__all__ = ["pull_web"]

_STUDY, _SERIES, _MODALITY = "0020000D", "0020000E", "00080060"
_AS_STORED = (("application/dicom", "*"),)  # in whatever transfer syntax the archive holds it


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
        ConfigError: no http or https address; a token over http to another machine.
        IngestError: the service cannot be reached or answers with an error.
        ResourceError: the spool cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"--dicomweb {url}: must begin with https:// or http://")
    if token and url.startswith("http://") and not url.startswith(("http://127.0.0.1", "http://localhost")):
        raise ConfigError("--dicomweb: a token over http can be read on the way; use https")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    try:
        with silence_pydicom():
            client = DICOMwebClient(url, headers=headers, timeout=timeout)
            client.set_http_retry_params(max_attempts=3, wait_exponential_multiplier=250)
            wanted, before, failed = list(dict.fromkeys(_series(client, query))), spool.count, 0
            for done, (study, series) in enumerate(wanted, 1):
                failed += not _fetch(client, study, series, spool)
                on_series(done, len(wanted))
    except (requests.RequestException, ValueError, KeyError) as error:
        # the text of the error holds the address with its query: an accession number
        status = getattr(getattr(error, "response", None), "status_code", None)
        said = f"status {status}" if status else type(error).__name__
        raise IngestError(f"DICOMweb service at {url}: the query failed ({said})") from error
    return Pulled(len(wanted), spool.count - before, failed)


def _value(answer: JsonObject, tag: str) -> str:
    values = answer.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _series(client: DICOMwebClient, query: Query) -> Iterator[tuple[str, str]]:
    for keys in query.filters():
        for study in client.search_for_studies(search_filters=keys, get_remaining=True):
            uid = _value(study, _STUDY)
            for one in client.search_for_series(uid, get_remaining=True):
                if _value(one, _MODALITY) in query.modalities and _value(one, _SERIES):
                    yield uid, _value(one, _SERIES)


def _fetch(client: DICOMwebClient, study: str, series: str, spool: Spool) -> bool:
    """Fetch one series; returns whether all of it came."""
    try:
        for dataset in client.iter_series(study, series, media_types=_AS_STORED):
            spool.add(str(dataset.SOPInstanceUID), _encode(dataset))
    except (requests.RequestException, ValueError, AttributeError):
        return False
    return True


def _encode(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset)
    return buffer.getvalue()
