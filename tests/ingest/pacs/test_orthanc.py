"""The same against Orthanc, where it is installed (`apt-get install orthanc orthanc-dicomweb`)."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("dicomweb_client")

from medidistill.errors import IngestError
from medidistill.ingest.pacs import Query, Spool
from medidistill.ingest.pacs.pull import Peer, pull
from medidistill.ingest.pacs.receive import Receiver
from medidistill.ingest.pacs.web import pull_web
from medidistill.tls import Tls

pytestmark = pytest.mark.slow

PROGRAM = shutil.which("Orthanc")
PLUGIN = next(Path("/usr").glob("**/libOrthancDicomWeb.so"), None) if PROGRAM else None


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def ports():
    return {"dicom": free_port(), "http": free_port(), "ours": free_port()}


@pytest.fixture(scope="module", params=["in the clear", "by TLS"])
def orthanc(tmp_path_factory, ports, certificates, request):
    """Runs Orthanc; gives what its peers need for TLS."""
    if PROGRAM is None:
        pytest.skip("Orthanc is not installed")
    ours = Tls(certificates / "ours-ca.pem", certificates / "ours.pem", certificates / "ours.key")
    closed = request.param == "by TLS"
    folder = tmp_path_factory.mktemp("orthanc")
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": "ORTHANC",
        "DicomPort": ports["dicom"],
        "HttpPort": ports["http"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)] if PLUGIN else [],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomModalities": {
            "us": {"AET": "MEDIDISTILL", "Host": "127.0.0.1", "Port": ports["ours"], "UseDicomTls": closed}
        },
        "DicomTlsEnabled": closed,
        "DicomTlsTrustedCertificates": str(ours.authority),
        "DicomTlsCertificate": str(ours.certificate),
        "DicomTlsPrivateKey": str(ours.key),
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{ports['http']}/system", timeout=5)
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
        yield ours if closed else Tls()
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def filled(orthanc, ports, films, send):
    sent = send(ports["dicom"], films[:2], called="ORTHANC", calling="MEDIDISTILL", tls=orthanc.client())
    assert sent == [0x0000, 0x0000]
    return films[:2]


def test_by_find_and_move(filled, orthanc, ports, tmp_path):
    with Receiver(Spool(tmp_path / "in"), port=ports["ours"], tls=orthanc) as receiver:
        result = pull(Peer("127.0.0.1", ports["dicom"], "ORTHANC", orthanc), Query(dates="20260101-20260131"), receiver)
    assert (result.series, result.objects, result.failed) == (2, 2, 0)
    pixels = {pydicom.dcmread(path).PixelData for path in (tmp_path / "in").iterdir()}
    assert pixels == {film.PixelData for film in filled}


@pytest.mark.skipif(PLUGIN is None, reason="the DICOMweb plugin of Orthanc is not installed")
def test_by_dicomweb(filled, ports, tmp_path):
    url = f"http://127.0.0.1:{ports['http']}/dicom-web"
    result = pull_web(url, Query(accessions=("PH2",)), Spool(tmp_path / "in"))
    assert (result.series, result.objects, result.failed) == (1, 1, 0)
    (path,) = (tmp_path / "in").iterdir()
    assert pydicom.dcmread(path).PixelData == filled[1].PixelData
    with pytest.raises(IngestError, match="status 404"):
        pull_web(url + "/nothing", Query(accessions=("PH2",)), Spool(tmp_path / "in"))
