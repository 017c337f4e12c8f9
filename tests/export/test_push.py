"""Sending to real peers on loopback: a pynetdicom SCP, a small STOW-RS service, and Orthanc where it is installed."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pydicom
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import SecondaryCaptureImageStorage, Verification

from medidistill.errors import ConfigError, IngestError, ResourceError
from medidistill.export.push import Peer, Sent, dicom_part, push_dicomweb, push_dimse
from medidistill.tls import Tls
from tests.support.threads import assert_threads_end

from .bundle_example import write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dicom_part(write(tmp_path_factory.mktemp("push") / "bundle"))


@contextmanager
def archive(
    status: int = 0, storage: Any = SecondaryCaptureImageStorage, tls: Tls | None = None, **options: Any
) -> Iterator[tuple[int, list]]:
    received: list[pydicom.Dataset] = []

    def store(event: evt.Event) -> int:
        received.append(event.dataset)
        return status if len(received) == 2 else 0

    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(storage)
    for name, value in options.items():
        setattr(ae, name, value)
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        ssl_context=tls.server() if tls else None,
        evt_handlers=[(evt.EVT_C_STORE, store)],
    )
    try:
        yield server.socket.getsockname()[1], received
    finally:
        server.shutdown()


def test_a_pacs_gets_every_image_with_its_pixels(files: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    with archive() as (port, received):
        result = push_dimse(files, Peer("127.0.0.1", port, "ARCHIVE"), lambda *at: seen.append(at))
    sent = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, files)}
    assert result == Sent(9)
    assert seen[-1] == (9, 9)
    assert {one.SOPInstanceUID for one in received} == sent.keys()
    for one in received:
        assert one.PixelData == sent[one.SOPInstanceUID].PixelData
        assert one.SyntheticData == "YES"


def test_an_archive_that_asks_for_a_certificate(files: list[Path], certificates: Path) -> None:
    ours, other = (
        Tls(certificates / f"{name}-ca.pem", certificates / f"{name}.pem", certificates / f"{name}.key")
        for name in ("ours", "other")
    )
    with archive(tls=ours) as (port, received):
        for stranger in (Tls(), other, Tls(ours.authority), Tls(ours.authority, other.certificate, other.key)):
            with pytest.raises(ResourceError, match="cannot be reached; check host, port, firewall and TLS"):
                push_dimse(files[:1], Peer("127.0.0.1", port, "ARCHIVE", tls=stranger))
        assert received == []
        push_dimse(files[:1], Peer("127.0.0.1", port, "ARCHIVE", tls=ours))
        assert len(received) == 1


def test_a_refusal_names_the_file_and_what_was_stored(files: list[Path]) -> None:
    with archive(0xA700) as (port, _), pytest.raises(ResourceError) as caught:
        push_dimse(files, Peer("127.0.0.1", port, "ARCHIVE"))
    assert f"{files[1].name}: refused with status 0xA700; 1 file(s) before it are stored" in str(caught.value)


def test_a_warning_is_passed_on(files: list[Path]) -> None:
    with archive(0xB000) as (port, received):
        result = push_dimse(files, Peer("127.0.0.1", port, "ARCHIVE"))
    assert result == Sent(9, warnings=(f"{files[1].name}: stored with warning 0xB000",))
    assert len(received) == 9


def test_c_store_again_to_a_peer_that_refuses_duplicates(files: list[Path]) -> None:
    """It keeps what it has; what it lacks is added, and both sendings succeed."""
    held: dict[str, bytes] = {}

    def store(event: evt.Event) -> int:
        one = event.dataset
        if one.SOPInstanceUID in held:
            return 0x0111
        held[one.SOPInstanceUID] = one.PixelData
        return 0

    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context(SecondaryCaptureImageStorage)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    peer, seen = Peer("127.0.0.1", server.socket.getsockname()[1], "ARCHIVE"), []
    try:
        assert push_dimse(files[:4], peer) == Sent(4)
        assert push_dimse(files, peer, lambda *at: seen.append(at)) == Sent(9, present=4)
        assert push_dimse(files, peer) == Sent(9, present=9)
    finally:
        server.shutdown()
    assert seen == [(number, 9) for number in range(1, 10)]
    assert held == {one.SOPInstanceUID: one.PixelData for one in map(pydicom.dcmread, files)}


def test_a_peer_that_does_not_take_them_is_told_apart(files: list[Path]) -> None:
    with archive(storage=Verification) as (port, _), pytest.raises(ResourceError, match="does not store Secondary"):
        push_dimse(files, Peer("127.0.0.1", port, "ARCHIVE"))
    with (
        archive(require_called_aet=True) as (port, _),
        pytest.raises(ResourceError, match="rejected the association; check the AE titles"),
    ):
        push_dimse(files, Peer("127.0.0.1", port, "OTHER"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ResourceError, match="cannot be reached"):
            push_dimse(files, Peer("127.0.0.1", free.getsockname()[1], timeout=2))


def test_an_archive_that_falls_silent_within_an_answer_is_given_up(files: list[Path]) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def answer_by_half() -> None:
            caller, _ = listener.accept()
            held.append(caller)
            caller.recv(4096)
            caller.sendall(b"\x02\x00\x00\x00\x01\x00" + bytes(10))  # an A-ASSOCIATE-AC of 256 bytes, begun

        threading.Thread(target=answer_by_half, daemon=True).start()
        peer = Peer("127.0.0.1", listener.getsockname()[1], timeout=1.0)
        with pytest.raises(ResourceError, match="cannot be reached"):
            push_dimse(files, peer)
        assert_threads_end(before)
        for caller in held:
            caller.close()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("", 104), "HOST:PORT"),
        (("x", 0), "1..65535"),
        (("x", 104, "A" * 17), "AE title"),
        (("x", 104, " "), "AE title"),
        (("x", 104, "A", "B\\C"), "AE title"),
    ],
)
def test_a_wrong_address_is_refused(values: tuple[Any, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Peer(*values)


def test_only_synthetic_images_are_sent(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    with pytest.raises(IngestError, match="holds no DICOM part"):
        dicom_part(tmp_path)
    image = pydicom.dcmread(files[0])
    del image.SyntheticData
    image.save_as(tmp_path / "dicom" / "a.dcm")
    with pytest.raises(IngestError, match="not a Secondary Capture marked as synthetic"):
        dicom_part(tmp_path)
    (tmp_path / "dicom" / "a.dcm").write_bytes(b"no DICOM")
    with pytest.raises(IngestError, match="not a DICOM file"):
        dicom_part(tmp_path)


class Stow(BaseHTTPRequestHandler):
    """As much of STOW-RS (PS3.18, 10.5) as one stored object needs."""

    bodies: ClassVar[list[bytes]] = []
    headers_seen: ClassVar[list[str]] = []
    code = 200
    failed = False

    def do_POST(self) -> None:
        Stow.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        Stow.headers_seen.append(self.headers.get("Authorization", ""))
        reason = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}
        body = json.dumps(reason if Stow.failed else {}).encode()
        self.send_response(Stow.code)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stow() -> Iterator[str]:
    Stow.bodies.clear()
    Stow.headers_seen.clear()
    Stow.code, Stow.failed = 200, False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stow)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    server.shutdown()
    server.server_close()


def test_dicomweb_gets_the_bytes_of_every_file(files: list[Path], stow: str) -> None:
    assert push_dicomweb(files, stow, token="secret") == Sent(9)
    assert len(Stow.bodies) == 9
    for body, file in zip(Stow.bodies, files, strict=True):
        assert pydicom.dcmread(file).PixelData in body
        assert b"application/dicom" in body
    assert set(Stow.headers_seen) == {"Bearer secret"}


def test_dicomweb_refusals_are_told_apart(files: list[Path], stow: str) -> None:
    Stow.failed = True
    with pytest.raises(ResourceError, match=r"refused with status 0xA700; 0 file\(s\) before it"):
        push_dicomweb(files, stow)
    Stow.code = 403
    with pytest.raises(ResourceError, match="answered 403"):
        push_dicomweb(files, stow)
    with pytest.raises(ResourceError, match="cannot be reached"):
        push_dicomweb(files, "http://127.0.0.1:9/dicom-web")
    for host in ("pacs.example", "localhost.pacs.example", "127.0.0.1.pacs.example"):
        with pytest.raises(ConfigError, match="only sent over https"):
            push_dicomweb(files, f"http://{host}/dicom-web", token="secret")
    with pytest.raises(ConfigError, match="a user name or a password is refused") as refused:
        push_dicomweb(files, "http://localhost:hunter2@pacs.example/dicom-web", token="secret")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError, match="must be an address"):
        push_dicomweb(files, "pacs.example/dicom-web")
    with pytest.raises(ConfigError, match="must be an address"):  # no internal error
        push_dicomweb(files, "http://[::1/dicom-web")


def failed(reason: int | None) -> bytes:
    item = {} if reason is None else {"00081197": {"vr": "US", "Value": [reason]}}
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@contextmanager
def keeper(status: int, body: bytes, *, retrieves: bool, media_type: str) -> Iterator[tuple[str, set[str]]]:
    """A DICOMweb archive that refuses a second copy with `status` and `body`, and may return metadata of the first."""
    held: set[str] = set()

    class Keeper(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            start = content.index(b"\r\n\r\n") + 4
            uid = pydicom.dcmread(io.BytesIO(content[start : content.rindex(b"\r\n--")])).SOPInstanceUID
            known = uid in held
            held.add(uid)  # before the answer, after which the next request may come
            self.answer(*((status, body) if known else (200, b"{}")))

        def do_GET(self) -> None:
            uid = self.path.split("/")[-2]
            known = retrieves and self.path.endswith("/metadata") and uid in held
            self.answer(
                *((200, json.dumps([{"00080018": {"vr": "UI", "Value": [uid]}}]).encode()) if known else (404, b""))
            )

        def answer(self, code: int, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keeper)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web", held
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("media_type", ["application/dicom+json", "application/dicom+json; charset=utf-8"])
@pytest.mark.parametrize(
    ("status", "body", "retrieves"),
    [
        (409, failed(0x0111), False),
        (409, failed(45070), False),
        (202, failed(0x0111), False),
        (409, failed(272), True),
        (202, failed(None), True),
        (409, b"", True),
        (409, b"<html>Conflict</html>", True),
    ],
)
def test_stow_again_to_an_archive_that_refuses_duplicates(
    files: list[Path], status: int, body: bytes, retrieves: bool, media_type: str
) -> None:
    with keeper(status, body, retrieves=retrieves, media_type=media_type) as (url, held):
        assert push_dicomweb(files[:3], url) == Sent(3)
        assert push_dicomweb(files, url) == Sent(9, present=3)
        assert held == {str(pydicom.dcmread(file).SOPInstanceUID) for file in files}


@pytest.mark.parametrize("media_type", ["application/dicom+json", "application/dicom+json; charset=utf-8"])
@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (409, b"", r"refused with status 409 \(Conflict\); 0 file"),
        (409, failed(None), r"refused with status 409 \(Conflict\)"),
        (409, failed(272), "refused with status 0x0110"),
        (202, failed(0xA700), "refused with status 0xA700"),
    ],
)
def test_a_conflict_over_what_the_archive_does_not_hold_is_a_refusal(
    files: list[Path], status: int, body: bytes, said: str, media_type: str
) -> None:
    with keeper(status, body, retrieves=False, media_type=media_type) as (url, _):
        assert push_dicomweb(files[:1], url) == Sent(1)
        with pytest.raises(ResourceError, match=said):
            push_dicomweb(files[:1], url)


@pytest.mark.parametrize("body", [b"no JSON", b'{"00081198": 7}'])
def test_an_answer_that_cannot_be_read_is_not_taken_for_success(files: list[Path], body: bytes) -> None:
    with keeper(200, body, retrieves=False, media_type="application/dicom+json") as (url, _):
        assert push_dicomweb(files[:1], url) == Sent(1)
        with pytest.raises(ResourceError, match="its answer cannot be read"):
            push_dicomweb(files[:1], url)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("Orthanc") is None, reason="Orthanc is not installed (Debian: orthanc)")
@pytest.mark.parametrize("closed", [False, True])
def test_orthanc_stores_what_both_ways_send(
    files: list[Path], tmp_path: Path, certificates: Path, closed: bool
) -> None:
    ours = Tls(certificates / "ours-ca.pem", certificates / "ours.pem", certificates / "ours.key")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    plugins = [str(path) for path in Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb*")]
    settings = {
        "StorageDirectory": str(tmp_path / "store"),
        "IndexDirectory": str(tmp_path / "store"),
        "HttpPort": ports[0],
        "DicomPort": ports[1],
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": plugins,
        "DicomTlsEnabled": closed,
        "DicomTlsTrustedCertificates": str(ours.authority),
        "DicomTlsCertificate": str(ours.certificate),
        "DicomTlsPrivateKey": str(ours.key),
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    web = f"http://127.0.0.1:{ports[0]}"

    def ask(path: str) -> Any:
        with urllib.request.urlopen(web + path, timeout=5) as answer:
            return json.load(answer)

    process = subprocess.Popen(["Orthanc", tmp_path / "orthanc.json"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                ask("/system")
                break
            except OSError:
                time.sleep(0.2)
        push_dimse(files, Peer("127.0.0.1", ports[1], "ORTHANC", tls=ours if closed else Tls()))
        assert ask("/statistics")["CountInstances"] == 9
        if plugins:
            push_dicomweb(files, f"{web}/dicom-web")
        # the same objects again: nothing is added
        assert ask("/statistics")["CountInstances"] == 9
        (study,) = ask("/studies")
        assert ask(f"/studies/{study}")["PatientMainDicomTags"]["PatientID"].startswith("SYN-")
    finally:
        process.terminate()
        process.wait(30)
