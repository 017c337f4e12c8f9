"""Bundles that come from outside: what an archive may do, and what it must not."""

from __future__ import annotations

import io
import os
import stat
import zipfile

import pytest

from medidistill.errors import IngestError


@pytest.fixture
def bundles(root):
    from view_models import bundles

    return bundles


def archive(*entries, mode=0o644):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "a\\..\\out.txt", "C:out.txt"])
def test_archive_that_leads_out_is_not_unpacked(bundles, tmp_path, name):
    with pytest.raises(IngestError, match="leads out"):
        bundles.unpack(archive((name, "x")), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "out.txt").exists()


def test_links_and_bombs_are_not_unpacked(bundles, tmp_path):
    with pytest.raises(IngestError, match="a link"):
        bundles.unpack(archive(("link", "/etc/passwd"), mode=stat.S_IFLNK | 0o777), tmp_path / "new")
    with pytest.raises(IngestError, match="unpack to"):
        bundles.unpack(archive(("zeros", bytes(20_000_000))), tmp_path / "new")
    with pytest.raises(IngestError, match="not a readable zip"):
        bundles.unpack(b"PK\x03\x04 nothing of the kind", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_file_given_twice_leaves_nothing_behind(bundles, tmp_path):
    with pytest.raises(IngestError, match="there twice"):
        bundles.unpack(archive(("a", "1"), ("a", "2")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_bundle_travels_whole(bundles, finished, root):
    from view_models.places import Places

    data = bundles.zipped(finished / "bundle")
    assert data == bundles.zipped(finished / "bundle")
    came = bundles.receive(Places.of(), "whatever.zip", data)
    assert came.is_relative_to(root / "received")
    seen = bundles.read_bundle(came)
    assert (seen.problems, seen.error) == ((), "")
    assert seen.digest == bundles.read_bundle(finished / "bundle").digest
    assert len(seen.distilled) == 3
    assert bundles.find_bundles(Places.of()) == [came]


def test_receive_opens_it_and_warns_of_a_changed_one(bundles, finished, root, open_page, text_of):
    from view_models.places import Places

    came = bundles.receive(Places.of(), "b", bundles.zipped(finished / "bundle"))
    test = open_page("receive")
    assert "Complete; sender not confirmed" in text_of(test)
    assert any(one.label == "Train" for one in test.button)
    (came / "distilled.safetensors").write_bytes(os.urandom(100))
    test = open_page("receive")
    assert "not as it was written" in test.error[0].value
    assert not [one for one in test.button if one.label == "Train"]


def test_card_of_others_loads_no_pictures(bundles, finished, root, open_page, text_of):
    from view_models.places import Places

    came = bundles.receive(Places.of(), "b", bundles.zipped(finished / "bundle"))
    (came / "README.md").write_text("![seen](https://example.org/pixel.png)")
    assert "\\![seen]" in text_of(open_page("receive"))
