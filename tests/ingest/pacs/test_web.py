"""DICOMweb against a small server of our own on loopback (Orthanc in `test_orthanc.py`)."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

pytest.importorskip("dicomweb_client")

from medidistill.errors import ConfigError, IngestError
from medidistill.ingest.pacs import Query, Spool
from medidistill.ingest.pacs.web import pull_web


class Service(BaseHTTPRequestHandler):
    films = ()
    broken = ""
    tokens = ()

    def log_message(self, *_):
        pass

    def do_GET(self):  # QIDO-RS and WADO-RS
        parts = urlsplit(self.path)
        keys = {name: values[0] for name, values in parse_qs(parts.query).items()}
        steps = parts.path.strip("/").split("/")
        self.tokens.append(self.headers.get("Authorization", ""))
        if self.broken and self.broken in parts.path:
            self.send_error(500, "PHANTOM^SECRET")
        elif int(keys.get("offset", 0)):
            self.answer(b"[]", "application/dicom+json")
        elif steps[1:] == ["studies"]:
            found = [film for film in self.films if film.AccessionNumber == keys.get("AccessionNumber")]
            self.list([{"0020000D": {"vr": "UI", "Value": [film.StudyInstanceUID]}} for film in found])
        elif len(steps) == 4:
            found = [film for film in self.films if film.StudyInstanceUID == steps[2]]
            self.list(
                [
                    {
                        "0020000E": {"vr": "UI", "Value": [film.SeriesInstanceUID]},
                        "00080060": {"vr": "CS", "Value": [film.Modality]},
                    }
                    for film in found
                ]
            )
        else:
            body = b""
            for film in self.films:
                if film.SeriesInstanceUID == steps[4]:
                    buffer = io.BytesIO()
                    film.save_as(buffer, enforce_file_format=True)
                    body += b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + buffer.getvalue() + b"\r\n"
            self.answer(body + b"--edge--", 'multipart/related; type="application/dicom"; boundary=edge')

    def list(self, values):
        self.answer(json.dumps(values).encode(), "application/dicom+json")

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def service(films):
    handler = type("Handler", (Service,), {"films": films, "broken": "", "tokens": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    yield handler
    server.shutdown()
    server.server_close()


def test_series_of_the_modalities_are_fetched(service, films, tmp_path):
    seen = []
    query = Query(accessions=("PH1", "PH2", "PH3", "NONE"))
    result = pull_web(service.url, query, Spool(tmp_path / "in"), token="abc", on_series=lambda *at: seen.append(at))
    assert (result.series, result.objects, result.failed) == (2, 2, 0)
    stored = [pydicom.dcmread(path) for path in (tmp_path / "in").iterdir()]
    assert {one.SOPInstanceUID for one in stored} == {"2.25.1", "2.25.2"}
    assert {one.PixelData for one in stored} == {film.PixelData for film in films[:2]}
    assert seen == [(1, 2), (2, 2)]
    assert set(service.tokens) == {"Bearer abc"}


def test_a_series_that_fails_is_counted(service, tmp_path):
    service.broken = "2.25.202"
    result = pull_web(service.url, Query(accessions=("PH1", "PH2")), Spool(tmp_path / "in"))
    assert (result.series, result.objects, result.failed) == (2, 1, 1)


def test_a_service_that_fails_is_one_line_without_what_was_asked(service, tmp_path):
    service.broken = "studies"
    with pytest.raises(IngestError, match=r"the query failed \(status 500\)") as caught:
        pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"))
    assert "PH1" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(IngestError, match=r"the query failed \(ConnectionError\)"):
        pull_web("http://127.0.0.1:1/dicom-web", Query(accessions=("PH1",)), Spool(tmp_path / "in"))


def test_a_token_does_not_travel_in_the_clear(tmp_path):
    with pytest.raises(ConfigError, match="use https"):
        pull_web("http://pacs.example.org", Query(accessions=("PH1",)), Spool(tmp_path / "in"), token="abc")
    with pytest.raises(ConfigError, match="https://"):
        pull_web("pacs.example.org", Query(accessions=("PH1",)), Spool(tmp_path / "in"))
