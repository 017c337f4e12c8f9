"""Objects arrive whole, closed and unnamed; peers that refuse, fail or are not there end in one line."""

from __future__ import annotations

import contextlib
import shutil
import socket
import stat
import threading
import time

import pydicom
import pytest

pytest.importorskip("pynetdicom")

from medidistill.cli import main
from medidistill.errors import ConfigError, IngestError, ResourceError
from medidistill.ingest.pacs import Query, Spool
from medidistill.ingest.pacs.pull import Peer, pull
from medidistill.ingest.pacs.query import answers, read_accessions
from medidistill.ingest.pacs.receive import Receiver
from tests.support.threads import assert_threads_end

from .conftest import running


@pytest.fixture
def receiver(tmp_path):
    with Receiver(Spool(tmp_path / "incoming"), port=0) as one:
        yield one


def files(receiver):
    return sorted(receiver.spool.folder.iterdir())


def test_what_is_sent_lies_there_before_the_sender_hears_of_it(receiver, send, films):
    assert send(receiver.port, films[:2]) == [0x0000, 0x0000]
    paths = files(receiver)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
    assert stat.S_IMODE(receiver.spool.folder.stat().st_mode) == 0o700
    assert {pydicom.dcmread(path).SOPInstanceUID for path in paths} == {film.SOPInstanceUID for film in films[:2]}
    assert all(pydicom.dcmread(path).PixelData in {film.PixelData for film in films} for path in paths)
    assert not any("2.25" in path.name or "PHANTOM" in path.name for path in paths)


def test_the_same_object_twice_is_one_file(receiver, send, films):
    assert send(receiver.port, [films[0], films[0]]) == [0x0000, 0x0000]
    assert len(files(receiver)) == 1


def test_only_our_title_and_named_callers_are_answered(tmp_path, send, films):
    with Receiver(Spool(tmp_path / "in"), port=0, callers=["PACS"]) as one:
        assert send(one.port, films[:1], called="OTHER", calling="PACS") is None
        assert send(one.port, films[:1], calling="STRANGER") is None
        assert send(one.port, films[:1], calling="PACS") == [0x0000]


def test_a_folder_that_goes_away_is_out_of_resources_and_not_the_end(receiver, send, films):
    shutil.rmtree(receiver.spool.folder)
    receiver.spool.folder.write_bytes(b"")
    assert send(receiver.port, films[:1]) in ([0xA700], [0xC000])
    receiver.spool.folder.unlink()
    receiver.spool.folder.mkdir()
    assert send(receiver.port, films[:1]) == [0x0000]


def test_a_full_disk_is_said_to_the_sender(receiver, send, films, monkeypatch):
    monkeypatch.setattr("medidistill.ingest.pacs.spool._RESERVE", 1 << 62)
    assert send(receiver.port, films[:1]) == [0xA700]
    assert "nearly full" in receiver.failed
    assert files(receiver) == []


def test_a_peer_that_went_without_a_word_keeps_no_thread(tmp_path):
    before = set(threading.enumerate())
    with contextlib.ExitStack() as peer:
        with Receiver(Spool(tmp_path / "in"), port=0) as one:
            peer.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            until = time.monotonic() + 60
            while not one._server.active_associations:
                assert time.monotonic() < until
                time.sleep(0.01)
        # its own timeout is 30 seconds, and a thread that is no daemon would hold the end of the process as long
        assert_threads_end(before)


def test_a_peer_that_falls_silent_within_a_message_is_dropped_and_others_are_served(tmp_path, send, films):
    before = set(threading.enumerate())
    with Receiver(Spool(tmp_path / "in"), port=0, silence=0.5) as one:
        with socket.create_connection(("127.0.0.1", one.port)) as peer:
            peer.settimeout(30)
            peer.sendall(b"\x01\x00\x00\x00\x01\x00" + bytes(10))  # an A-ASSOCIATE-RQ of 256 bytes, begun
            assert send(one.port, films[:1]) == [0x0000]
            assert peer.recv(1) == b""  # the receiver has closed the connection
        assert_threads_end(before)


def test_a_port_in_use_is_one_line(receiver, tmp_path):
    with pytest.raises(ResourceError, match="cannot listen"), Receiver(Spool(tmp_path / "b"), port=receiver.port):
        pass


@pytest.mark.parametrize(
    ("query", "uids"),
    [
        (Query(dates="20260101-20260131"), {"2.25.1", "2.25.2"}),
        (Query(dates="20260101"), {"2.25.1"}),
        (Query(accessions=("PH2", "PH3")), {"2.25.2"}),
        (Query(dates="20260101-20260131", modalities=("CR",)), {"2.25.2"}),
        (Query(accessions=("NONE",)), set()),
    ],
)
def test_find_and_move(receiver, archive, query, uids):
    archive.destination = ("127.0.0.1", receiver.port)
    seen = []
    result = pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), query, receiver, lambda *at: seen.append(at))
    assert {pydicom.dcmread(path).SOPInstanceUID for path in files(receiver)} == uids
    assert (result.series, result.objects, result.failed) == (len(uids), len(uids), 0)
    assert seen == [(n + 1, len(uids)) for n in range(len(uids))]


@pytest.mark.parametrize("failed", [0, 1])
def test_a_success_with_failed_sub_operations_is_none(receiver, archive, failed):
    archive.destination = ("127.0.0.1", receiver.port)
    archive.final = {"Status": 0x0000, "NumberOfFailedSuboperations": failed}
    result = pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), Query(dates="20260101"), receiver)
    assert (result.series, result.objects, result.failed) == (1, 1, failed)


@pytest.mark.parametrize(("count", "failed"), [(None, 0), (1, 0), (2, 1)])
def test_a_series_of_which_less_came_than_the_archive_counts_has_failed(receiver, archive, count, failed):
    archive.destination = ("127.0.0.1", receiver.port)
    archive.counts = {"2.25.201": count}
    result = pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), Query(dates="20260101-20260102"), receiver)
    assert (result.series, result.objects, result.failed) == (2, 2, failed)


def test_a_success_after_which_nothing_came_is_none(receiver, archive):
    archive.final = {"Status": 0x0000, "NumberOfFailedSuboperations": 0}
    result = pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), Query(dates="20260101"), receiver)
    assert (result.series, result.objects, result.failed) == (1, 0, 1)


def test_an_archive_that_takes_no_move_fails_every_series(receiver, films):
    with running(films, moves=False) as archive:
        result = pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), Query(dates="20260101-20260102"), receiver)
    assert (result.series, result.objects, result.failed) == (2, 0, 2)


def test_studies_that_are_not_what_was_asked_for_are_not_fetched(receiver, archive):
    archive.destination, archive.filtering = ("127.0.0.1", receiver.port), False
    peer = Peer("127.0.0.1", archive.port, "ARCHIVE")
    with pytest.raises(IngestError, match=r"PACS ARCHIVE: answered with other studies alone \(3\): none has") as caught:
        pull(peer, Query(accessions=("WANTED",)), receiver)
    assert "WANTED" not in str(caught.value)
    assert files(receiver) == []
    result = pull(peer, Query(accessions=("PH1", "PH2"), dates="-20260101"), receiver)
    assert (result.series, result.objects, result.failed, result.other) == (1, 1, 0, 5)
    assert [pydicom.dcmread(path).SOPInstanceUID for path in files(receiver)] == ["2.25.1"]


@pytest.mark.parametrize(
    ("keys", "accession", "date", "fits"),
    [
        ({"AccessionNumber": "PH1"}, "PH1", "", True),
        ({"AccessionNumber": "PH1"}, " PH1 ", "20200101", True),
        ({"AccessionNumber": "PH1"}, "PH10", "", False),
        ({"AccessionNumber": "PH1"}, "", "", False),
        ({"AccessionNumber": "P.1"}, "PH1", "", False),
        ({"AccessionNumber": "PH*"}, "PH10", "", True),
        ({"AccessionNumber": "PH?"}, "PH1", "", True),
        ({"AccessionNumber": "PH?"}, "PH10", "", False),
        ({"AccessionNumber": "*1"}, "PH10", "", False),
        ({"StudyDate": "20260102"}, "", "20260102", True),
        ({"StudyDate": "20260102"}, "", "2026.01.02", True),  # as before 1993 (PS3.5 6.2)
        ({"StudyDate": "20260102"}, "", "20260103", False),
        ({"StudyDate": "20260102"}, "", "", False),
        ({"StudyDate": "20260102"}, "", "2026010", False),
        ({"StudyDate": "20260102-20260104"}, "", "20260104", True),
        ({"StudyDate": "20260102-20260104"}, "", "20260101", False),
        ({"StudyDate": "20260102-20260104"}, "", "20260105", False),
        ({"StudyDate": "20260102-"}, "", "20991231", True),
        ({"StudyDate": "20260102-"}, "", "20260101", False),
        ({"StudyDate": "-20260102"}, "", "19000101", True),
        ({"StudyDate": "-20260102"}, "", "20260103", False),
        ({"StudyDate": "20260102", "AccessionNumber": "PH1"}, "PH1", "20260103", False),
        ({"StudyDate": "20260102", "AccessionNumber": "PH1"}, "PH2", "20260102", False),
    ],
)
def test_which_studies_fit_a_query(keys, accession, date, fits):
    assert answers(keys, accession, date) is fits


def test_an_archive_that_does_not_know_us_is_counted(receiver, archive):
    result = pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), Query(dates="20260101"), receiver)
    assert (result.series, result.objects, result.failed) == (1, 0, 1)


def test_an_archive_that_fails_or_is_not_there_is_one_line(receiver, archive):
    archive.fail = True
    with pytest.raises(IngestError, match=r"PACS ARCHIVE: the query failed \(status 0xC001\)"):
        pull(Peer("127.0.0.1", archive.port, "ARCHIVE"), Query(dates="20260101"), receiver)
    with pytest.raises(IngestError, match=r"no association \(no answer\)"):
        pull(Peer("127.0.0.1", 1, "ARCHIVE"), Query(dates="20260101"), receiver)


def test_a_query_for_everything_is_refused():
    with pytest.raises(ConfigError, match="the whole archive"):
        Query()
    with pytest.raises(ConfigError, match="must look like"):
        Query(dates="2026-01-01")
    with pytest.raises(ConfigError, match="must look like"):
        Peer.parse("pacs", "A")


def test_accession_numbers_of_a_table(tmp_path):
    (tmp_path / "a.csv").write_text("Accession_Number,label\nPH1,x\nPH2,y\nPH1,x\n,z\n")
    assert read_accessions(tmp_path / "a.csv") == ("PH1", "PH2")
    (tmp_path / "a.csv").write_text("accession_number\nPH1\nPH*\n")
    with pytest.raises(IngestError, match="line 3"):
        read_accessions(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("accession\nPH1\n")
    with pytest.raises(IngestError, match="did you mean 'accession'"):
        read_accessions(tmp_path / "a.csv")


def test_the_commands(tmp_path, archive, send, films, capsys):
    codes = []
    command = ["receive", str(tmp_path / "in"), "--port", "11189", "--count", "2", "--quiet"]
    thread = threading.Thread(target=lambda: codes.append(main(command)))
    thread.start()
    for _ in range(100):
        if send(11189, films[:2]) is not None:
            break
        time.sleep(0.1)
    thread.join(30)
    assert codes == [0]
    assert "received: 2 objects" in capsys.readouterr().out
    archive.destination = ("127.0.0.1", 11190)
    peer = ["--peer", f"127.0.0.1:{archive.port}", "--peer-ae", "ARCHIVE", "--port", "11190", "--quiet"]
    assert main(["pull", str(tmp_path / "new"), *peer, "--dates", "20260101-20260131"]) == 0
    assert "received: 2 objects of 2 series" in capsys.readouterr().out
    assert main(["pull", str(tmp_path / "new"), *peer, "--dates", "20200101"]) == 3
    assert "found no series" in capsys.readouterr().err
