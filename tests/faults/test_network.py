"""The network goes away in the middle of what comes from a PACS and of what goes to one."""

from __future__ import annotations

import shutil
import socket
import threading
from pathlib import Path

import pydicom
import pytest

from .workplace import note

pytest.importorskip("pynetdicom")

from pynetdicom import AE, evt
from pynetdicom.sop_class import DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage

from medidistill.config import PhantomConfig
from medidistill.dimse import end_when_silent
from medidistill.errors import IngestError, ResourceError
from medidistill.export.push import Peer, dicom_part, push_dicomweb, push_dimse
from medidistill.ingest import generate_phantom
from medidistill.ingest.pacs.receive import Receiver
from medidistill.ingest.pacs.spool import Spool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Cable:
    """A line to a port of this machine that is cut, both ways, after `limit` bytes from the caller."""

    def __init__(self, port, limit):
        self.limit, self._target = limit, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            peer = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._back, args=(peer, caller), daemon=True).start()
            threading.Thread(target=self._forth, args=(caller, peer), daemon=True).start()

    def _forth(self, caller, peer):
        left = self.limit
        try:
            while left > 0 and (data := caller.recv(min(left, 4096))):
                peer.sendall(data)
                left -= len(data)
        except OSError:
            pass
        for end in (caller, peer):
            # a reset, as a pulled cable or a restarted switch looks like
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            end.close()

    def _back(self, peer, caller):
        try:
            while data := peer.recv(4096):
                caller.sendall(data)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    generate_phantom(folder, PhantomConfig(patients_per_class=5, images_per_patient=1, size=64), progress=False)
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def _send(port, films):
    """Send by C-STORE until the line breaks; returns the identifiers that the receiver said it has."""
    entity = AE(ae_title="PACS")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
    link, stored = entity.associate("127.0.0.1", port, ae_title="MEDIDISTILL"), []
    for film in films if link.is_established else ():
        try:
            status = link.send_c_store(film).get("Status")
        except RuntimeError:
            break
        if status != 0:
            break
        stored.append(film.SOPInstanceUID)
    if link.is_established:
        link.release()
    elif link.dul.socket is not None:
        link.dul.socket.close()  # or its thread waits for what will never come
    return stored


def test_a_line_that_breaks_while_films_come(films, tmp_path):
    """What the sender was promised is there and whole; what broke off is not; sending again completes it."""
    assert len(films) >= 4
    size = sum(len(film.PixelData) for film in films)
    cuts = [round(size * share) for share in (0.01, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99)]
    for number, cut in enumerate(cuts):
        with Receiver(Spool(tmp_path / f"in-{number}"), port=0) as receiver:
            with Cable(receiver.port, cut) as cable:
                promised = _send(cable.port, films)
            assert len(promised) < len(films)
            there = {pydicom.dcmread(path).SOPInstanceUID: path for path in receiver.spool.folder.iterdir()}
            assert set(promised) <= there.keys()
            for film in films:
                if film.SOPInstanceUID in there:
                    assert pydicom.dcmread(there[film.SOPInstanceUID]).PixelData == film.PixelData
            assert receiver.failed == ""
            # the line is there again
            assert _send(receiver.port, films) == [film.SOPInstanceUID for film in films]
            paths = list(receiver.spool.folder.iterdir())
            assert len(paths) == len(films)
            assert not [path for path in paths if path.name.endswith(".part")]
    note("network lost while films come from a PACS", {"in all": len(cuts)})


@pytest.fixture(scope="module")
def pushed(workplace):
    return dicom_part(workplace.root / "whole" / "bundle")


def test_a_line_that_breaks_while_a_bundle_goes(pushed):
    """One line says what is stored and that sending again is safe, and it is: nothing twice, nothing half."""
    received: dict[str, bytes] = {}

    def store(event):
        dataset = event.dataset
        assert received.setdefault(dataset.SOPInstanceUID, dataset.PixelData) == dataset.PixelData
        return 0

    entity = AE(ae_title="ARCHIVE")
    entity.maximum_associations = 100  # those that broke linger for a while
    entity.add_supported_context(SecondaryCaptureImageStorage)
    handlers = [(evt.EVT_C_STORE, store), end_when_silent(5)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    port, size = server.socket.getsockname()[1], sum(path.stat().st_size for path in pushed)
    cuts = [round(size * share) for share in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85)]
    try:
        for cut in cuts:
            received.clear()
            with Cable(port, cut) as cable, pytest.raises(ResourceError) as caught:
                push_dimse(pushed, Peer("127.0.0.1", cable.port, "ARCHIVE", timeout=5))
            said = str(caught.value)
            assert "cannot be reached" in said or "sending again is safe" in said
            push_dimse(pushed, Peer("127.0.0.1", port, "ARCHIVE", timeout=5))
            assert {path: received[pydicom.dcmread(path).SOPInstanceUID] for path in pushed} == {
                path: pydicom.dcmread(path).PixelData for path in pushed
            }
    finally:
        server.shutdown()
    note("network lost while a bundle goes to a PACS", {"in all": len(cuts)})


def test_a_web_service_that_goes_away(pushed, tmp_path):
    """STOW-RS and DICOMweb queries over a line that breaks: one line each, no traceback, nothing in the spool."""
    from medidistill.ingest.pacs import Query
    from medidistill.ingest.pacs.web import pull_web

    sink = socket.create_server(("127.0.0.1", 0))
    cuts = (1, 100, 1000, 3000)
    for cut in cuts:
        with Cable(sink.getsockname()[1], cut) as cable:
            url = f"http://127.0.0.1:{cable.port}/dicom-web"
            with pytest.raises(ResourceError, match="sending again is safe"):
                push_dicomweb(pushed, url, timeout=2)
            with pytest.raises(IngestError, match="the query failed"):
                pull_web(url, Query(dates="20260101"), Spool(tmp_path / "web"), timeout=2)
    sink.close()
    assert not list(Path(tmp_path / "web").iterdir())
    note("DICOMweb service lost", {"in all": 2 * len(cuts)})


def test_a_receiver_that_dies_and_comes_back(films, tmp_path):
    """The process ends between two films; its successor takes the rest into the same spool."""
    spool = tmp_path / "in"
    with Receiver(Spool(spool), port=0) as receiver:
        assert len(_send(receiver.port, films[:2])) == 2
    (spool / ".half.dcm.x.part").write_bytes(b"half")
    with Receiver(Spool(spool), port=0) as receiver:
        assert len(_send(receiver.port, films)) == len(films)
    whole = [path for path in spool.iterdir() if not path.name.endswith(".part")]
    assert len(whole) == len(films)
    shutil.rmtree(spool)
    note("receiver died and came back", {"in all": 1})
