"""Send the DICOM part of a bundle to an archive: C-STORE, or DICOMweb STOW-RS. Extra `pacs`.

The objects' identifiers follow from their content, so sending a bundle twice leaves an archive as it was, whether that
archive overwrites, ignores, or refuses a second copy (Duplicate SOP Instance).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from medidistill.dimse import end_when_silent
from medidistill.errors import ConfigError, IngestError, ResourceError
from medidistill.extras import require_extra
from medidistill.tls import Tls
from medidistill.web_address import authorize, check_web_address

__all__ = ["Peer", "Sent", "dicom_part", "push_dicomweb", "push_dimse"]

_AE_LENGTH = 16
_WARNINGS = (0xB000, 0xB006, 0xB007)
_DUPLICATE = 0x0111  # Duplicate SOP Instance, PS3.7 C.5.7
# Failure Reasons (0008,1197) that say the same: PS3.7's, and the one of Azure Health Data Services (45070)
_DUPLICATE_REASONS = {_DUPLICATE, 0xB00E}
_CONFLICT = 409
OnSent = Callable[[int, int], None]


@dataclass(frozen=True)
class Sent:
    """What an archive has after all files were sent.

    Args:
        files: how many were sent.
        present: how many of them it refused as instances that it held already.
        warnings: of the archive, one line each.
    """

    files: int
    present: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Peer:
    """An archive that speaks DIMSE.

    Args:
        host: name or address.
        port: 1 to 65535.
        called: its AE title.
        calling: our AE title; many archives only let known ones in.
        timeout: seconds to wait for a connection, an association or an answer.
        tls: with an authority the connection is TLS.
    """

    host: str
    port: int
    called: str = "ANY-SCP"
    calling: str = "MEDIDISTILL"
    timeout: float = 30.0
    tls: Tls = Tls()

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535:
            raise ConfigError(f"--pacs {self.host}:{self.port}: must be HOST:PORT with a port in 1..65535")
        for title in (self.called, self.calling):
            plain = title.isascii() and title.isprintable() and "\\" not in title
            if not plain or not 1 <= len(title.strip()) <= len(title) <= _AE_LENGTH:
                raise ConfigError(
                    f"AE title {title!r}: must be 1 to {_AE_LENGTH} printable ASCII characters, no backslash"
                )


def dicom_part(bundle: Path) -> list[Path]:
    """Return the DICOM files of a verified bundle.

    Raises:
        IngestError: there are none, or one is not a synthetic Secondary Capture.
    """
    files = sorted((Path(bundle) / "dicom").glob("*.dcm"))
    if not files:
        raise IngestError(f"{bundle}: holds no DICOM part; bundles of format 1 had none, export the set again")
    for file in files:
        try:
            header = dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID", "SyntheticData"])
        except (InvalidDicomError, OSError, ValueError) as error:
            raise IngestError(f"{file}: not a DICOM file ({error})") from error
        if header.get("SyntheticData") != "YES" or header.get("SOPClassUID") != SecondaryCaptureImageStorage:
            raise IngestError(f"{file}: not a Secondary Capture marked as synthetic; it is not sent")
    return files


def push_dimse(files: list[Path], peer: Peer, on_sent: OnSent | None = None) -> Sent:
    """Send files by C-STORE; an archive that answers Duplicate SOP Instance has the file already.

    Raises:
        ConfigError: pynetdicom is not installed.
        ResourceError: no association, or the archive refused a file; what it had accepted by then is said.
    """
    require_extra("pacs", "sending by C-STORE", "pynetdicom")
    from pynetdicom import AE

    ae = AE(ae_title=peer.calling)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout
    ae.add_requested_context(SecondaryCaptureImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    where, warnings, present = f"{peer.host}:{peer.port} ({peer.called})", [], 0
    with _association(ae, peer, where) as association:
        for number, file in enumerate(files):
            try:
                status = association.send_c_store(file).get("Status")
            except (RuntimeError, ValueError, AttributeError) as error:
                raise ResourceError(_stopped(where, file, number, str(error))) from error
            if status is None:
                raise ResourceError(_stopped(where, file, number, "no answer, the connection broke"))
            if status in _WARNINGS:
                warnings.append(f"{file.name}: stored with warning 0x{status:04X}")
            elif status == _DUPLICATE:
                present += 1
            elif status != 0:
                raise ResourceError(_stopped(where, file, number, f"refused with status 0x{status:04X}"))
            if on_sent is not None:
                on_sent(number + 1, len(files))
    return Sent(len(files), present, tuple(warnings))


@contextmanager
def _association(ae: Any, peer: Peer, where: str) -> Iterator[Any]:
    context = peer.tls.client()
    tls = (context, peer.host) if context is not None else None
    limits = [end_when_silent(peer.timeout)]
    association = ae.associate(peer.host, peer.port, ae_title=peer.called, tls_args=tls, evt_handlers=limits)
    if association.rejected_contexts and not association.accepted_contexts:
        raise ResourceError(f"{where}: does not store Secondary Capture images")
    if not association.is_established:
        how = "rejected the association; check the AE titles" if association.is_rejected else "cannot be reached"
        hint = "" if association.is_rejected else "; check host, port, firewall and TLS"
        raise ResourceError(f"{where}: {how}{hint}")
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def push_dicomweb(
    files: list[Path], url: str, *, token: str = "", on_sent: OnSent | None = None, timeout: float = 30.0
) -> Sent:
    """Send files by STOW-RS, one request a file.

    An archive has a file already where it says so (Failure Reason 0111H or 45070), or where it answers 409 (Conflict)
    and its metadata can be retrieved (WADO-RS).

    Args:
        files: what to send.
        url: service root, for example https://pacs.example/dicom-web.
        token: bearer token; empty: none.
        on_sent: called with (sent, total).
        timeout: seconds to wait for an answer.

    Raises:
        ConfigError: no http(s) address, a token that would travel unencrypted, or dicomweb-client is not installed.
        ResourceError: the archive cannot be reached or refused a file; what it had accepted by then is said.
    """
    check_web_address(url, token)
    require_extra("pacs", "sending by DICOMweb", "dicomweb_client", "requests")
    import requests
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.hooks["response"].append(_plain_media_type)
    authorize(session, url, token)
    client = DICOMwebClient(url, session=session, timeout=timeout)
    client.set_http_retry_params(retry=False)
    warnings: list[str] = []
    present = 0
    for number, file in enumerate(files):
        instance = dcmread(file)
        try:
            answer = client.store_instances([instance])
        except requests.HTTPError as error:
            code = error.response.status_code if error.response is not None else 0
            if code != _CONFLICT:
                raise ResourceError(_stopped(url, file, number, f"answered {code or 'an error'}")) from error
            answer = _conflicts(error.response)
        except (requests.JSONDecodeError, SyntaxError, TypeError, AttributeError, KeyError) as error:
            raise ResourceError(_stopped(url, file, number, "its answer cannot be read")) from error
        except (requests.RequestException, ValueError, OSError) as error:
            raise ResourceError(_stopped(url, file, number, f"cannot be reached ({type(error).__name__})")) from error
        reasons = _failure_reasons(answer)
        if reasons and (reasons <= _DUPLICATE_REASONS or _holds(client, instance)):
            present += 1
        elif reasons:
            said = ", ".join(f"0x{reason:04X}" if reason else "409 (Conflict)" for reason in sorted(reasons))
            raise ResourceError(_stopped(url, file, number, f"refused with status {said}"))
        warnings += [f"{file.name}: {text}" for text in _warned(answer)]
        if on_sent is not None:
            on_sent(number + 1, len(files))
    return Sent(len(files), present, tuple(warnings))


def _plain_media_type(response: Any, **_: Any) -> None:
    """Take parameters (`; charset=utf-8`) off the media type: the client reads an answer that has some as empty."""
    response.headers["Content-Type"] = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _conflicts(response: Any) -> Dataset:
    """Return the Store Instances Response of a 409; one without a reason that can be read has the reason 0."""
    try:
        answer = Dataset.from_json(response.json())
    except (ValueError, TypeError, AttributeError, KeyError):
        answer = Dataset()
    if not _failure_reasons(answer):
        failed = Dataset()
        failed.FailureReason = 0
        answer.FailedSOPSequence = [failed]
    return answer


def _failure_reasons(answer: Dataset) -> set[int]:
    return {int(one.get("FailureReason", 0) or 0) for one in answer.get("FailedSOPSequence", None) or ()}


def _holds(client: Any, instance: Dataset) -> bool:
    """Whether an archive that refused an instance returns the metadata of one with its identifiers."""
    import requests

    names = (instance.StudyInstanceUID, instance.SeriesInstanceUID, instance.SOPInstanceUID)
    try:
        found = client.retrieve_instance_metadata(*names)
        return bool(Dataset.from_json(found).get("SOPInstanceUID") == instance.SOPInstanceUID)
    except (requests.RequestException, OSError, ValueError, TypeError, AttributeError, LookupError):
        return False


def _warned(answer: Dataset) -> list[str]:
    stored = answer.get("ReferencedSOPSequence", None) or ()
    return [f"stored with warning 0x{int(one.WarningReason):04X}" for one in stored if "WarningReason" in one]


def _stopped(where: str, file: Path, sent: int, reason: str) -> str:
    return f"{where}: {file.name}: {reason}; {sent} file(s) before it are stored, sending again is safe"
