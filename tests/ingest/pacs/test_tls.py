"""DIMSE by TLS on loopback: only who shows the right certificate sends, and nothing falls back to the clear."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

pytest.importorskip("pynetdicom")

from medidistill.cli import main
from medidistill.errors import ConfigError, IngestError
from medidistill.ingest.pacs import Query, Spool
from medidistill.ingest.pacs.pull import Peer, pull
from medidistill.ingest.pacs.receive import Receiver
from medidistill.tls import Tls

DCMTK = Path("/usr/bin/storescu")


def tls(folder, authority="ours", certificate="ours"):
    return Tls(
        folder / f"{authority}-ca.pem" if authority else None,
        folder / f"{certificate}.pem" if certificate else None,
        folder / f"{certificate}.key" if certificate else None,
    )


@pytest.fixture
def receiver(tmp_path, certificates):
    with Receiver(Spool(tmp_path / "in"), port=0, tls=tls(certificates)) as one:
        yield one


def test_a_caller_shows_a_certificate_and_is_shown_one(receiver, send, films, certificates):
    assert send(receiver.port, films[:1], tls=tls(certificates).client()) == [0x0000]
    for caller in (tls(certificates, "other"), tls(certificates, "ours", ""), tls(certificates, "ours", "other")):
        assert send(receiver.port, films[1:2], tls=caller.client()) is None
    assert send(receiver.port, films[1:2]) is None  # in the clear
    (path,) = receiver.spool.folder.iterdir()
    assert pydicom.dcmread(path).PixelData == films[0].PixelData


def test_without_an_authority_any_caller_is_taken(tmp_path, send, films, certificates):
    with Receiver(Spool(tmp_path / "in"), port=0, tls=tls(certificates, "")) as one:
        assert send(one.port, films[:1], tls=tls(certificates, "ours", "").client()) == [0x0000]
        assert send(one.port, films[:1]) is None


@pytest.mark.skipif(not DCMTK.is_file(), reason="DCMTK is not installed (Debian: dcmtk)")
def test_dcmtk_sends(receiver, films, certificates, tmp_path):
    films[0].save_as(tmp_path / "film.dcm", enforce_file_format=True)
    ours = [certificates / "ours.key", certificates / "ours.pem", "--add-cert-file", certificates / "ours-ca.pem"]
    call = ["--call", "MEDIDISTILL", "127.0.0.1", receiver.port, tmp_path / "film.dcm"]
    done = subprocess.run([*map(str, [DCMTK, "--enable-tls", *ours, *call])], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert receiver.spool.count == 1
    shutil.rmtree(tmp_path / "in")


def test_query_and_images_go_by_tls(receiver, closed_archive, certificates):
    closed_archive.destination = ("127.0.0.1", receiver.port)
    peer = Peer("127.0.0.1", closed_archive.port, "ARCHIVE", tls(certificates))
    result = pull(peer, Query(dates="20260101-20260131"), receiver)
    assert (result.series, result.objects, result.failed) == (2, 2, 0)
    for other in (Tls(), tls(certificates, "other"), tls(certificates, "ours", "")):
        with pytest.raises(IngestError, match="no answer"):
            pull(Peer("127.0.0.1", closed_archive.port, "ARCHIVE", other), Query(dates="20260101"), receiver)


def test_half_a_configuration_is_refused_before_anything_is_sent(tmp_path, certificates, capsys):
    peer = ["--peer", "127.0.0.1:9", "--dates", "20260101", "--quiet", "--port", "0"]
    ours, key = str(certificates / "ours.pem"), str(certificates / "ours.key")
    authority = str(certificates / "ours-ca.pem")
    for command, said in (
        (["pull", *peer, "--tls-ca", authority], "needs a certificate to show as well, --tls-cert"),
        (["pull", *peer, "--tls-cert", ours, "--tls-key", key], "--tls-ca"),
        (["receive", "--tls-ca", authority], "--tls-cert"),
        (["receive", "--tls-key", key], "--tls-cert"),
        (["receive", "--tls-cert", ours], "no certificate with its key"),
        (["receive", "--tls-cert", ours, "--tls-key", str(certificates / "other.key")], "no certificate with its key"),
    ):
        assert main([command[0], str(tmp_path / "in"), *command[1:]]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    with pytest.raises(ConfigError, match="no PEM file of certificates"):
        Tls(certificates / "names").client()
    with pytest.raises(ConfigError, match="--tls-ca"):
        Tls(tmp_path / "nowhere").client()


def test_a_key_with_a_password_does_not_ask_for_it(certificates, tmp_path):
    closed = tmp_path / "closed.key"
    subprocess.run(
        ["openssl", "pkey", "-in", certificates / "ours.key", "-aes256", "-passout", "pass:x", "-out", closed],
        check=True,
    )
    with pytest.raises(ConfigError, match="without a password"):
        Tls(None, certificates / "ours.pem", closed).server()
