"""DICOMweb against a small server of our own on loopback (Orthanc in `test_orthanc.py`)."""

from __future__ import annotations

import contextlib
import copy
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


def encoded(film):
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


class Service(BaseHTTPRequestHandler):
    films = ()
    broken = ""
    tokens = ()
    filtering = True  # False: answers with all that it holds, whatever the query
    elsewhere = ""  # where it sends all requests on to
    status = 200  # of a series
    parts = None  # of the series, by UID, where they are not its films
    counts = None  # Number of Series Related Instances, by UID
    end = b"--edge--"
    busy = 0  # requests that are still refused

    def log_message(self, *_):
        pass

    def do_GET(self):  # QIDO-RS and WADO-RS
        parts = urlsplit(self.path)
        keys = {name: values[0] for name, values in parse_qs(parts.query).items()}
        steps = parts.path.strip("/").split("/")
        self.tokens.append(self.headers.get("Authorization", ""))
        if self.broken and self.broken in parts.path:
            self.send_error(500, "PHANTOM^SECRET")
        elif self.busy:
            type(self).busy -= 1
            self.send_error(503)
        elif self.elsewhere:
            self.send_response(307)
            self.send_header("Location", self.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif int(keys.get("offset", 0)):
            self.answer(b"[]", "application/dicom+json")
        elif steps[1:] == ["studies"]:
            found = [film for film in self.films if not self.filtering or self.fits(film, keys)]
            self.list(
                {
                    "0020000D": {"vr": "UI", "Value": [film.StudyInstanceUID]},
                    "00080050": {"vr": "SH", "Value": [film.AccessionNumber]},
                    "00080020": {"vr": "DA", "Value": [film.StudyDate]},
                }
                for film in found
            )
        elif len(steps) == 4:
            found = [film for film in self.films if not self.filtering or film.StudyInstanceUID == steps[2]]
            self.list(
                {
                    "0020000D": {"vr": "UI", "Value": [film.StudyInstanceUID]},
                    "0020000E": {"vr": "UI", "Value": [film.SeriesInstanceUID]},
                    "00080060": {"vr": "CS", "Value": [film.Modality]},
                    "00201209": {"vr": "IS", "Value": [(self.counts or {}).get(film.SeriesInstanceUID, 1)]},
                }
                for film in found
            )
        else:
            films = [encoded(film) for film in self.films if film.SeriesInstanceUID == steps[4]]
            body = b"".join(
                b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + part + b"\r\n"
                for part in (self.parts or {}).get(steps[4], films)
            )
            kind = 'multipart/related; type="application/dicom"; boundary=edge'
            self.answer(body + self.end, kind, self.status)

    @staticmethod
    def fits(film, keys):
        first, dash, last = keys.get("StudyDate", "-").partition("-")
        return (
            keys.get("AccessionNumber") in (None, film.AccessionNumber)
            and first <= film.StudyDate
            and (film.StudyDate <= last or (dash and not last) or film.StudyDate == first)
        )

    def list(self, values):
        self.answer(json.dumps(list(values)).encode(), "application/dicom+json")

    def answer(self, body, kind, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving(films):
    handler = type("Handler", (Service,), {"films": films, "tokens": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.port = server.server_port
    handler.url = f"http://127.0.0.1:{server.server_port}/dicom-web"
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def service(films):
    with serving(films) as handler:
        yield handler


def stored(folder):
    return {pydicom.dcmread(path).SOPInstanceUID for path in folder.iterdir()}


def test_series_of_the_modalities_are_fetched(service, films, tmp_path):
    seen = []
    query = Query(accessions=("PH1", "PH2", "PH3", "NONE"))
    result = pull_web(service.url, query, Spool(tmp_path / "in"), token="abc", on_series=lambda *at: seen.append(at))
    assert (result.series, result.objects, result.failed) == (2, 2, 0)
    came = [pydicom.dcmread(path) for path in (tmp_path / "in").iterdir()]
    assert {one.SOPInstanceUID for one in came} == {"2.25.1", "2.25.2"}
    assert {one.PixelData for one in came} == {film.PixelData for film in films[:2]}
    assert seen == [(1, 2), (2, 2)]
    assert set(service.tokens) == {"Bearer abc"}


def test_a_series_that_fails_is_counted(service, tmp_path):
    service.broken = "2.25.202"
    result = pull_web(service.url, Query(accessions=("PH1", "PH2")), Spool(tmp_path / "in"))
    assert (result.series, result.objects, result.failed) == (2, 1, 1)


def test_a_service_that_is_busy_is_asked_again(service, tmp_path):
    service.busy = 2
    assert pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in")).objects == 1
    service.busy = 3
    with pytest.raises(IngestError, match=r"status 503"):
        pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"))


def test_a_service_that_fails_is_one_line_without_what_was_asked(service, tmp_path):
    service.broken = "studies"
    with pytest.raises(IngestError, match=r"the query failed \(status 500\)") as caught:
        pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"))
    assert "PH1" not in str(caught.value)
    assert "SECRET" not in str(caught.value)
    with pytest.raises(IngestError, match=r"the query failed \(ConnectionError\)"):
        pull_web("http://127.0.0.1:1/dicom-web", Query(accessions=("PH1",)), Spool(tmp_path / "in"))


@pytest.mark.parametrize(
    "url",
    [
        "http://pacs.example.org",
        "HTTP://pacs.example.org/dicom-web",
        "http://localhost.pacs.example.org/dicom-web",
        "http://127.0.0.1.example.org/dicom-web",
        "http://localhost-pacs.example.org:8042",
    ],
)
def test_a_token_does_not_travel_in_the_clear(tmp_path, url):
    with pytest.raises(ConfigError, match="use https"):
        pull_web(url, Query(accessions=("PH1",)), Spool(tmp_path / "in"), token="abc")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("pacs.example.org", "https://"),
        ("ftp://pacs.example.org", "https://"),
        ("https://", "https://"),
        ("http://[::1/dicom-web", "https://"),
        ("https://pacs.example.org:port/", "https://"),
        ("http://localhost@pacs.example.org/dicom-web", "no user name"),
        ("https://dr:SECRET@pacs.example.org/dicom-web", "no user name"),
        ("dr:SECRET@pacs.example.org", "https://"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(tmp_path, url, reason):
    for token in ("", "abc"):
        with pytest.raises(ConfigError, match=reason) as caught:
            pull_web(url, Query(accessions=("PH1",)), Spool(tmp_path / "in"), token=token)
        assert "SECRET" not in str(caught.value)


def test_a_token_goes_to_this_machine_by_its_name(service, tmp_path):
    url = f"http://LOCALHOST:{service.port}/dicom-web"
    assert pull_web(url, Query(accessions=("PH1",)), Spool(tmp_path / "in"), token="abc").objects == 1
    assert set(service.tokens) == {"Bearer abc"}


def test_a_token_does_not_follow_to_another_host(service, films, tmp_path):
    with serving(films) as other:
        service.elsewhere = f"http://localhost:{other.port}"
        result = pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"), token="abc")
        assert result.objects == 1
        assert set(service.tokens) == {"Bearer abc"}
        assert set(other.tokens) == {""}


def test_a_token_for_this_machine_goes_through_no_proxy(service, films, tmp_path, monkeypatch):
    with serving(films) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"), token="abc")
        assert proxy.tokens == []


@pytest.fixture
def three_in_one(service, films):
    """Three objects in the first series; returns how they are sent."""
    found = []
    for number in (11, 12, 13):
        film = copy.deepcopy(films[0])
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = f"2.25.{number}"
        found.append(encoded(film))
    service.parts, service.counts = {films[0].SeriesInstanceUID: found}, {films[0].SeriesInstanceUID: 3}
    return found


def test_objects_are_kept_byte_for_byte(service, three_in_one, tmp_path):
    # pydicom would leave out a group length, and bytes behind the pixels
    at = three_in_one[1].index(b"\x08\0\x16\0UI")
    three_in_one[1] = three_in_one[1][:at] + b"\x08\0\0\0UL\4\0\7\0\0\0" + three_in_one[1][at:]
    three_in_one[2] += b"\r\n--edg"
    result = pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"))
    assert (result.series, result.objects, result.failed) == (1, 3, 0)
    assert {path.read_bytes() for path in (tmp_path / "in").iterdir()} == set(three_in_one)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_parts_are_found_however_they_arrive(service, three_in_one, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("medidistill.ingest.pacs.web._CHUNK", chunk)
    result = pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"))
    assert (result.objects, result.failed) == (3, 0)
    assert {path.read_bytes() for path in (tmp_path / "in").iterdir()} == set(three_in_one)


def no_uid(part):
    return part.replace(b"\x08\0\x18\0UI", b"\x08\0\x17\0UI")


@pytest.mark.parametrize(
    "damage", [lambda part: bytes(300), lambda part: part[:140], lambda part: b"", lambda part: b"\xff" * 9, no_uid]
)
def test_a_part_that_is_no_object_costs_neither_the_next_one_nor_the_next_series(
    service, three_in_one, tmp_path, damage
):
    three_in_one[1] = damage(three_in_one[1])
    result = pull_web(service.url, Query(accessions=("PH1", "PH2")), Spool(tmp_path / "in"))
    assert (result.series, result.objects, result.failed) == (2, 3, 1)
    assert stored(tmp_path / "in") == {"2.25.11", "2.25.13", "2.25.2"}


@pytest.mark.parametrize("lack", ["206", "fewer than counted", "one twice", "no end", "none"])
def test_a_series_that_is_not_whole_has_failed(service, films, three_in_one, tmp_path, lack):
    series, count = films[0].SeriesInstanceUID, 3
    if lack == "206":
        service.status = 206
        service.films = films[:1]
    elif lack == "fewer than counted":
        del three_in_one[2]
        count = 2
    elif lack == "one twice":
        three_in_one[2] = three_in_one[1]
    elif lack == "no end":
        service.counts, service.films = {series: 0}, films[:1]
        service.end, count = b"", 2
    else:
        service.parts, service.counts, count = {series: []}, {series: None}, 0
    result = pull_web(service.url, Query(accessions=("PH1", "PH2")), Spool(tmp_path / "in"))
    both = len(service.films) > 1
    assert (result.series, result.objects, result.failed) == (1 + both, count + both, 1)


def test_studies_that_are_not_what_was_asked_for_are_not_fetched(service, tmp_path):
    service.filtering = False
    result = pull_web(service.url, Query(accessions=("PH2",)), Spool(tmp_path / "a"))
    assert (result.series, result.objects, result.other) == (1, 1, 2)
    assert stored(tmp_path / "a") == {"2.25.2"}
    result = pull_web(service.url, Query(dates="20260102-"), Spool(tmp_path / "b"))
    assert stored(tmp_path / "b") == {"2.25.2"}
    with pytest.raises(
        IngestError, match=r"other studies alone \(3\): none has.*\(0008,0050\) Accession Number"
    ) as caught:
        pull_web(service.url, Query(accessions=("WANTED",)), Spool(tmp_path / "c"))
    assert "WANTED" not in str(caught.value)
    assert not list((tmp_path / "c").iterdir())


def test_an_answer_of_another_form_is_one_line(service, tmp_path):
    for answer in (b"[1]", b'[{"0020000D": 7, "00080050": {"Value": "PH1"}}]', b'"PHANTOM"', b"{"):
        service.list = lambda self, values, answer=answer: self.answer(answer, "application/dicom+json")
        with pytest.raises(IngestError):
            pull_web(service.url, Query(accessions=("PH1",)), Spool(tmp_path / "in"))
