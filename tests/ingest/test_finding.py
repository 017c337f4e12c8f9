"""No scan leaves its folder, hangs on what is no file, or ends on a name."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from medidistill.errors import IngestError, one_line
from medidistill.ingest.file_discovery import (
    EntryKind,
    inside,
    is_left_behind,
    list_folder,
    relative_name,
    scan_folder,
)

LEADS_OUT = "a symbolic link that leads out of the input folder (see ingest.follow_links)"


@pytest.fixture
def folder(tmp_path):
    """A folder with one file, and beside it one that no scan may reach."""
    (tmp_path / "in/real").mkdir(parents=True)
    (tmp_path / "in/real/1").write_bytes(b"x")
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/deep/secret").write_bytes(b"x")
    return tmp_path / "in"


def seen(folder, **options):
    listing = scan_folder(folder, **options)
    files = [path.relative_to(folder).as_posix() for path in listing.files]
    return files, {relative_name(one.path, folder): one.reason for one in listing.refused}


LINKS = {
    "absolute to a folder": lambda f: (f / "link").symlink_to(f.parent / "outside"),
    "relative to a folder": lambda f: (f / "link").symlink_to("../outside"),
    "to a file": lambda f: (f / "link").symlink_to("../outside/deep/secret"),
    "to the parent": lambda f: (f / "link").symlink_to(".."),
    "to the root of the file system": lambda f: (f / "link").symlink_to("/"),
    "to nothing outside": lambda f: (f / "link").symlink_to("/nonexistent/x.dcm"),
    "to a process": lambda f: (f / "link").symlink_to("/proc/self/fd/0"),
    "to a link that leads out": lambda f: (
        (f / "link").symlink_to("second"),
        (f / "second").symlink_to("../outside/deep"),
    ),
    "into a folder and out of it": lambda f: (f / "link").symlink_to("real/../../outside"),
    "to a folder with the same beginning": lambda f: (
        (f.parent / "in-too").mkdir(),
        (f / "link").symlink_to("../in-too"),
    ),
}


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_link_that_leads_out_is_refused_and_not_entered(folder, make):
    make(folder)
    files, refused = seen(folder)
    assert files == ["real/1"]
    assert set(refused.values()) == {LEADS_OUT}
    assert "link" in refused


def test_link_below_a_linked_folder_is_judged_too(folder):
    (folder / "real/way-out").symlink_to("../../outside")
    (folder / "again").symlink_to("real")
    assert seen(folder) == (["real/1"], {"real/way-out": LEADS_OUT})


def test_link_may_lead_into_an_allowed_folder_and_no_further(folder):
    (folder / "link").symlink_to("../outside/deep")
    (folder.parent / "outside/deep/further").symlink_to("/etc")
    (folder / "other").symlink_to("/usr")
    files, refused = seen(folder, allowed=[str(folder.parent / "outside/deep")])
    assert files == ["link/secret", "real/1"]
    assert refused == {"link/further": LEADS_OUT, "other": LEADS_OUT}


def test_link_inside_the_folder_is_followed_once(folder):
    (folder / "file-link").symlink_to("real/1")
    (folder / "a-folder-link").symlink_to("real")
    (folder / "real/back").symlink_to("..")
    assert seen(folder) == (["file-link", "real/1"], {})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: (f / "self").symlink_to("self"), "a symbolic link that leads to itself"),
        (
            lambda f: ((f / "self").symlink_to("b"), (f / "b").symlink_to("self")),
            "a symbolic link that leads to itself",
        ),
        (lambda f: (f / "self").symlink_to("real/none"), "a symbolic link to nothing"),
        (lambda f: os.mkfifo(f / "self"), "not a regular file (a named pipe)"),
        (lambda f: (os.mkfifo(f / "real/p"), (f / "self").symlink_to("real/p")), "not a regular file (a named pipe)"),
        (lambda f: socket.socket(socket.AF_UNIX).bind(str(f / "self")), "not a regular file (a socket)"),
    ],
    ids=["link to itself", "links in a circle", "link to nothing", "pipe", "link to a pipe", "socket"],
)
def test_what_is_no_file_is_refused_with_its_kind(folder, make, reason, monkeypatch):
    monkeypatch.chdir(folder)  # the path of a socket is short
    make(Path())
    files, refused = seen(folder)
    assert files == ["real/1"]
    assert refused["self"] == reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_device_is_refused(folder):
    try:
        os.mknod(folder / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    assert seen(folder)[1] == {"null": "not a regular file (a device)"}


def test_names_that_are_not_utf8_are_refused_by_an_escaped_name(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/M\xfcller.dcm")).write_bytes(b"x")
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/unauff\xe4llig"))
    strange.mkdir()
    (strange / "2").write_bytes(b"x")
    files, refused = seen(folder)
    assert files == ["real/1"]
    assert refused == {
        "M\\xfcller.dcm": "its name is not valid UTF-8: rename it",
        "unauff\\xe4llig/2": "the name of its folder is not valid UTF-8: rename the folder",
    }


def test_names_with_control_characters_are_files_and_take_one_line_in_messages(folder):
    (folder / "a\nb\x1b[31m").write_bytes(b"x")
    files, refused = seen(folder)
    assert (files, refused) == (["a\nb\x1b[31m", "real/1"], {})
    assert one_line(files[0]) == "a\\nb\\x1b[31m"


def test_what_systems_leave_behind_is_skipped_on_request(folder):
    for name in ("Thumbs.db", "ehthumbs.db", "desktop.ini", "._1", ".DS_Store", "~$labels.xlsx", "Icon\r"):
        (folder / name).write_bytes(b"x")
    for name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"):
        (folder / name).mkdir()
        (folder / name / "2").write_bytes(b"x")
    assert seen(folder, skip_system=True) == (["real/1"], {})
    assert len(seen(folder)[0]) == 13
    assert not is_left_behind("thumbs.db.png")


def test_very_deep_folders_end_in_a_reason_and_not_in_the_limit_of_recursion():
    folder = Path(tempfile.mkdtemp())  # pytest's own clean-up would end at that limit
    try:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(2500):  # longer than any path may be: made by steps
            os.mkdir("dd", dir_fd=here)
            below = os.open("dd", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        files, refused = seen(folder)
        assert files == []
        assert list(refused.values()) == ["the folder cannot be listed (File name too long)"]
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


@contextlib.contextmanager
def unprivileged():
    """Go on as a user who is not root; root reads everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folder_that_cannot_be_listed_is_refused():
    top = Path(tempfile.mkdtemp())
    try:
        top.chmod(0o755)
        (top / "closed").mkdir(mode=0o700)
        (top / "1").write_bytes(b"x")
        if os.geteuid() != 0:
            (top / "closed").chmod(0)
        with unprivileged():
            assert seen(top) == (["1"], {"closed": "the folder cannot be listed (Permission denied)"})
    finally:
        (top / "closed").chmod(0o700)
        shutil.rmtree(top)


@pytest.mark.parametrize("path", ["../outside", "real/../../outside", "/etc", "../in-too", ""])
def test_inside_refuses_what_lies_outside_by_its_letters(folder, path):
    if not path:
        assert inside(folder, folder / path) == folder.resolve()
        return
    with pytest.raises(IngestError, match="outside the input folder"):
        inside(folder, folder / path)


def test_list_folder_tells_kinds(folder):
    (folder / "out").symlink_to("..")
    (folder / "file").write_bytes(b"")
    kinds = {entry.path.name: (entry.kind, entry.link) for entry in list_folder(folder, folder)}
    assert kinds == {
        "real": (EntryKind.FOLDER, False),
        "file": (EntryKind.FILE, False),
        "out": (EntryKind.REFUSED, True),
    }


def test_an_input_that_is_itself_a_link_is_its_folder_and_no_way_out(folder):
    (folder / "out").symlink_to(folder.parent)
    (folder / "back").symlink_to(folder / "real")
    link = folder.parent / "input"
    link.symlink_to(folder)
    listing = scan_folder(link)
    assert [relative_name(path, link) for path in listing.files] == ["real/1"]
    assert {relative_name(one.path, link): one.reason for one in listing.refused} == {"out": LEADS_OUT}
